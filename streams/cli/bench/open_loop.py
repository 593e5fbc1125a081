"""A load that waits for nobody: events leave when they are due, whether or not the ones before are answered.

Times count from the moment an event was due, so a stall is paid by every event that it held up and not only
by the one that was under way (no coordinated omission). What leaves together is drawn from a Poisson process,
in ticks of some milliseconds; everything is encoded before the first one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.cli.bench.events import EncodedEvent, Load, RecordBatch, record_batch
from streams.cli.bench.measures import percentile
from streams.cli.bench.sender import Sender

TICK_S = 0.002
"""Between two moments at which events may leave."""
_LEAD_S = 0.05
"""Between the start and the first tick."""


class Schedule(NamedTuple):
    """Which events are due when."""

    start: int
    """Number of the first event."""
    due_s: npt.NDArray[np.float64]
    """Of each event, since the start. Shape: ``(n_events,)``."""

    @property
    def end(self) -> int:
        """Number after the last event."""
        return self.start + len(self.due_s)


def poisson_schedule(start: int, rate: float, seconds: float, seed: int = 0, tick_s: float = TICK_S) -> Schedule:
    """Events ``start`` and following, at random moments of the tick's grid, ``rate`` a second on average.

    Example:
        >>> schedule = poisson_schedule(100, rate=1000.0, seconds=4.0)
        >>> bool(abs(len(schedule.due_s) - 4000) < 400), bool((np.diff(schedule.due_s) >= 0).all())
        (True, True)
    """
    n_ticks = round(seconds / tick_s)
    counts = np.random.default_rng(seed).poisson(rate * tick_s, n_ticks)
    return Schedule(start, np.repeat(np.arange(n_ticks) * tick_s, counts))


class Sent(NamedTuple):
    """What an open-loop load did."""

    due_s: npt.NDArray[np.float64]
    """`time.perf_counter` at which each event was due. Shape: ``(n_events,)``."""
    lag_s: npt.NDArray[np.float64]
    """How much later than due each tick's bytes were written. Shape: ``(n_ticks,)``."""
    end: int
    """Number after the last event that was sent."""

    def lag_figures(self) -> dict[str, float]:
        """How late the load generator itself was."""
        return {
            "send_lag_p50_ms": round(1e3 * percentile(self.lag_s, 50), 3),
            "send_lag_p99_ms": round(1e3 * percentile(self.lag_s, 99), 3),
        }


async def send_open_loop(
    sender: Sender, load: Load, schedule: Schedule, stop: Callable[[], bool] = lambda: False
) -> Sent:
    """Send each event of a schedule when it is due, and return once the last one is acknowledged.

    A thread keeps the time, since asyncio's own timers are a millisecond coarse; the event loop writes.

    Args:
        sender: Where to.
        load: The events.
        schedule: Which are due when.
        stop: Asked before each tick, in the thread; the rest of the schedule is left out once it says so.
    """
    moments, ends, ticks = ticks_of(load, schedule)
    loop, over, given_up = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    written_s: list[float] = []

    def write(place: int) -> None:
        sender.send(ticks[place])
        loop.call_soon(lambda: written_s.append(time.perf_counter()))  # after the task that writes

    start_s = time.perf_counter() + _LEAD_S

    def keep_time() -> None:
        for place, moment in enumerate(moments):
            wait_s = start_s + moment - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            if given_up.is_set() or stop():
                break
            loop.call_soon_threadsafe(write, place)
        loop.call_soon_threadsafe(lambda: loop.call_soon(over.set))

    thread = threading.Thread(target=keep_time, daemon=True)
    thread.start()
    try:
        await over.wait()
    finally:  # Ctrl-C, too, while there is a loop to call
        given_up.set()
        thread.join()
    await sender.flush()
    n_ticks = len(written_s)
    n_events = ends[n_ticks - 1] if n_ticks else 0
    lag_s = np.array(written_s) - (start_s + np.array(moments[:n_ticks]))
    return Sent(start_s + schedule.due_s[:n_events], lag_s, schedule.start + n_events)


def ticks_of(load: Load, schedule: Schedule) -> tuple[list[float], list[int], list[list[RecordBatch]]]:
    """Moments at which something is due, how many events are out after each, and what leaves.

    What leaves is a record batch for each partition concerned.
    """
    moments, starts = np.unique(schedule.due_s, return_index=True)
    ends = [*starts[1:].tolist(), len(schedule.due_s)]
    ticks = []
    for start, end in zip(starts.tolist(), ends, strict=True):
        by_partition: dict[int, list[EncodedEvent]] = {}
        for event in load.events[schedule.start + start : schedule.start + end]:
            by_partition.setdefault(event.partition, []).append(event)
        ticks.append([record_batch(partition, events) for partition, events in by_partition.items()])
    return moments.tolist(), ends, ticks
