"""Offsets that compaction has taken out of the log. On Apache Kafka alone: Tansu does not compact."""

from __future__ import annotations

import time

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import ConsumerRecord

from streams.settings import KafkaSettings
from streams.topics import open_admin
from tests.exactness import check_exact
from tests.processes import Deployment, applied, clicks, committed, publish_interactions, read_lists, read_topic, until

pytestmark = [
    pytest.mark.real_kafka,
    pytest.mark.parametrize("broker", ["real"], indirect=True, scope="module"),
]
ROUND = 150
COMPACTED = {
    "cleanup.policy": "compact",
    "segment.ms": "100",
    "min.cleanable.dirty.ratio": "0.001",
    "max.compaction.lag.ms": "100",
    "delete.retention.ms": "0",
}
KEPT = {"cleanup.policy": "delete"}


def configure(kafka: KafkaSettings, configs: dict[str, str]) -> None:
    topic = ConfigResource(ConfigResourceType.TOPIC, kafka.topics.interactions, configs=configs)
    broker = ConfigResource(ConfigResourceType.BROKER, "1", configs={"log.cleaner.backoff.ms": "500"})  # not 15 s
    with open_admin(kafka) as admin:
        admin.alter_configs([topic])
        admin.alter_configs([broker])


def compacted(kafka: KafkaSettings, seed: int) -> dict[int, list[ConsumerRecord]]:
    """Publish events, wait until compaction has left each user's last ones, and let it leave those alone.

    The newest segment is never compacted.
    """
    before = {partition: records[-1].offset + 1 for partition, records in log_of(kafka).items()}
    configure(kafka, COMPACTED)
    for number in range(seed, seed + 4):
        publish_interactions(kafka, clicks(ROUND, seed=number))
        time.sleep(0.3)  # the next one opens a segment

    def gone() -> bool:
        log = log_of(kafka)
        kept = sum(map(len, log.values()))
        return kept < 2 * ROUND and all(log[partition][0].offset >= end for partition, end in before.items())

    until(gone, "the log is compacted")
    configure(kafka, KEPT)
    return log_of(kafka)


def log_of(kafka: KafkaSettings) -> dict[int, list[ConsumerRecord]]:
    log: dict[int, list[ConsumerRecord]] = {}
    for record in read_topic(kafka, kafka.topics.interactions):
        log.setdefault(record.partition, []).append(record)
    return log


def test_what_compaction_has_left_is_applied_wherever_reading_begins(deployment: Deployment) -> None:
    kafka, settings = deployment.kafka, deployment.settings
    log = compacted(kafka, seed=0)
    ends = {partition: records[-1].offset + 1 for partition, records in log.items()}
    assert all(len(log[partition]) < end for partition, end in ends.items())

    model = deployment.serve()
    worker = deployment.worker().wait_ready()
    assert check_exact(settings, model).repeated == 0
    until(lambda: committed(kafka) == applied(settings) == ends, "everything is committed")
    assert worker.terminate() == 0

    log = compacted(kafka, seed=10)
    assert any(records[0].offset > ends[partition] for partition, records in log.items())  # it ended in a gap
    worker = deployment.worker().wait_ready()
    ends = {partition: records[-1].offset + 1 for partition, records in log.items()}
    until(lambda: committed(kafka) == applied(settings) == ends, "everything is committed")
    answered = [(made.source_partition, made.source_offset) for made in read_lists(kafka)]
    assert len(answered) == len(set(answered))
    assert {(record.partition, record.offset) for records in log.values() for record in records} <= set(answered)
    assert worker.metric("retention_lost_total") == 0
    assert "looking at it anew" not in worker.log
