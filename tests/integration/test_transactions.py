"""Producers with transactions. On Apache Kafka alone: Tansu hands out aborted records to everyone."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import closing
from typing import NamedTuple

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from encoders.records import BundleReference, Interaction
from streams.settings import KafkaSettings
from tests.exactness import Outcome, check_exact
from tests.integration.asking import ask, event
from tests.processes import Deployment, applied, clicks, committed, until

pytestmark = [
    pytest.mark.real_kafka,
    pytest.mark.parametrize("broker", ["real"], indirect=True, scope="module"),
]
KEPT = [clicks(20, seed=seed) for seed in range(10)]
ABORTED = [clicks(20, seed=seed) for seed in range(100, 110)]


def transact(kafka: KafkaSettings, events: list[Interaction], finish: Callable[[KafkaProducer], object]) -> None:
    """Publish events in one transaction and finish it."""
    with closing(KafkaProducer(**kafka.kafka_python_config(), transactional_id=uuid.uuid4().hex)) as producer:
        producer.init_transactions()
        producer.begin_transaction()
        for done in events:
            producer.send(kafka.topics.interactions, key=done.user_id.encode(), value=done.to_json())
        producer.flush()
        finish(producer)


def log_ends(kafka: KafkaSettings) -> dict[int, int]:
    """Where each partition ends, markers included."""
    topic = kafka.topics.interactions
    with closing(KafkaConsumer(**kafka.kafka_python_config())) as consumer:
        ends = consumer.end_offsets([TopicPartition(topic, number) for number in range(kafka.partitions)])
    return {place.partition: end for place, end in ends.items()}


class Ran(NamedTuple):
    outcome: Outcome
    model: BundleReference


@pytest.fixture(scope="module")
def ran(deployment: Deployment) -> Ran:
    """Committed and aborted transactions in turns, the last one aborted."""
    model = deployment.serve()
    deployment.worker().wait_ready()
    for kept, aborted in zip(KEPT, ABORTED, strict=True):
        transact(deployment.kafka, kept, KafkaProducer.commit_transaction)
        transact(deployment.kafka, aborted, KafkaProducer.abort_transaction)
    return Ran(check_exact(deployment.settings, model), model)


def test_what_was_committed_is_answered_once_and_what_was_aborted_never(ran: Ran) -> None:
    answered = sorted(made.event_id for made in ran.outcome.lists)
    assert answered == sorted(done.event_id for kept in KEPT for done in kept)


def test_an_open_transaction_holds_back_what_comes_after_it_until_it_ends(deployment: Deployment, ran: Ran) -> None:
    first, second = event("patient", "1"), event("patient", "2")
    (worker,) = deployment.workers
    before = worker.metric("events_total")

    def meanwhile(producer: KafkaProducer) -> None:
        transact(deployment.kafka, [second], KafkaProducer.commit_transaction)
        assert worker.metric("events_total") == before
        producer.commit_transaction()

    transact(deployment.kafka, [first], meanwhile)
    until(lambda: worker.metric("events_total") == before + 2, "both are answered")
    check_exact(deployment.settings, ran.model)


def test_gaps_are_passed_over_and_what_transactions_leave_at_the_end_of_the_log_too(
    deployment: Deployment, ran: Ran
) -> None:
    """Else markers and aborted records would count as lag, and as lost once retention takes them."""
    (worker,), ends = deployment.workers, log_ends(deployment.kafka)
    assert ends[0] > max(made.source_offset for made in ran.outcome.lists if made.source_partition == 0) + 1
    until(lambda: applied(deployment.settings) == ends, "everything is applied")
    until(lambda: committed(deployment.kafka) == ends, "everything is committed")
    assert worker.metric("lag") == 0


def test_after_a_restart_nothing_is_answered_again(deployment: Deployment, ran: Ran) -> None:
    before = check_exact(deployment.settings, ran.model)
    assert deployment.workers[0].terminate() == 0
    deployment.worker().wait_ready()
    ask(deployment.kafka, "after", "3")
    transact(deployment.kafka, [event("after", "4")], KafkaProducer.abort_transaction)
    ask(deployment.kafka, "after", "5")
    after = check_exact(deployment.settings, ran.model)
    assert len(after.lists) == len(before.lists) + 2
    assert after.repeated == 0
