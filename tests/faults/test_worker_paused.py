"""A worker that stands still, and comes back when others have gone on without it."""

from __future__ import annotations

from tests.exactness import check_exact
from tests.faults.staged_worker import COMMAND, Stage
from tests.processes import Deployment, clicks, publish_interactions, until, wait_applied


def test_worker_that_wakes_after_its_session_timeout_cannot_write_and_goes_on_as_a_member(
    deployment: Deployment,
) -> None:
    model = deployment.serve()
    first, second = clicks(600), clicks(600, seed=1)
    sleeper = deployment.worker(COMMAND, STAGE=Stage.STOP_BEFORE, STAGE_AT="8")
    sleeper.wait_ready()
    publish_interactions(deployment.kafka, first)
    other = deployment.worker()
    wait_applied(deployment.settings, len(first))

    sleeper.resume()
    until(lambda: sleeper.metric("batches_refused_total", reason="fenced"), "the sleeper's write is refused")
    until(lambda: shared(sleeper.health(), other.health()), "both workers have partitions of their own")
    publish_interactions(deployment.kafka, second)
    check_exact(deployment.settings, model)
    assert sleeper.metric("events_total") > 0
    assert sleeper.alive


def shared(one: dict[str, list[int]], two: dict[str, list[int]]) -> bool:
    ours, theirs = one.get("partitions", []), two.get("partitions", [])
    return bool(ours and theirs) and sorted(ours + theirs) == [0, 1, 2, 3]
