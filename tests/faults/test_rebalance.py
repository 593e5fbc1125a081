"""Workers that come and go while events flow, with batches on their way at every moment."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings
from streams.topics import create_topics
from tests.exactness import check_exact
from tests.faults.staged_worker import COMMAND, Stage
from tests.faults.timing import BATCH, soon_noticed
from tests.processes import Deployment, WorkerProcess, clicks, publishing, until
from tests.servers import unique_names

PARTITIONS = 6


@pytest.fixture
def deployment(kafka_server: KafkaSettings, redis_server: RedisSettings, tmp_path: Path) -> Iterator[Deployment]:
    """With partitions for three workers: Faust gives four to three workers as 2, 2 and 0."""
    kafka = soon_noticed(unique_names(kafka_server)).model_copy(update={"partitions": PARTITIONS})
    create_topics(kafka)
    redis = redis_server.model_copy(update={"key_prefix": f"{kafka.group_id}:"})
    with Deployment(kafka, redis, tmp_path, worker=BATCH) as workers:
        yield workers


def shared(workers: list[WorkerProcess]) -> bool:
    """Whether all partitions are owned, each worker has its share, and each answers."""
    shares = [worker.health().get("partitions", []) for worker in workers]
    owned = sorted(number for share in shares for number in share)
    return owned == list(range(PARTITIONS)) and all(shares) and all(worker.metric("events_total") for worker in workers)


@pytest.mark.parametrize("n_joining", [1, 2])
def test_workers_that_join_in_mid_batch_take_their_share_and_give_it_back(
    deployment: Deployment, n_joining: int
) -> None:
    model = deployment.serve()
    first = deployment.worker(COMMAND, STAGE=Stage.SLOW).wait_ready()
    with publishing(deployment.kafka, clicks(50_000), rate=300):
        joining = [deployment.worker(COMMAND, STAGE=Stage.SLOW) for _ in range(n_joining)]
        until(lambda: shared([first, *joining]), "each worker has its share")
        assert [worker.terminate() for worker in joining] == [0] * n_joining
        first.wait_partitions(range(PARTITIONS))
    check_exact(deployment.settings, model)
