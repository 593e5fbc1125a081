"""Workers that come and go while events flow, with batches on their way at that moment."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event

import pytest

from streams.settings import KafkaSettings
from tests.exactness import check_exact
from tests.faults.staged_worker import COMMAND, Stage
from tests.faults.timing import BATCH
from tests.integration.conftest import BOTH_BROKERS, Deployments
from tests.processes import Deployment, WorkerProcess, applied, beside, clicks, committed, publishing, until

PARTITIONS = 6
LOOK_S = 0.2
"""How often commits are compared with the state."""


@pytest.fixture
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    """With partitions for three workers: Faust gives four to three workers as 2, 2 and 0."""
    with deployments.on(broker.model_copy(update={"partitions": PARTITIONS}), worker=BATCH) as workers:
        yield workers


def owned(workers: list[WorkerProcess]) -> list[list[int]]:
    return [worker.health().get("partitions", []) for worker in workers]


def shared(workers: list[WorkerProcess]) -> bool:
    """Whether all partitions are owned, each worker has its share, and each answers."""
    shares = owned(workers)
    numbers = sorted(number for share in shares for number in share)
    return (
        numbers == list(range(PARTITIONS)) and all(shares) and all(worker.metric("events_total") for worker in workers)
    )


@contextmanager
def nothing_committed_that_is_not_applied(deployment: Deployment) -> Iterator[None]:
    """Look at both again and again; commits first, as the state only grows."""
    ahead, n_looks = list[str](), 0

    def look(over: Event) -> None:
        nonlocal n_looks
        while not over.wait(LOOK_S):
            commits = committed(deployment.kafka)
            if places := applied(deployment.settings):
                n_looks += 1
                ahead.extend(
                    f"partition {number}: committed {offset}, applied {places.get(number, 0)}"
                    for number, offset in commits.items()
                    if offset > places.get(number, 0)
                )

    with beside(look):
        yield
    assert not ahead
    assert n_looks


@pytest.mark.parametrize("broker", BOTH_BROKERS, indirect=True, scope="module")
@pytest.mark.parametrize("n_joining", [1, 2])
def test_workers_that_join_in_mid_batch_take_their_share_and_give_it_back(
    deployment: Deployment, n_joining: int, tmp_path: Path
) -> None:
    """Every batch of the first worker is on its way from before the others join until they have their share."""
    model, on_their_way = deployment.serve(), tmp_path / "batches are on their way"
    first = deployment.worker(COMMAND, STAGE=Stage.HOLD, STAGE_WHILE=str(on_their_way)).wait_ready()
    with nothing_committed_that_is_not_applied(deployment), publishing(deployment.kafka, clicks(50_000), rate=300):
        until(lambda: len(committed(deployment.kafka)) == PARTITIONS, "every partition has commits")
        on_their_way.touch()
        until(lambda: first.metric("pending_bytes"), "batches are on their way")
        held_at = applied(deployment.settings)
        joining = [deployment.worker(COMMAND, STAGE=Stage.SLOW) for _ in range(n_joining)]
        until(lambda: all(owned(joining)), "the others have partitions")
        on_their_way.unlink()
        until(lambda: shared([first, *joining]), "each worker has its share")
        until(lambda: first.metric("batches_refused_total", reason="fenced"), "what was on its way is refused")
        assert [worker.terminate() for worker in joining] == [0] * n_joining
        first.wait_partitions(range(PARTITIONS))
    check_exact(deployment.settings, model)
    ends = applied(deployment.settings)
    assert all(ends[number] > held_at[number] for number in ends)
    until(lambda: committed(deployment.kafka) == ends, "everything is committed")
