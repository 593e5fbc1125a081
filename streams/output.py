"""What leaves a worker: lists, forwarded records and dead letters, and their delivery."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Sequence
from hashlib import sha256
from typing import NamedTuple, Protocol

from aiokafka.errors import KafkaError, MessageSizeTooLargeError

from encoders.records import SCHEMA_VERSION
from streams.decode import DeadLetter, Misplaced
from streams.lists import WireLists
from streams.record_batch import ReadyBatch, record_batches
from streams.routing import partition_of_key
from streams.settings import TopicNames

logger = logging.getLogger(__name__)
PRODUCE_BATCH_BYTES = 900_000
"""Most bytes of one batch of lists; somewhat less than brokers take by default."""
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

    async def send_batch(self, batch: ReadyBatch, topic: str, *, partition: int) -> asyncio.Future[object]:
        """Queue a whole batch; the future holds its acknowledgement."""

    async def partitions_for(self, topic: str) -> set[int]:
        """All partitions of a topic."""


class UndeliveredLists(NamedTuple):
    """Lists that were not delivered, and why."""

    lists: WireLists
    error: Exception


async def deliver_lists(
    producer: Producer, topic: str, partition: int, n_partitions: int, lists: Sequence[WireLists], most_bytes: int
) -> list[UndeliveredLists]:
    """Produce lists as whole record batches and await every acknowledgement.

    Args:
        producer: Where to.
        topic: Of the lists.
        partition: Where their events come from.
        n_partitions: Of the topic of the events. Where the topic of the lists has as many, lists go into the
            partition with the same number, since both are keyed by user.
        lists: What to produce, in this order.
        most_bytes: Of a record batch. One that is refused for its size is sent again in halves.

    Returns:
        What was not delivered. The others are on the brokers, as far as `acks` asks for.
    """
    if not lists:
        return []
    try:
        n_targets = len(await producer.partitions_for(topic))
    except KafkaError as error:
        return [UndeliveredLists(part, error) for part in lists]
    # One after the other would be one request after the other: the producer has one under way for a partition.
    whole = WireLists.together(lists)
    targets = [(partition, whole)] if n_targets == n_partitions else _by_partition(whole, n_targets)
    now_ms = time.time_ns() // 1_000_000
    sent: list[tuple[int, WireLists]] = []
    answers: list[Awaitable[object]] = []
    for target, some in targets:
        for batch, part in record_batches(some, now_ms, most_bytes):
            sent.append((target, part))
            answers.append(await _sent(producer, batch, topic, target))
    undelivered: list[UndeliveredLists] = []
    for (target, part), answer in zip(sent, await asyncio.gather(*answers, return_exceptions=True), strict=True):
        if isinstance(answer, MessageSizeTooLargeError) and len(part) > 1:
            half = len(part) // 2
            for some in (part[:half], part[half:]):
                undelivered += await deliver_lists(producer, topic, target, n_targets, [some], most_bytes)
        elif problem := _error_of(answer):
            undelivered.append(UndeliveredLists(part, problem))
    return undelivered


async def _sent(producer: Producer, batch: ReadyBatch, topic: str, partition: int) -> Awaitable[object]:
    """The acknowledgement to come of a batch; what keeps it from being sent comes the same way."""
    try:
        return await producer.send_batch(batch, topic, partition=partition)
    except (KafkaError, AssertionError) as error:  # aiokafka asserts that a given partition exists
        refused: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        refused.set_exception(error)
        return refused


def _by_partition(lists: WireLists, n_partitions: int) -> list[tuple[int, WireLists]]:
    """Lists by the partition of their user, in their order."""
    places: dict[int, list[int]] = {}
    for place, (user, _) in enumerate(lists.records()):
        places.setdefault(partition_of_key(user, n_partitions), []).append(place)
    return [(target, lists.take(mine)) for target, mine in places.items()]


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
