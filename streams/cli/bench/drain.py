"""One measurement: a topic full of events, processes that answer them, and what that costs.

Warm-up and cool-down are left out: the clock and the CPU time run from the moment a first share of the lists
is there to the moment another share is (15 % and 95 % unless told otherwise). Afterwards every event is
checked to have its list.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from enum import Enum
from math import inf
from typing import NamedTuple

from rich.console import Console

from streams.cli.bench.answers import Answers, Receiver
from streams.cli.bench.errors import BenchError
from streams.cli.bench.events import Load, RecordBatch
from streams.cli.bench.sender import Sender
from streams.cli.bench.stage import Ground, Process
from streams.cli.progress import counted

MEASURED = (0.15, 0.95)
FIRST_LIST_TIMEOUT_S = 180.0
STALL_TIMEOUT_S = 30.0
"""So long without any list, and what is unanswered counts as lost."""
READ_EVERY_S = 0.05
QUIET_S = 0.6
"""How long to look for lists that come twice once all are there."""


@dataclass(frozen=True)
class Drained:
    """What draining a topic took."""

    n_events: int
    n_answered: int
    lost: int
    duplicates: int
    events_per_s: float
    cpu_us_per_event: float
    """CPU time of all measured processes, user and system."""
    measured_events: int
    measured_s: float
    complete: bool
    """Whether the topic was drained to its end; False where the time was over first."""
    rss_bytes: int
    """Of all processes, at the end of the measured interval."""
    batch_events: float = 0.0
    """Events that a worker works out at once, on average; 0 for other processes."""
    stage_us: dict[str, float] = field(default_factory=dict)
    """Microseconds an event of each stage of a worker's batch, by the worker's own clock."""

    def figures(self) -> dict[str, float]:
        """As flat keys of a benchmark's JSON."""
        return {
            "events": self.n_events,
            "lost": self.lost,
            "duplicates": self.duplicates,
            "events_per_s": round(self.events_per_s, 1),
            "cpu_us_per_event": round(self.cpu_us_per_event, 2),
            "measured_events": self.measured_events,
            "measured_s": round(self.measured_s, 3),
            "rss_mb": round(self.rss_bytes / 1e6, 1),
            **({"batch_events": round(self.batch_events, 1)} if self.batch_events else {}),
            **{f"stage_us_{stage}": round(us, 2) for stage, us in self.stage_us.items()},
        }


def fill(ground: Ground, load: Load) -> None:
    """Publish a whole load and wait until the broker has it: hundreds of thousands of events a second.

    Raises:
        BenchError: If the broker does not take it.
    """
    asyncio.run(_fill(ground, load.batches()))


def drain(
    ground: Ground,
    load: Load,
    processes: Sequence[Process],
    console: Console,
    *,
    measured: tuple[float, float] = MEASURED,
    most_s: float = 120.0,
    fill_now: bool = False,
    name: str | None = None,
) -> Drained:
    """Watch processes answer a load, and measure them over a part of it.

    Args:
        ground: Where they run.
        load: What is in the topic, or goes there now.
        processes: Those that answer, started already; their CPU times are added up.
        console: Where progress is shown.
        measured: Between which shares of the lists to measure.
        most_s: When the measured interval is longer than this, the processes are stopped and it ends there.
        fill_now: Whether to publish the load first, for processes that are ready.
        name: What drains, in progress and in messages; the first process's name if not given.

    Raises:
        BenchError: If a process ends by itself, or no list comes at all.
    """
    batches = list(load.batches()) if fill_now else []
    return asyncio.run(_drain(ground, load, processes, console, measured, most_s, batches, name or processes[0].name))


async def _fill(ground: Ground, batches: Iterable[RecordBatch]) -> None:
    async with Sender(ground.kafka, ground.kafka.topics.interactions) as sender:
        await sender.send_all(batches)


async def _drain(
    ground: Ground,
    load: Load,
    processes: Sequence[Process],
    console: Console,
    measured: tuple[float, float],
    most_s: float,
    batches: Sequence[RecordBatch],
    name: str,
) -> Drained:
    answers = Answers(load)
    first, last = (max(1, round(len(load) * share)) for share in measured)
    async with Receiver(ground.kafka, answers, pause_s=READ_EVERY_S) as receiver:
        if batches:
            await _fill(ground, batches)
        with counted(console, f"  {name}", len(load)) as done:
            watch = Watch(ground, answers, receiver, done)
            if await watch.until(first, FIRST_LIST_TIMEOUT_S) is not Reached.YES:
                raise BenchError(
                    f"{name} answered {answers.n_answered:,} of {len(load):,} events and then nothing for"
                    f" {FIRST_LIST_TIMEOUT_S:.0f} s; the logs are in {ground.directory}"
                )
            begin = await _mark(answers, processes)
            reached = await watch.until(last, STALL_TIMEOUT_S, deadline_s=begin.at_s + most_s)
            end = await _mark(answers, processes)
            if reached is Reached.LATE:
                for process in processes:
                    await asyncio.to_thread(process.stop)
            else:
                await watch.until(len(load), STALL_TIMEOUT_S)
            await watch.until_quiet()
    if end.n_answered <= begin.n_answered:
        raise BenchError(f"{name} stood still after {end.n_answered:,} events; the logs are in {ground.directory}")
    return _result(load, answers, begin, end, complete=reached is not Reached.LATE)


class _Mark(NamedTuple):
    """One end of the measured interval."""

    n_answered: int
    at_s: float
    cpu_s: float
    rss_bytes: int
    stage_s: dict[str, float]
    stage_calls: dict[str, float]


async def _mark(answers: Answers, processes: Sequence[Process]) -> _Mark:
    usages = [process.usage() for process in processes]
    n_answered, at_s = answers.n_answered, time.perf_counter()
    stage_s: dict[str, float] = defaultdict(float)
    stage_calls: dict[str, float] = defaultdict(float)
    for process in processes:
        for stage, spent in (await asyncio.to_thread(process.stages)).items():
            stage_s[stage] += spent.seconds
            stage_calls[stage] += spent.calls
    cpu_s, rss_bytes = sum(usage.cpu_s for usage in usages), sum(usage.rss_bytes for usage in usages)
    return _Mark(n_answered, at_s, cpu_s, rss_bytes, stage_s, stage_calls)


def _result(load: Load, answers: Answers, begin: _Mark, end: _Mark, *, complete: bool) -> Drained:
    n, seconds = end.n_answered - begin.n_answered, end.at_s - begin.at_s
    tally = answers.tally(complete=complete)
    return Drained(
        n_events=len(load),
        n_answered=tally.answered,
        lost=tally.lost,
        duplicates=tally.duplicates,
        events_per_s=n / seconds,
        cpu_us_per_event=1e6 * (end.cpu_s - begin.cpu_s) / n,
        measured_events=n,
        measured_s=seconds,
        complete=complete,
        rss_bytes=end.rss_bytes,
        batch_events=n / calls if (calls := end.stage_calls["encode"] - begin.stage_calls["encode"]) else 0.0,
        stage_us={stage: 1e6 * (s - begin.stage_s[stage]) / n for stage, s in end.stage_s.items()},
    )


class Reached(Enum):
    """Whether as many lists came as were waited for."""

    YES = "yes"
    LATE = "late"
    """The deadline came first."""
    STALLED = "stalled"
    """Nothing came for too long."""


class Watch:
    """Waits for lists, with open eyes for what breaks meanwhile.

    Args:
        ground: Whose processes must live.
        answers: What has come.
        receiver: What brings it.
        show: Told how many events have their list.
    """

    def __init__(self, ground: Ground, answers: Answers, receiver: Receiver, show: Callable[[int], None]) -> None:
        self._ground, self._answers, self._receiver, self._show = ground, answers, receiver, show

    async def until(self, n_answered: int, stall_s: float, deadline_s: float = inf) -> Reached:
        """Wait until so many events have a list.

        Args:
            n_answered: How many.
            stall_s: Give up when none has come for so long.
            deadline_s: Give up at this `time.perf_counter`.

        Raises:
            BenchError: If a process ends by itself.
        """
        moved_s = time.perf_counter()
        while self._answers.n_answered < n_answered:
            if await self._moved(0.5):
                moved_s = time.perf_counter()
                self._show(self._answers.n_answered)
            else:
                self._ground.check()
            if time.perf_counter() > deadline_s:
                return Reached.LATE
            if time.perf_counter() - moved_s > stall_s:
                return Reached.STALLED
        self._show(self._answers.n_answered)
        return Reached.YES

    async def until_quiet(self) -> None:
        """Wait until no list has come for a while."""
        while await self._moved(QUIET_S):
            self._show(self._answers.n_answered)

    async def _moved(self, seconds: float) -> bool:
        self._receiver.check()
        try:
            async with asyncio.timeout(seconds):
                await self._receiver.moved.wait()
        except TimeoutError:
            return False
        self._receiver.moved.clear()
        return True
