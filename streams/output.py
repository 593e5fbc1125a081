"""What leaves a worker: lists, forwarded records and dead letters, and their delivery."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from encoders.records import SCHEMA_VERSION
from streams.decode import DeadLetter, Misplaced
from streams.routing import partition_of_key
from streams.settings import TopicNames

logger = logging.getLogger(__name__)
Headers = Sequence[tuple[str, bytes | None]]
_SCHEMA: Headers = [("schema", b"%d" % SCHEMA_VERSION)]


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

    def create_batch(self) -> BatchBuilder:
        """An empty batch of records for one partition."""

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> asyncio.Future[object]:
        """Queue a whole batch; the future holds its acknowledgement."""

    async def partitions_for(self, topic: str) -> set[int]:
        """All partitions of a topic."""


class BatchBuilder(Protocol):
    """The part of aiokafka's batch builder that is used."""

    def append(self, *, timestamp: int | None, key: bytes | None, value: bytes | None, headers: Headers) -> object:
        """Add a record; None if there is no room for it. The first one always has room."""

    def close(self) -> None:
        """Let nothing be added any more."""


async def deliver_batched(producer: Producer, records: Sequence[OutgoingRecord]) -> list[Failure]:
    """`deliver` for many records: built into one batch a partition, at a fourth of the cost of single records.

    A batch that is refused for its size is delivered record by record.
    """
    try:
        batches = await _batches(producer, records)
    except KafkaError as error:
        return [Failure(record, error) for record in records]
    failures: list[Failure] = []
    sent: list[list[OutgoingRecord]] = []
    futures: list[asyncio.Future[object]] = []
    for topic, partition, builder, members in batches:
        try:
            futures.append(await producer.send_batch(builder, topic, partition=partition))
            sent.append(members)
        except (KafkaError, AssertionError) as error:  # aiokafka asserts that a given partition exists
            failures += [Failure(record, error) for record in members]
    for members, answer in zip(sent, await asyncio.gather(*futures, return_exceptions=True), strict=True):
        if isinstance(answer, MessageSizeTooLargeError):
            failures += await deliver(producer, members)
        elif problem := _error_of(answer):
            failures += [Failure(record, problem) for record in members]
    return failures


async def _batches(
    producer: Producer, records: Sequence[OutgoingRecord]
) -> list[tuple[str, int, BatchBuilder, list[OutgoingRecord]]]:
    """Records as closed batches, in their order: topic, partition, the batch, and what is in it."""
    n_partitions = {topic: len(await producer.partitions_for(topic)) for topic in {record.topic for record in records}}
    batches: list[tuple[str, int, BatchBuilder, list[OutgoingRecord]]] = []
    open_batches: dict[tuple[str, int], tuple[BatchBuilder, list[OutgoingRecord]]] = {}
    for record in records:
        topic, key, value, headers, partition = record
        if not isinstance(headers, list):  # aiokafka takes nothing else
            headers = list(headers)
        if partition is None:
            partition = partition_of_key(key, n_partitions[topic])
        current = open_batches.get((topic, partition))
        if current is None or current[0].append(timestamp=None, key=key, value=value, headers=headers) is None:
            builder = producer.create_batch()
            builder.append(timestamp=None, key=key, value=value, headers=headers)
            current = open_batches[topic, partition] = (builder, [])
            batches.append((topic, partition, *current))
        current[1].append(record)
    for _, _, builder, _ in batches:
        builder.close()
    return batches


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
        if problem := _error_of(answer):
            failures.append(Failure(record, problem))
    return failures


def _error_of(answer: object) -> Exception | None:
    """What went wrong, by what came in place of an acknowledgement."""
    if isinstance(answer, asyncio.CancelledError):
        stopped: Exception = KafkaError("the producer was stopped")
        return stopped
    return answer if isinstance(answer, Exception) else None


def list_records(users: Iterable[str], lists: Iterable[bytes], topic: str) -> list[OutgoingRecord]:
    """Lists in their wire form, each keyed by its user."""
    return [OutgoingRecord(topic, user.encode(), made, _SCHEMA) for user, made in zip(users, lists, strict=True)]


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
