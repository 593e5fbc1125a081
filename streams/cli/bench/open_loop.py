"""A load that waits for nobody: events leave when they are due, whether or not the ones before are answered.

Times count from the moment an event was due, so a stall is paid by every event that it held up and not only
by the one that was under way (no coordinated omission). What leaves together is drawn from a Poisson process,
in ticks of two milliseconds; everything is encoded before the first one.
"""

from __future__ import annotations

import asyncio
import threading
import time
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from streams.cli.bench.events import EncodedEvent, Load, RecordBatch, record_batch
from streams.cli.bench.measures import percentile
from streams.cli.bench.sender import Sender

TICK_S = 0.002
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


def poisson_schedule(start: int, rate: float, seconds: float, seed: int = 0) -> Schedule:
    """Events ``start`` and following, at random moments of the tick's grid, ``rate`` a second on average.

    Example:
        >>> schedule = poisson_schedule(100, rate=1000.0, seconds=4.0)
        >>> bool(abs(len(schedule.due_s) - 4000) < 400), bool((np.diff(schedule.due_s) >= 0).all())
        (True, True)
    """
    n_ticks = round(seconds / TICK_S)
    counts = np.random.default_rng(seed).poisson(rate * TICK_S, n_ticks)
    return Schedule(start, np.repeat(np.arange(n_ticks) * TICK_S, counts))


class Sent(NamedTuple):
    """What an open-loop load did."""

    due_s: npt.NDArray[np.float64]
    """`time.perf_counter` at which each event was due. Shape: ``(n_events,)``."""
    lag_s: npt.NDArray[np.float64]
    """How much later than due each tick's bytes were written. Shape: ``(n_ticks,)``."""

    def lag_figures(self, suffix: str) -> dict[str, float]:
        """How late the load generator itself was."""
        return {
            f"send_lag_p50_ms{suffix}": round(1e3 * percentile(self.lag_s, 50), 3),
            f"send_lag_p99_ms{suffix}": round(1e3 * percentile(self.lag_s, 99), 3),
        }


async def send_open_loop(sender: Sender, load: Load, schedule: Schedule) -> Sent:
    """Send each event of a schedule when it is due, and return once the last one is out.

    A thread keeps the time, since asyncio's own timers are a millisecond coarse; the event loop writes.
    """
    moments, ticks = ticks_of(load, schedule)
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    written_s = np.zeros(len(moments))

    def write(place: int) -> None:
        sender.send(ticks[place])
        loop.call_soon(stamp, place)  # after the task that writes

    def stamp(place: int) -> None:
        written_s[place] = time.perf_counter()
        if place == len(moments) - 1:
            over.set()

    start_s = time.perf_counter() + _LEAD_S

    def keep_time() -> None:
        for place, moment in enumerate(moments):
            wait_s = start_s + moment - time.perf_counter()
            if wait_s > 0:
                time.sleep(wait_s)
            loop.call_soon_threadsafe(write, place)

    thread = threading.Thread(target=keep_time, daemon=True)
    thread.start()
    await over.wait()
    thread.join()
    await sender.flush()
    return Sent(start_s + schedule.due_s, written_s - (start_s + np.array(moments)))


def ticks_of(load: Load, schedule: Schedule) -> tuple[list[float], list[list[RecordBatch]]]:
    """Moments at which something is due, and what: a record batch for each partition concerned."""
    moments, starts = np.unique(schedule.due_s, return_index=True)
    ends = [*starts[1:].tolist(), len(schedule.due_s)]
    ticks = []
    for start, end in zip(starts.tolist(), ends, strict=True):
        by_partition: dict[int, list[EncodedEvent]] = {}
        for event in load.events[schedule.start + start : schedule.start + end]:
            by_partition.setdefault(event.partition, []).append(event)
        ticks.append([record_batch(partition, events) for partition, events in by_partition.items()])
    return moments.tolist(), ticks
