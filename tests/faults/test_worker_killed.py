"""Workers that die at the worst moment: state stays exact, no list is lost."""

from __future__ import annotations

from tests.exactness import check_exact
from tests.processes import Deployment, clicks, publishing, wait_applied


def test_sigkill_in_mid_stream_leaves_exact_state_and_loses_no_list(deployment: Deployment) -> None:
    model = deployment.serve()
    worker = deployment.worker().wait_ready()
    with publishing(deployment.kafka, clicks(2000), rate=800) as publisher:
        wait_applied(deployment.settings, 300)
        worker.kill()
        assert publisher.is_alive()
    deployment.worker()
    check_exact(deployment.settings, model)
