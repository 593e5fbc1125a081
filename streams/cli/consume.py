"""Reading topics with kafka-python, as any consumer would."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from encoders.records import DEFAULT_CATALOGUE
from encoders.vocabulary import item_hash
from streams.errors import DependencyError
from streams.items import ItemCatalogue
from streams.topics import partition_count

if TYPE_CHECKING:
    from kafka import KafkaConsumer, TopicPartition
    from kafka.consumer.fetcher import ConsumerRecord

    from streams.settings import KafkaSettings

STALLED_AFTER_S = 30.0
TAIL_PATIENCE_S = 2.0
"""How long records may take that the broker's last answer tells of; those of an open transaction never come."""


def open_consumer(settings: KafkaSettings, topics: Sequence[str], *, from_start: bool) -> KafkaConsumer:
    """A consumer without a group on all partitions of the topics; it commits nothing.

    Args:
        settings: Where Kafka is and how to log in.
        topics: Which topics.
        from_start: From their oldest records; else only what comes after this call.

    Raises:
        DependencyError: If no broker answers or a topic does not exist.
    """
    from kafka import KafkaConsumer, TopicPartition
    from kafka.errors import KafkaError

    partitions = []
    for topic in topics:
        count = partition_count(settings, topic)
        if count is None:
            raise DependencyError(
                f"topic {topic!r} does not exist at {settings.brokers}; make it with `streamrec topics create`"
            )
        partitions += [TopicPartition(topic, number) for number in range(count)]
    try:
        consumer = KafkaConsumer(
            **settings.kafka_python_config(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            allow_auto_create_topics=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=100,
        )
        consumer.assign(partitions)
        if from_start:
            consumer.seek_to_beginning(*partitions)
        else:
            _pass_over(consumer, partitions)
        for partition in partitions:
            consumer.position(partition)  # seeks are lazy: settle now where reading begins
    except KafkaError as error:
        raise DependencyError(f"topic {topics} cannot be read from {settings.brokers}: {error}") from error
    return consumer


def _pass_over(consumer: KafkaConsumer, partitions: list[TopicPartition]) -> None:
    """Go behind the last records. Tansu names the beginning of the last batch as the end, so that batch is read."""
    begins, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    for place in partitions:
        consumer.seek(place, max(begins[place], ends[place] - 1))
    deadline_s = time.monotonic() + TAIL_PATIENCE_S
    while time.monotonic() < deadline_s and any(
        consumer.position(place) < max(ends[place], consumer.highwater(place) or 0) for place in partitions
    ):
        consumer.poll(timeout_ms=100)


def read_topic(settings: KafkaSettings, topic: str) -> Iterator[ConsumerRecord]:
    """Every record that the topic holds now, each partition in the order of its offsets.

    Raises:
        DependencyError: If the broker cannot be reached or stops answering on the way.
    """
    with closing(open_consumer(settings, [topic], from_start=True)) as consumer:
        ends = consumer.end_offsets(consumer.assignment())
        goals = dict(ends)
        fetched: set[TopicPartition] = set()
        moved_s = time.monotonic()
        while unread := [place for place, goal in goals.items() if consumer.position(place) < goal]:
            records = consumer.poll(timeout_ms=500)
            idle_s = time.monotonic() - moved_s
            if records:
                moved_s = time.monotonic()
            elif idle_s > TAIL_PATIENCE_S and all(consumer.position(place) >= ends[place] for place in unread):
                return
            elif idle_s > STALLED_AFTER_S:
                raise DependencyError(
                    f"topic {topic!r} has more records, but {settings.brokers} has sent none for"
                    f" {STALLED_AFTER_S:.0f} s; see that the brokers run, then try again"
                )
            # Tansu names the beginning of the last batch as the end; the first fetch tells where that batch ends.
            for place in records.keys() - fetched:
                goals[place] = max(goals[place], consumer.highwater(place) or 0)
            fetched |= records.keys()
            for place, found in records.items():
                if place in unread:
                    yield from found


class Titles(ItemCatalogue):
    """Items by what people call them."""

    def of(self, item_id: str, catalogue: str = DEFAULT_CATALOGUE) -> str:
        """The item's title, or its id where there is no title."""
        return self.title(item_hash(item_id, catalogue)) or item_id


def read_titles(settings: KafkaSettings) -> Titles:
    """Titles of all items that the topic `items` holds now.

    Raises:
        DependencyError: If the broker cannot be reached or the topic does not exist.
    """
    titles = Titles()
    for record in read_topic(settings, settings.topics.items):
        titles.apply(record.key, record.value)
    return titles


def titles_if_there(settings: KafkaSettings) -> Titles:
    """The same, for commands that read Redis: without Kafka they say so and show ids."""
    try:
        return read_titles(settings)
    except DependencyError as error:
        print(f"streamrec: no titles, showing ids: {error}", file=sys.stderr)
        return Titles()
