"""What leaves a worker: lists, forwarded records and dead letters, and their delivery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from aiokafka.errors import KafkaError

from encoders.records import SCHEMA_VERSION, Recommendation
from streams.decode import DeadLetter, Misplaced
from streams.settings import TopicNames

logger = logging.getLogger(__name__)
Headers = Sequence[tuple[str, bytes | None]]
_SCHEMA: Headers = (("schema", b"%d" % SCHEMA_VERSION),)


class OutgoingRecord(NamedTuple):
    """A record to produce."""

    topic: str
    key: bytes | None
    value: bytes | None
    headers: Headers
    partition: int | None = None
    """None leaves the choice to the partitioner."""


class Failure(NamedTuple):
    """A record that was not delivered, and why."""

    record: OutgoingRecord
    error: Exception


class Producer(Protocol):
    """The part of aiokafka's producer that is used."""

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Headers | None = None,
    ) -> asyncio.Future[object]:
        """Queue a record; the future holds its acknowledgement."""


async def deliver(producer: Producer, records: Sequence[OutgoingRecord]) -> list[Failure]:
    """Produce all records and await every acknowledgement.

    Returns:
        What was not delivered. The others are on the brokers, as far as `acks` asks for.
    """
    sent: list[OutgoingRecord] = []
    futures: list[asyncio.Future[object]] = []
    failures: list[Failure] = []
    for record in records:
        try:
            future = await producer.send(
                record.topic, record.value, key=record.key, partition=record.partition, headers=list(record.headers)
            )
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that a given partition exists
            failures.append(Failure(record, error))
        else:
            sent.append(record)
            futures.append(future)
    for record, answer in zip(sent, await asyncio.gather(*futures, return_exceptions=True), strict=True):
        if isinstance(answer, asyncio.CancelledError):
            failures.append(Failure(record, KafkaError("the producer was stopped")))
        elif isinstance(answer, Exception):
            failures.append(Failure(record, answer))
    return failures


def list_record(recommendation: Recommendation, topic: str) -> OutgoingRecord:
    """A list, keyed by its user."""
    return OutgoingRecord(topic, recommendation.user_id.encode(), recommendation.to_json(), _SCHEMA)


def forwarded_record(misplaced: Misplaced, topic: str) -> OutgoingRecord:
    """The record as it came, in the partition that owns its user."""
    record = misplaced.record
    return OutgoingRecord(
        topic, misplaced.user_id.encode(), record.value, tuple(record.headers or ()), misplaced.partition
    )


def dead_letter_record(
    dead: DeadLetter, topics: TopicNames, source_topic: str, partition: int, limit_bytes: int
) -> OutgoingRecord:
    """The original bytes with the reason; of a longer value the first ``limit_bytes`` and its SHA-256."""
    key, value = dead.record.key, dead.record.value
    headers = [
        *_SCHEMA,
        ("reason", dead.reason.encode()),
        ("detail", dead.detail.encode()),
        ("source-topic", source_topic.encode()),
        ("source-partition", b"%d" % partition),
        ("source-offset", b"%d" % dead.record.offset),
    ]
    for name, original in (("key", key), ("value", value)):
        if original is not None and len(original) > limit_bytes:
            headers.append((f"{name}-bytes", b"%d" % len(original)))
            headers.append((f"{name}-sha256", sha256(original).hexdigest().encode()))
    return OutgoingRecord(topics.dead_letters, key and key[:limit_bytes], value and value[:limit_bytes], headers)
