"""Publishes records to topics, as fast as they go or at a given pace."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from encoders.records import SCHEMA_VERSION, Interaction, Item, Record, UserProfile
from streams.errors import DependencyError
from streams.topics import open_admin

if TYPE_CHECKING:
    from kafka import KafkaProducer

    from streams.settings import KafkaSettings

SCHEMA_HEADER = ("schema", str(SCHEMA_VERSION).encode())

MOST_CATCHING_UP_S = 0.05
"""How much lateness a `Pace` makes good: what a sleep oversleeps, but not a pause."""


class Pace:
    """Spaces records evenly: `rate` a second, and no burst to catch up after a pause.

    Args:
        rate: Records a second; None waits for nothing. May be set again at any time, by any thread.
        clock: Seconds that never run backwards.
        sleep: Blocks for the given seconds.

    Example:
        >>> waits = []
        >>> pace = Pace(4.0, clock=lambda: 10.0, sleep=waits.append)
        >>> for _ in range(3):
        ...     pace.wait()
        >>> waits
        [0.25, 0.5]
    """

    def __init__(
        self,
        rate: float | None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self.rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due_s = clock()

    def wait(self) -> None:
        """Block until the next record is due."""
        now = self._clock()
        if self.rate is None:
            self._due_s = now
            return
        if self._due_s > now:
            self._sleep(self._due_s - now)
        self._due_s = max(self._due_s, now - MOST_CATCHING_UP_S) + 1 / self.rate


def key_of(record: Record) -> bytes:
    """The Kafka key under which a record of a data set travels.

    Raises:
        TypeError: If the record is none that producers publish.
    """
    if isinstance(record, Item):
        return record.key
    if isinstance(record, Interaction | UserProfile):
        return record.user_id.encode()
    raise TypeError(f"producers publish interactions, items and users, not {type(record).__name__}")


def open_producer(settings: KafkaSettings, *, bulk: bool = False) -> KafkaProducer:
    """An idempotent kafka-python producer.

    Args:
        settings: Where Kafka is and how to log in.
        bulk: Gather records into large compressed batches, for throughput; else send each at once.

    Raises:
        DependencyError: If no broker answers or it does not let us in.
    """
    from kafka import KafkaProducer

    with open_admin(settings):  # says what is wrong within seconds, where the producer would try for a minute
        pass
    # Compressed not for size: kafka-python computes checksums in Python, at a third of a microsecond a byte.
    gathering = {"linger_ms": 20, "batch_size": 65536, "compression_type": "gzip"} if bulk else {}
    return KafkaProducer(**settings.kafka_python_config(), **gathering, allow_auto_create_topics=False)


def publish(
    producer: KafkaProducer,
    topic: str,
    records: Iterable[Record],
    *,
    pace: Pace | None = None,
    on_sent: Callable[[Record], object] | None = None,
) -> int:
    """Publish records in their order and wait until the brokers have all of them.

    Args:
        producer: Stays open.
        topic: Must exist.
        records: Interactions, items or users.
        pace: Waits before each record; as fast as possible if not given.
        on_sent: Called just before a record is handed to the producer.

    Returns:
        How many were published.

    Raises:
        DependencyError: If a record could not be delivered; those before it may have been.
    """
    from kafka.errors import KafkaError

    refusals: list[Exception] = []
    n_published = 0
    try:
        for record in records:
            if pace:
                pace.wait()
            if refusals:
                break
            if on_sent:
                on_sent(record)
            future = producer.send(topic, key=key_of(record), value=record.to_json(), headers=[SCHEMA_HEADER])
            future.add_errback(refusals.append)
            n_published += 1
        producer.flush()
    except KafkaError as error:
        refusals.append(error)
    if refusals:
        raise DependencyError(
            f"topic {topic!r} did not take all records ({refusals[0]});"
            " see that the brokers run and that `streamrec topics check` is content, then publish again"
        ) from refusals[0]
    return n_published
