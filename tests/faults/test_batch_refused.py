"""One batch that fails, where the next one of its partition would succeed."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoders.records import Interaction
from streams.settings import KafkaSettings
from tests.exactness import check_exact
from tests.faults.staged_worker import COMMAND, Stage
from tests.faults.timing import BATCH
from tests.inmemory import users_of
from tests.integration.conftest import BOTH_BROKERS, Deployments
from tests.processes import Deployment, applied, clicks, committed, publish_interactions, read_lists, until

PARTITION, N_PARTITIONS = 0, 4
USERS = users_of(PARTITION, N_PARTITIONS, 10)
N_BEFORE, N_A, N_B = 40, 10, 3 * BATCH.max_batch
STEADY_S = 2.0
"""Long enough for several retries, fetches and commits."""

pytestmark = pytest.mark.parametrize("broker", BOTH_BROKERS, indirect=True, scope="module")


@pytest.fixture
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    """Small batches, so that what comes behind the one that fails is several."""
    with deployments.on(broker.model_copy(update={"partitions": N_PARTITIONS}), worker=BATCH) as workers:
        yield workers


def of_partition(n: int, seed: int) -> list[Interaction]:
    return [made.model_copy(update={"user_id": USERS[i % 10]}) for i, made in enumerate(clicks(n, seed=seed))]


def answered_until(deployment: Deployment) -> int:
    """Offset after the last event of the partition that has a list."""
    lists = read_lists(deployment.kafka)
    return max((made.source_offset + 1 for made in lists if made.source_partition == PARTITION), default=0)


def test_nothing_behind_a_batch_that_fails_is_answered_applied_or_committed(
    deployment: Deployment, tmp_path: Path
) -> None:
    """A fails; B, of the same partition, is worked out and would succeed, and waits. Then A succeeds, and all do."""
    kafka, settings, model = deployment.kafka, deployment.settings, deployment.serve()
    refused = tmp_path / "A is refused"
    refused.touch()
    stage = {"STAGE": Stage.REFUSE, "STAGE_AT": str(N_BEFORE), "STAGE_WHILE": str(refused)}
    worker = deployment.worker(COMMAND, **stage).wait_ready()
    publish_interactions(kafka, of_partition(N_BEFORE, seed=1))
    until(lambda: committed(kafka).get(PARTITION) == N_BEFORE, "what comes before A is committed")

    publish_interactions(kafka, of_partition(N_A, seed=2))
    worker.wait_log(f"Redis does not take offset {N_BEFORE}")
    of_a = until(lambda: worker.metric("pending_bytes"), "A waits")
    publish_interactions(kafka, of_partition(N_B, seed=3))
    until(lambda: worker.metric("pending_bytes") > 2 * of_a, "B is worked out")
    time.sleep(STEADY_S)
    assert applied(settings)[PARTITION] == committed(kafka)[PARTITION] == N_BEFORE
    assert answered_until(deployment) <= N_BEFORE + N_A  # lists go out before the script

    refused.unlink()
    outcome = check_exact(settings, model)
    assert len(outcome.lists) == N_BEFORE + N_A + N_B
    assert outcome.repeated == 0
    until(lambda: committed(kafka)[PARTITION] == N_BEFORE + N_A + N_B, "everything is committed")
