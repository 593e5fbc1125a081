"""Which events have their list: counted as the lists come in, without parsing them."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.cli.bench.events import Load
from streams.settings import KafkaSettings

_EVENT_ID = re.compile(rb'"event_id":\s*"(\d+)"')
_FETCH_BYTES = 4 * 1024 * 1024
_POLL_MS = 200


class Tally(NamedTuple):
    """What became of the events of a load."""

    answered: int
    lost: int
    """Events without a list although a later one of the same partition has one, or the stream stood still."""
    duplicates: int
    """Lists beyond the first of an event."""


class Answers:
    """How often each event of a load was answered, and when for the first time.

    Args:
        load: The events.
    """

    def __init__(self, load: Load) -> None:
        self._load = load
        self.n_answered = 0
        """Events that have at least one list."""
        self.counts: npt.NDArray[np.int64] = np.zeros(len(load), dtype=np.int64)
        self.received_s: npt.NDArray[np.float64] = np.full(len(load), np.nan)
        """`time.perf_counter` of the first list of each event. Shape: ``(n_events,)``."""
        self.unknown = 0
        """Lists that belong to no event of the load."""
        self.list_bytes = 0
        """How long the newest list is."""

    def add(self, values: list[bytes], now_s: float) -> None:
        """Note lists that have just come in."""
        search, self.list_bytes = _EVENT_ID.search, len(values[-1]) if values else self.list_bytes
        numbers = [int(match[1]) if (match := search(value)) else -1 for value in values]
        received = np.array(numbers, dtype=np.int64)
        known = received[(received >= 0) & (received < len(self.counts))]
        self.unknown += len(received) - len(known)
        first = np.unique(known[self.counts[known] == 0])
        self.received_s[first] = now_s
        self.n_answered += len(first)
        np.add.at(self.counts, known, 1)

    def tally(self, *, complete: bool, start: int = 0, end: int | None = None) -> Tally:
        """The count at the end.

        Args:
            complete: Whether every event should have a list. Else the process was stopped on the way, and only
                what came before the newest answered event of its partition should.
            start: Number of the first event that was published, where every event should have a list.
            end: Number after the last event that was published; all of them if not given.
        """
        answered = self.counts > 0
        if complete:
            expected = np.zeros(len(answered), dtype=bool)
            expected[start:end] = True
        else:
            newest = np.full(self._load.n_partitions, -1)
            np.maximum.at(newest, self._load.partition[answered], self._load.rank[answered])
            expected = self._load.rank <= newest[self._load.partition]
        return Tally(int(answered.sum()), int((expected & ~answered).sum()), int(np.maximum(self.counts - 1, 0).sum()))


class Receiver:
    """Reads the recommendations of one deployment from their beginning, in a task. Enter it to start.

    Args:
        kafka: The broker and the topics.
        answers: Where the lists are noted.
        on_lists: Called after each fetch that brought some, with their values.
        max_wait_ms: How long the broker may hold back a fetch while it has nothing.
        topic: What to read; the recommendations if not given. Events name their `event_id` as lists do.
        pause_s: How long to leave the broker alone after a fetch. The embedded one goes through a log's whole list of
            batches for each, so a reader that is not timed reads seldom and much.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        answers: Answers,
        on_lists: Callable[[list[bytes], float], object] | None = None,
        max_wait_ms: int = 10,
        topic: str | None = None,
        pause_s: float = 0.0,
    ) -> None:
        self._kafka, self._answers, self._on_lists, self._max_wait_ms = kafka, answers, on_lists, max_wait_ms
        self._pause_s = pause_s
        self._topic = topic or kafka.topics.recommendations
        self.moved = asyncio.Event()
        """Set whenever lists have come in; whoever waits for it clears it."""

    async def __aenter__(self) -> Self:
        self._consumer = AIOKafkaConsumer(
            **self._kafka.aiokafka_config(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            fetch_max_wait_ms=self._max_wait_ms,
            max_partition_fetch_bytes=_FETCH_BYTES,
            isolation_level="read_committed",
        )
        await self._consumer.start()
        self._consumer.assign([TopicPartition(self._topic, partition) for partition in range(self._kafka.partitions)])
        self._task = asyncio.create_task(self._read())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task
        await self._consumer.stop()

    def check(self) -> None:
        """Raise what ended the reading, if something did."""
        if self._task.done():
            self._task.result()

    async def _read(self) -> None:
        while True:
            fetched: dict[Any, list[Any]] = await self._consumer.getmany(timeout_ms=_POLL_MS)
            if not fetched:
                continue
            now_s = time.perf_counter()
            values = [record.value for records in fetched.values() for record in records]
            self._answers.add(values, now_s)
            if self._on_lists:
                self._on_lists(values, now_s)
            self.moved.set()
            await asyncio.sleep(self._pause_s)
