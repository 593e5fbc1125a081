"""What happens before a worker takes its first event."""

from __future__ import annotations

import signal

from encoders.records import Item
from streams.publish import open_producer, publish
from tests.exactness import check_exact
from tests.integration.asking import item_ids
from tests.processes import Deployment, clicks, publish_interactions

SOLD_OUT = {str(number) for number in range(1, 26)}
N_OTHER_ITEMS = 50_000


def test_events_that_waited_are_answered_by_the_model_and_without_what_is_sold_out(deployment: Deployment) -> None:
    """A worker joins the group once it knows the items and has the model, however many items there are."""
    model = deployment.serve()
    items = [Item(item_id=f"other-{number}") for number in range(N_OTHER_ITEMS)]
    producer = open_producer(deployment.kafka, bulk=True)
    publish(producer, deployment.kafka.topics.items, items)
    publish(producer, deployment.kafka.topics.items, [Item(item_id=item_id, stock=0) for item_id in SOLD_OUT])
    producer.close()
    publish_interactions(deployment.kafka, clicks(300))
    worker = deployment.worker()
    lists = check_exact(deployment.settings, model).lists
    assert {made.model_version for made in lists} == {model.version}
    assert not any(SOLD_OUT.intersection(item_ids(made)) for made in lists)
    assert worker.metric("items") == N_OTHER_ITEMS + len(SOLD_OUT)


def test_a_worker_can_be_stopped_while_it_still_reads_the_items(deployment: Deployment) -> None:
    worker = deployment.worker()
    worker.wait_log("web server on")
    worker.process.send_signal(signal.SIGTERM)
    assert worker.wait() == 0
    assert "Traceback" not in worker.log
