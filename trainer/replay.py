"""Reads a topic, from its oldest record or where an earlier reading ended, to the end that it had at the start."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from kafka import KafkaConsumer, TopicPartition
from kafka.admin import KafkaAdminClient
from kafka.consumer.fetcher import ConsumerRecord
from kafka.errors import KafkaError

from trainer.errors import ReplayError

STALLED_AFTER_S = 30.0
"""A broker that owes records and sends none for this long is given up."""
TAIL_PATIENCE_S = 1.0
"""How long to wait for records after the end that the broker named."""
CONNECT_TIMEOUT_MS = 10_000
MAX_POLL_RECORDS = 5_000


@dataclass(frozen=True)
class KafkaSource:
    """Where the trainer reads and announces."""

    client_config: Mapping[str, Any]
    """Addresses and credentials, as kafka-python's clients take them."""
    interactions: str = "interactions"
    items: str = "items"
    model_updates: str = "model-updates"

    @property
    def brokers(self) -> str:
        """The addresses, for messages."""
        return ",".join(self.client_config["bootstrap_servers"])


@dataclass(frozen=True)
class TopicIdentity:
    """Which topic it is: a topic made anew, or of a cluster made anew, is another one."""

    cluster_id: str
    name: str
    topic_id: str
    """Empty where the broker is too old to have one."""


class TopicReader:
    """Every committed record that a topic holds, once, each partition in the order of offsets.

    Iterating blocks until the end that the topic had when it was opened; records that come meanwhile may
    be among them. It raises ReplayError when the brokers owe records and send none.
    """

    def __init__(
        self, consumer: KafkaConsumer, source: KafkaSource, topic: str, partitions: list[TopicPartition]
    ) -> None:
        self._consumer, self._source, self._topic, self._partitions = consumer, source, topic, partitions
        consumer.assign(partitions)
        self._begins: dict[TopicPartition, int] = consumer.beginning_offsets(partitions)
        self._ends: dict[TopicPartition, int] = consumer.end_offsets(partitions)
        self._goals = dict(self._ends)
        self._starts = dict(self._begins)
        for tp, offset in self._begins.items():
            consumer.seek(tp, offset)

    def go_on_from(self, next_offsets: Mapping[int, int]) -> None:
        """Begin where an earlier reading ended instead of with the oldest record.

        Records before it may still be read where the broker names too low an end.
        """
        for tp, end in self._ends.items():
            next_offset = next_offsets.get(tp.partition, 0)
            self._starts[tp] = max(self._begins[tp], min(next_offset, end))
            self._goals[tp] = max(end, next_offset)
            self._consumer.seek(tp, self._starts[tp])

    @property
    def n_partitions(self) -> int:
        """How many partitions the topic has."""
        return len(self._partitions)

    @property
    def n_expected(self) -> int:
        """About how many records there are; aborted and compacted ones count too."""
        return sum(self._ends.values()) - sum(self._starts.values())

    @property
    def begins(self) -> dict[int, int]:
        """By partition, the oldest offset."""
        return {tp.partition: offset for tp, offset in self._begins.items()}

    def positions(self) -> dict[int, int]:
        """By partition, the offset after the last record that was read."""
        return {tp.partition: self._consumer.position(tp) for tp in self._partitions}

    def __iter__(self) -> Iterator[ConsumerRecord]:
        for records in self.polls():
            yield from records

    def polls(self) -> Iterator[list[ConsumerRecord]]:
        """The same, some thousand records at once; `positions` is what was read by then."""
        # A broker may name too low an end (Tansu: where the last batch begins). So what a partition's first fetch
        # says of its end counts too, if the records up to there do come; those of an open transaction do not.
        consumer = self._consumer
        goals = {tp: goal for tp, goal in self._goals.items() if goal > self._starts[tp]}
        unfetched = set(goals)
        moved_s = time.monotonic()
        while behind := [tp for tp, goal in goals.items() if consumer.position(tp) < goal]:
            found = consumer.poll(timeout_ms=200)
            idle_s = time.monotonic() - moved_s
            if found:
                moved_s = time.monotonic()
            elif idle_s > TAIL_PATIENCE_S and all(consumer.position(tp) >= self._ends[tp] for tp in behind):
                return
            elif idle_s > STALLED_AFTER_S:
                raise ReplayError(
                    f"{self._source.brokers} has sent nothing more of topic {self._topic!r} for "
                    f"{STALLED_AFTER_S:.0f} s, although it has more records; see that the brokers run, then try again"
                )
            for tp in found.keys() & unfetched:
                unfetched.remove(tp)
                goals[tp] = max(goals[tp], consumer.highwater(tp) or 0)
            if found:
                yield [record for records in found.values() for record in records]


def identify(source: KafkaSource, topic: str) -> TopicIdentity:
    """Which topic it is that has a name; it must exist.

    Raises:
        ReplayError: If the brokers do not answer.
    """
    try:
        with closing(KafkaAdminClient(**source.client_config, bootstrap_timeout_ms=CONNECT_TIMEOUT_MS)) as admin:
            cluster_id = admin.describe_cluster()["cluster_id"]
            (described,) = admin.describe_topics([topic])
    except KafkaError as error:
        raise ReplayError(f"{source.brokers} does not describe topic {topic!r}: {error}") from error
    topic_id = UUID(str(described.get("topic_id") or UUID(int=0)))
    return TopicIdentity(str(cluster_id), topic, str(topic_id) if topic_id.int else "")


@contextmanager
def open_topic(source: KafkaSource, topic: str) -> Iterator[TopicReader]:
    """A topic to be read, without a group; nothing is committed.

    Raises:
        ReplayError: If the topic does not exist or the brokers do not answer, here or while it is read.
    """
    try:
        consumer = KafkaConsumer(
            **source.client_config,
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",
            bootstrap_timeout_ms=CONNECT_TIMEOUT_MS,
            max_poll_records=MAX_POLL_RECORDS,
        )
    except KafkaError as error:
        raise ReplayError(
            f"cannot use Kafka at {source.brokers}: {error}. See that the brokers run (`streamrec stack` starts one on"
            " this machine), or correct kafka.brokers and the credentials in [kafka]"
        ) from error
    try:
        with closing(consumer):
            partitions = consumer.partitions_for_topic(topic)
            if not partitions:
                raise ReplayError(
                    f"topic {topic!r} does not exist at {source.brokers}; make it with `streamrec topics create`"
                )
            yield TopicReader(consumer, source, topic, [TopicPartition(topic, p) for p in sorted(partitions)])
    except KafkaError as error:
        raise ReplayError(f"topic {topic!r} cannot be read from {source.brokers}: {error}") from error
