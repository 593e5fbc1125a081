"""The same recommender as a Quix Streams program: a `StreamingDataFrame` with state in RocksDB and its changelog.

Needs the extra `bench`. At-least-once with a checkpoint every five seconds, which are the defaults; state is
read and written as bytes, so that it is not serialised twice.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from quixstreams import Application, State

from streams.cli.bench.peers.options import PeerOptions, peer_options
from streams.cli.bench.peers.recommender import Recommender

SESSION = "session"


def main() -> None:
    """Run until SIGTERM."""
    state_dir = Path(tempfile.mkdtemp(prefix="streamrec-peer-"))
    try:
        run(peer_options("quix"), state_dir)
    finally:
        shutil.rmtree(state_dir, ignore_errors=True)


def run(options: PeerOptions, state_dir: Path) -> None:
    """The whole program."""
    recommender = Recommender(options.bundle, options.top_n)
    app = Application(
        options.brokers,
        consumer_group=options.group,
        auto_offset_reset="earliest",
        state_dir=state_dir,
        loglevel="WARNING",
        # Short timeouts, since the embedded broker holds a joining group for long.
        consumer_extra_config={"session.timeout.ms": 6000, "heartbeat.interval.ms": 2000, "fetch.wait.max.ms": 10},
    )
    clicks = app.topic(options.input, key_deserializer="bytes", value_deserializer="json")
    lists = app.topic(options.output, key_serializer="bytes", value_serializer="json")

    def recommend(click: dict[str, Any], state: State[str, bytes]) -> dict[str, Any]:
        session, items = recommender.answer(state.get_bytes(SESSION), click["item_id"])
        state.set_bytes(SESSION, session)
        return {"event_id": click["event_id"], "user_id": click["user_id"], "items": items}

    answers = app.dataframe(clicks).apply(recommend, stateful=True)
    answers.to_topic(lists)
    app.run()


if __name__ == "__main__":
    main()
