"""Makes batches durable beside the work on the next ones: one lane a partition.

Within a lane one delivery follows the other, and each takes all that waits: the slower Kafka and Redis answer, the
more they are told at once. Lanes do not wait for each other, so a partition whose dead letter
cannot be written, or whose lists Kafka does not take, holds up no other. What waits is bounded in bytes: a lane
that is full pauses its partition, and resumes it when half of that is done.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from streams.batches import Computed, Handled, OwnedPartition, together
from streams.errors import StreamsError

logger = logging.getLogger(__name__)
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
    waiting: list[Computed] = field(default_factory=list)
    """Not yet being delivered."""
    waiting_bytes: int = 0
    """With what is being delivered."""
    paused: bool = False
    broken: bool = False
    """Going on would do harm."""
    task: asyncio.Task[None] | None = None


class Lanes:
    """Delivers computed batches.

    Args:
        deliver: Makes one batch durable; waits as long as that takes.
        handled: Told what became of each batch, in order.
        valve: Where a full lane holds its partition up.
        limit_bytes: How much may wait in a lane before its partition is paused.
        on_fatal: Told of an error after which going on would do harm.
    """

    def __init__(
        self,
        deliver: Callable[[Computed], Awaitable[Handled]],
        handled: Callable[[Computed, Handled], Awaitable[None]],
        valve: Valve,
        limit_bytes: int,
        on_fatal: Callable[[StreamsError], None],
    ) -> None:
        self._deliver, self._handled, self._valve = deliver, handled, valve
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
        lane.waiting.append(computed)
        lane.waiting_bytes += computed.size_bytes
        if lane.waiting_bytes > self._limit_bytes and not lane.paused:
            lane.paused = True
            self._valve.pause(computed.partition)
        if lane.task is None and not lane.broken:
            lane.task = asyncio.create_task(self._run(computed.partition, lane))
            self._tasks.add(lane.task)
            lane.task.add_done_callback(self._tasks.discard)

    def is_full(self, partition: int) -> bool:
        """Whether a partition stands paused until more of it is durable."""
        lane = self._lanes.get(partition)
        return lane is not None and lane.paused

    async def drained(self) -> None:
        """Wait until every lane is empty."""
        while tasks := [lane.task for lane in self._lanes.values() if lane.task]:
            await asyncio.wait(tasks)

    def abandon(self) -> None:
        """Drop all that waits, also what is being delivered: the log still has it."""
        for task in self._tasks:
            task.cancel()
        self._lanes.clear()

    async def _run(self, partition: int, lane: _Lane) -> None:
        try:
            while lane.waiting:
                computed = together(lane.waiting)
                lane.waiting.clear()
                handled = await self._delivered(computed)
                if handled is None:
                    lane.broken = True
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
            lane.task = None

    async def _delivered(self, computed: Computed) -> Handled | None:
        """Deliver; a defect is tried again in place, since leaving a batch out would lose events."""
        pause_s = 0.1
        while True:
            try:
                return await self._deliver(computed)
            except StreamsError as error:
                self._on_fatal(error)
                return None
            except Exception:
                start, end = computed.changes.start, computed.changes.end
                logger.exception("partition %d: offsets %d to %d failed; trying again", computed.partition, start, end)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
