"""Makes batches durable beside the work on the next ones: one lane a partition.

A lane has two stages: what a batch leads to is sent, and when Kafka has acknowledged all of it, its state is stored.
In each stage one batch follows the other, and each step takes all that waits: the slower Kafka and Redis answer, the
more they are told at once. The next batch is sent while the state of the one before is being stored, so no list waits
for Redis.

Lanes do not wait for each other: a partition whose dead letter cannot be written, or whose lists Kafka does not take,
holds up no other. What waits is bounded in bytes: a lane that is full pauses its partition, and resumes it when half is
done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from streams.batches import Computed, Handled, OwnedPartition, together
from streams.errors import StreamsError

logger = logging.getLogger(__name__)
T = TypeVar("T")
_LONGEST_PAUSE_S = 30.0


class Valve(Protocol):
    """Lets a partition be read, or not."""

    def pause(self, partition: int) -> None:
        """Fetch no more of a partition."""

    def resume(self, partition: int) -> None:
        """Fetch a partition again."""


@dataclass(slots=True)
class _Lane:
    owned: OwnedPartition
    unsent: list[Computed] = field(default_factory=list)
    sent: list[Computed] = field(default_factory=list)
    """Acknowledged by Kafka; their state is not being stored yet."""
    waiting_bytes: int = 0
    """Of all that is not durable."""
    paused: bool = False
    broken: bool = False
    """Going on would do harm."""
    sending: asyncio.Task[None] | None = None
    storing: asyncio.Task[None] | None = None


class Lanes:
    """Delivers computed batches.

    Args:
        send: Has what a batch leads to acknowledged; waits as long as that takes.
        store: Makes the state of a batch that was sent durable; waits as long as that takes.
        handled: Told what became of each batch, in order.
        valve: Where a full lane holds its partition up.
        limit_bytes: How much may wait in a lane before its partition is paused.
        on_fatal: Told of an error after which going on would do harm.
    """

    def __init__(
        self,
        send: Callable[[Computed], Awaitable[object]],
        store: Callable[[Computed], Awaitable[Handled]],
        handled: Callable[[Computed, Handled], Awaitable[None]],
        valve: Valve,
        limit_bytes: int,
        on_fatal: Callable[[StreamsError], None],
    ) -> None:
        self._send, self._store, self._handled, self._valve = send, store, handled, valve
        self._limit_bytes, self._on_fatal = limit_bytes, on_fatal
        self._lanes: dict[int, _Lane] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        """Those of earlier ownerships, too, until they have come to their ends."""

    @property
    def waiting_bytes(self) -> int:
        """What waits in all lanes."""
        return sum(lane.waiting_bytes for lane in self._lanes.values())

    def push(self, computed: Computed) -> None:
        """Queue a batch behind those of its partition; never waits."""
        lane = self._lanes.get(computed.partition)
        if lane is None or lane.owned is not computed.owned:  # what waits in an old lane is dropped as stale
            lane = self._lanes[computed.partition] = _Lane(computed.owned)
        lane.unsent.append(computed)
        lane.waiting_bytes += computed.size_bytes
        if lane.waiting_bytes > self._limit_bytes and not lane.paused:
            lane.paused = True
            self._valve.pause(computed.partition)
        if lane.sending is None and not lane.broken:
            lane.sending = self._task(self._send_all(computed.partition, lane))

    def _task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    def is_full(self, partition: int) -> bool:
        """Whether a partition stands paused until more of it is durable."""
        lane = self._lanes.get(partition)
        return lane is not None and lane.paused

    async def drained(self) -> None:
        """Wait until every lane is empty."""
        while tasks := [task for lane in self._lanes.values() for task in (lane.sending, lane.storing) if task]:
            await asyncio.wait(tasks)

    def abandon(self) -> None:
        """Drop all that waits, also what is being delivered: the log still has it."""
        for task in self._tasks:
            task.cancel()
        self._lanes.clear()

    async def _send_all(self, partition: int, lane: _Lane) -> None:
        try:
            while lane.unsent and not lane.broken:
                computed = together(lane.unsent)
                lane.unsent.clear()
                await self._until_done(self._send, computed, lane)
                lane.sent.append(computed)  # whatever has become of it: its state is stored only if that is right
                if lane.storing is None and not lane.broken:
                    lane.storing = self._task(self._store_all(partition, lane))
        finally:
            lane.sending = None

    async def _store_all(self, partition: int, lane: _Lane) -> None:
        try:
            while lane.sent and not lane.broken:
                computed = together(lane.sent)
                lane.sent.clear()
                handled = await self._until_done(self._store, computed, lane)
                if handled is None:
                    return
                lane.waiting_bytes -= computed.size_bytes
                try:
                    await self._handled(computed, handled)
                except Exception as problem:  # of a rebalance in between; the partition is acquired anew
                    logger.warning("partition %d: after a batch: %s: %s", partition, type(problem).__name__, problem)
                if lane.paused and 2 * lane.waiting_bytes <= self._limit_bytes and self._lanes.get(partition) is lane:
                    lane.paused = False
                    self._valve.resume(partition)
        finally:
            lane.storing = None

    async def _until_done(self, stage: Callable[[Computed], Awaitable[T]], computed: Computed, lane: _Lane) -> T | None:
        """One stage; a defect is tried again in place, since leaving a batch out would lose events.

        Returns:
            What it returns; None, with the lane broken, after an error that forbids to go on.
        """
        pause_s = 0.1
        while True:
            try:
                return await stage(computed)
            except StreamsError as error:
                lane.broken = True
                self._on_fatal(error)
                return None
            except Exception:
                start, end = computed.changes.start, computed.changes.end
                logger.exception("partition %d: offsets %d to %d failed; trying again", computed.partition, start, end)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
