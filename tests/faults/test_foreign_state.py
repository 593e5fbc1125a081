"""State that does not belong to this log is refused, and `streamrec state reset` is the way out."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from streams.store import LogBounds, RedisStore
from streams.topics import cluster_id, create_topics, open_admin
from tests.exactness import check_exact
from tests.processes import Deployment, clicks, publish_interactions
from tests.servers import REPOSITORY


def write_state(deployment: Deployment, offset: int, cluster: str = "", n_partitions: int = 4) -> None:
    """What a worker of another life left behind of partition 0."""

    async def write() -> None:
        settings = deployment.settings
        client = settings.redis.client()
        store = RedisStore(
            client,
            topic=settings.kafka.topics.interactions,
            cluster=cluster or cluster_id(settings.kafka),
            n_partitions=n_partitions,
            prefix=settings.redis.key_prefix,
        )
        await store.acquire(0, LogBounds(offset, offset, None))
        await client.aclose()

    asyncio.run(write())


@pytest.mark.parametrize(
    ("state", "says"),
    [
        ({"offset": 5, "cluster": "another"}, "is of Kafka cluster another, this one is"),
        ({"offset": 5, "n_partitions": 7}, "was written with 7 partitions of the topic, now it has 4"),
        ({"offset": 5_000}, "has applied everything before offset 5000, but the log ends at"),
    ],
    ids=["another cluster", "another partition count", "a log that ends early"],
)
def test_state_of_another_log_stops_the_worker(deployment: Deployment, state: dict[str, int], says: str) -> None:
    publish_interactions(deployment.kafka, clicks(200))
    write_state(deployment, **state)
    worker = deployment.worker()
    assert worker.wait() == 1
    assert says in worker.log
    assert "`streamrec state reset` drops it" in worker.log
    assert "Traceback" not in worker.log


def test_after_a_reset_the_state_is_rebuilt_from_the_log(deployment: Deployment) -> None:
    publish_interactions(deployment.kafka, clicks(200))
    write_state(deployment, 5_000)
    command = [sys.executable, "-m", "streams.cli", "state", "reset", "--yes", "--config", str(deployment.config())]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    deployment.worker()
    check_exact(deployment.settings)


def test_a_topic_that_is_made_anew_stops_the_worker_that_reads_it(deployment: Deployment) -> None:
    """Its first events would pass for those that were applied already."""
    kafka = deployment.kafka
    worker = deployment.worker().wait_ready()
    publish_interactions(kafka, clicks(200))
    check_exact(deployment.settings)
    with open_admin(kafka) as admin:
        admin.delete_topics([kafka.topics.interactions])
    create_topics(kafka)
    publish_interactions(kafka, clicks(20, seed=1))
    assert worker.wait() == 1
    assert "the topic was truncated or made anew" in worker.log
    assert "`streamrec state reset` drops it" in worker.log
