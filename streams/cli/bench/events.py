"""The events of a benchmark: numbered, encoded once, gathered into record batches before the clock starts."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from aiokafka.record.default_records import DefaultRecordBatchBuilder

from streams.publish import SCHEMA_HEADER
from streams.routing import partition_of

RECORDS_PER_BATCH = 500
"""Of a preloaded topic: what a producer under load gathers."""


class Click(Protocol):
    """One event before it has its number."""

    @property
    def user_id(self) -> str:
        """Who clicked."""

    @property
    def item_id(self) -> str:
        """On what."""

    @property
    def timestamp_ms(self) -> int:
        """When."""


class EncodedEvent(NamedTuple):
    """A record's key and value, and where it belongs."""

    partition: int
    key: bytes
    value: bytes


class RecordBatch(NamedTuple):
    """A record batch as it goes to the broker."""

    partition: int
    data: bytes
    n_records: int


class Load:
    """The events of one benchmark. Event ``i`` has the id ``str(i)``, so lists are matched without a table.

    Args:
        clicks: In the order of their publication; ids of their own are not used.
        n_partitions: Of the topic they go to; a user's events share one.

    Attributes:
        partition: Of each event. Shape: ``(n_events,)``.
        rank: How many events come before it in its partition. Shape: ``(n_events,)``.
    """

    def __init__(self, clicks: Iterable[Click], n_partitions: int) -> None:
        self.n_partitions = n_partitions
        places: dict[str, int] = {}
        self.events: list[EncodedEvent] = []
        for number, click in enumerate(clicks):
            place = places.get(click.user_id)
            if place is None:
                place = places[click.user_id] = partition_of(click.user_id, n_partitions)
            value = json.dumps(
                {
                    "event_id": str(number),
                    "user_id": click.user_id,
                    "item_id": click.item_id,
                    "event_type": "click",
                    "timestamp_ms": click.timestamp_ms,
                },
                separators=(",", ":"),
            )
            self.events.append(EncodedEvent(place, click.user_id.encode(), value.encode()))
        self.n_users = len(places)
        self.partition: npt.NDArray[np.int64] = np.array([event.partition for event in self.events], dtype=np.int64)
        self.rank = _ranks(self.partition, n_partitions)

    def __len__(self) -> int:
        return len(self.events)

    def batches(self, start: int = 0, end: int | None = None, size: int = RECORDS_PER_BATCH) -> Iterator[RecordBatch]:
        """Events ``start`` to ``end`` as record batches of one partition each, in an order that keeps each user's."""
        waiting: list[list[EncodedEvent]] = [[] for _ in range(self.n_partitions)]
        for event in self.events[start:end]:
            mine = waiting[event.partition]
            mine.append(event)
            if len(mine) == size:
                yield record_batch(event.partition, mine)
                mine.clear()
        for partition, rest in enumerate(waiting):
            if rest:
                yield record_batch(partition, rest)


def record_batch(partition: int, events: list[EncodedEvent]) -> RecordBatch:
    """One uncompressed record batch, with the headers that every producer of ours sends."""
    builder = DefaultRecordBatchBuilder(
        magic=2,
        compression_type=0,
        is_transactional=0,
        producer_id=-1,
        producer_epoch=-1,
        base_sequence=0,
        batch_size=1 << 30,
    )
    for offset, event in enumerate(events):
        builder.append(offset, None, key=event.key, value=event.value, headers=[SCHEMA_HEADER])
    return RecordBatch(partition, bytes(builder.build()), len(events))


def _ranks(partition: npt.NDArray[np.int64], n_partitions: int) -> npt.NDArray[np.int64]:
    ranks = np.zeros(len(partition), dtype=np.int64)
    for number in range(n_partitions):
        mine = partition == number
        ranks[mine] = np.arange(mine.sum())
    return ranks
