"""Many kills under load: `python -m tests.soak`, with the embedded servers or those that the tests use.

Prints every kill to stderr and a summary as JSON to stdout; ends with 1 if anything was lost, counted twice or
changed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path

from streams.settings import KafkaSettings, RedisSettings
from streams.stack import EmbeddedStack
from streams.topics import create_topics
from tests.faults.kills import play
from tests.faults.timing import BATCH, soon_noticed
from tests.processes import Deployment
from tests.servers import unique_names


@contextmanager
def servers() -> Iterator[tuple[KafkaSettings, RedisSettings]]:
    """Those that the environment names, as for the tests, and embedded ones for the rest."""
    brokers, url = os.environ.get("STREAMREC_TEST_BROKERS"), os.environ.get("STREAMREC_TEST_REDIS")
    with ExitStack() as stack:
        embedded = None if brokers and url else stack.enter_context(EmbeddedStack())
        kafka = KafkaSettings(brokers=brokers) if brokers or not embedded else embedded.kafka
        redis = RedisSettings(url=url) if url or not embedded else embedded.redis
        yield kafka.model_copy(update={"partitions": 4}), redis


def main() -> int:
    """Play the kills."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=100, metavar="N", help="how often a worker is killed (100)")
    parser.add_argument("--seed", type=int, default=0, help="of the moments and the victims (0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the summary there, too")
    args = parser.parse_args()

    def say(line: str) -> None:
        print(time.strftime("%H:%M:%S"), line, file=sys.stderr, flush=True)

    with tempfile.TemporaryDirectory(prefix="streamrec-soak-") as directory, servers() as (broker, redis_server):
        kafka = soon_noticed(unique_names(broker))
        create_topics(kafka)
        redis = redis_server.model_copy(update={"key_prefix": f"{kafka.group_id}:"})
        # What its last workers said is for people.
        with redirect_stdout(sys.stderr), Deployment(kafka, redis, Path(directory), worker=BATCH) as deployment:
            summary, problems = play(deployment, deployment.serve(), args.kills, seed=args.seed, progress=say)
    for problem in problems:
        say(problem)
    text = json.dumps(asdict(summary), indent=2)
    print(text)
    if args.json:
        args.json.write_text(text + "\n")
    return 0 if summary.exact else 1


if __name__ == "__main__":
    sys.exit(main())
