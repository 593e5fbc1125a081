"""A broker that is down, stands still, comes back, or has thrown records away."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import TopicPartition

from streams.processes import free_port
from streams.settings import KafkaSettings, RedisSettings
from streams.stack import EmbeddedStack
from streams.topics import create_topics, open_admin
from tests.exactness import check_exact
from tests.faults.timing import BATCH
from tests.processes import (
    Deployment,
    applied,
    clicks,
    publish_interactions,
    publishing,
    read_lists,
    wait_applied,
)
from tests.servers import RealKafka, Valkey, unique_names


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[EmbeddedStack]:
    """A stack of its own, which the test may stop."""
    with EmbeddedStack(logs=tmp_path / "stack") as servers:
        yield servers


@pytest.fixture
def on_real_kafka(real_kafka: RealKafka, valkey: Valkey, tmp_path: Path) -> Iterator[Deployment]:
    """On the real Apache Kafka, with a Valkey that keeps its data."""
    kafka = unique_names(real_kafka.kafka).model_copy(
        update={"session_timeout_s": 6.0, "heartbeat_interval_s": 1.0, "rebalance_timeout_s": 6.0}
    )
    create_topics(kafka)
    with Deployment(kafka, valkey.redis, tmp_path, worker=BATCH) as workers:
        yield workers


def test_broker_down_at_start_is_an_error_that_names_the_address(redis_server: RedisSettings, tmp_path: Path) -> None:
    address = f"127.0.0.1:{free_port()}"
    with Deployment(KafkaSettings(brokers=address), redis_server, tmp_path) as deployment:
        worker = deployment.worker()
        assert worker.wait() == 1
    assert f"cannot reach Kafka at {address}" in worker.log
    assert "correct kafka.brokers" in worker.log
    assert "Traceback" not in worker.log


def test_broker_that_stands_still_in_mid_stream_is_waited_for(stack: EmbeddedStack, tmp_path: Path) -> None:
    kafka = unique_names(stack.kafka).model_copy(update={"partitions": 4})
    create_topics(kafka)
    with Deployment(kafka, stack.redis, tmp_path, worker=BATCH) as deployment:
        model = deployment.serve()
        worker = deployment.worker().wait_ready()
        with publishing(kafka, clicks(50_000), rate=200):
            wait_applied(deployment.settings, 100)
            stack.broker_process.send_signal(signal.SIGSTOP)
            worker.wait_log(f"Kafka at {kafka.brokers} does not answer")
            stack.broker_process.send_signal(signal.SIGCONT)
            worker.wait_log(f"Kafka at {kafka.brokers} is back")
        check_exact(deployment.settings, model)


@pytest.mark.real_kafka
def test_broker_killed_and_restarted_in_mid_stream_is_waited_for(
    on_real_kafka: Deployment, real_kafka: RealKafka
) -> None:
    model = on_real_kafka.serve()
    worker = on_real_kafka.worker().wait_ready()
    with publishing(on_real_kafka.kafka, clicks(50_000), rate=200):
        wait_applied(on_real_kafka.settings, 100)
        real_kafka.kill()
        worker.wait_log(f"Kafka at {real_kafka.brokers} does not answer")
        real_kafka.start()
        worker.wait_log(f"Kafka at {real_kafka.brokers} is back")
    check_exact(on_real_kafka.settings, model)


@pytest.mark.real_kafka
def test_events_that_retention_took_are_counted_and_the_rest_is_applied(on_real_kafka: Deployment) -> None:
    kafka = on_real_kafka.kafka
    worker = on_real_kafka.worker().wait_ready()
    publish_interactions(kafka, clicks(400))
    wait_applied(on_real_kafka.settings, 400)
    assert worker.terminate() == 0
    publish_interactions(kafka, clicks(400, seed=1))
    places = applied(on_real_kafka.settings)
    with open_admin(kafka) as admin:
        admin.delete_records({TopicPartition(kafka.topics.interactions, p): at + 10 for p, at in places.items()})
    publish_interactions(kafka, clicks(400, seed=2))
    later = on_real_kafka.worker()
    wait_applied(on_real_kafka.settings, 1200)
    assert later.metric("retention_lost_total") == 40
    assert len({made.recommendation_id for made in read_lists(kafka)}) == 1160
    for partition, offset in places.items():
        expected = f"partition {partition}: retention removed 10 events before they were applied; going on at offset"
        assert f"{expected} {offset + 10}" in later.log


def test_events_that_retention_takes_from_under_a_worker_that_stands_still_are_counted(
    on_real_kafka: Deployment,
) -> None:
    kafka = on_real_kafka.kafka
    worker = on_real_kafka.worker().wait_ready()
    publish_interactions(kafka, clicks(400))
    wait_applied(on_real_kafka.settings, 400)
    places = applied(on_real_kafka.settings)
    worker.pause()
    publish_interactions(kafka, clicks(8_000, seed=1))
    with open_admin(kafka) as admin:
        admin.delete_records({TopicPartition(kafka.topics.interactions, p): -1 for p in places})
    worker.resume()
    publish_interactions(kafka, clicks(400, seed=2))
    wait_applied(on_real_kafka.settings, 8_800)
    lost = int(worker.metric("retention_lost_total"))
    answered = len({made.recommendation_id for made in read_lists(kafka)})
    assert 0 < lost <= 8_000
    assert answered + lost >= 8_800  # lists of a batch that was given up in mid-flight count on both sides
