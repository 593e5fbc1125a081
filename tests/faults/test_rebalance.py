"""Two workers that come and go while events flow."""

from __future__ import annotations

from tests.exactness import check_exact
from tests.processes import Deployment, clicks, publishing, until


def test_second_worker_takes_its_share_and_gives_it_back_while_events_flow(deployment: Deployment) -> None:
    model = deployment.serve()
    first = deployment.worker().wait_ready()
    with publishing(deployment.kafka, clicks(50_000), rate=300):
        second = deployment.worker()
        until(lambda: len(second.health().get("partitions", [])) == 2, "the second worker has its share")
        until(lambda: second.metric("events_total") and first.metric("events_total"), "both answer")
        assert len(first.health()["partitions"]) == 2
        assert second.terminate() == 0
        first.wait_partitions(range(4))
    check_exact(deployment.settings, model)
