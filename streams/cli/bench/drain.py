"""One measurement: a topic full of events, processes that answer them, and what that costs.

Warm-up and cool-down are left out: the clock and the CPU time run from the moment a first share of the lists
is there to the moment another share is (15 % and 95 % unless told otherwise). Afterwards every event is
checked to have its list.
"""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import NamedTuple

from rich.console import Console

from streams.cli.bench.answers import Answers, Receiver, Tally
from streams.cli.bench.errors import BenchError
from streams.cli.bench.events import Load, RecordBatch
from streams.cli.bench.measures import longest_gap
from streams.cli.bench.sender import Sender
from streams.cli.bench.stage import Ground, Process
from streams.cli.bench.watch import STALL_TIMEOUT_S, Reached, Watch
from streams.cli.progress import counted

MEASURED = (0.15, 0.95)
FIRST_LIST_TIMEOUT_S = 180.0
PAUSE_TIMEOUT_S = 10.0
"""So long without any list in the measured interval, and it ends; what is unanswered half a minute later is lost."""
LEAST_CPU_S = 0.1
"""CPU time that can be told to a tenth."""
READ_EVERY_S = 0.05
"""How often lists are read."""
_COMMIT_S = 0.1
"""After the last list of a burst: what the worker still does for it."""


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
    longest_pause_s: float
    """Without any list, within the measured interval."""
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
            "longest_pause_ms": round(1e3 * self.longest_pause_s),
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
    what = _What(ground, load, processes, console, most_s, name or processes[0].name)
    return asyncio.run(_drain(what, measured, batches))


def drain_bursts(ground: Ground, load: Load, worker: Process, console: Console, first: int, size: int) -> list[Drained]:
    """Let a worker answer the beginning of a load, then bursts of it, each measured for itself and from end to end.

    A burst is published once the one before is answered, so what a worker works out ahead is never counted to another
    burst.

    Args:
        ground: Where the worker runs.
        load: Nothing of it is published yet.
        worker: It is ready.
        console: Where progress is shown.
        first: Number of the first event of the first burst; those before are not measured.
        size: Events of one burst.

    Raises:
        BenchError: If the worker ends by itself, or does not answer.
    """
    return asyncio.run(_bursts(_What(ground, load, [worker], console, inf, worker.name), first, size))


class _What(NamedTuple):
    """What is drained, and by whom."""

    ground: Ground
    load: Load
    processes: Sequence[Process]
    console: Console
    most_s: float
    name: str


async def _fill(ground: Ground, batches: Iterable[RecordBatch]) -> None:
    async with Sender(ground.kafka, ground.kafka.topics.interactions) as sender:
        await sender.send_all(batches)


async def _drain(what: _What, measured: tuple[float, float], batches: Sequence[RecordBatch]) -> Drained:
    ground, load, processes, console, most_s, name = what
    answers = Answers(load)
    first, last = (max(1, round(len(load) * share)) for share in measured)
    async with Receiver(ground.kafka, answers, pause_s=READ_EVERY_S) as receiver:
        if batches:
            await _fill(ground, batches)
        with counted(console, f"  {name}", len(load)) as done:
            watch = Watch(ground, answers, receiver, done)
            start = await _mark(answers, processes)
            if await watch.until(first, FIRST_LIST_TIMEOUT_S) is not Reached.YES:
                raise _stood_still(what, answers, FIRST_LIST_TIMEOUT_S)
            begin = await _mark(answers, processes)
            reached = await watch.until(last, PAUSE_TIMEOUT_S, deadline_s=begin.at_s + most_s)
            end = await _mark(answers, processes)
            if reached is Reached.LATE:
                for process in processes:
                    await asyncio.to_thread(process.stop)
            else:
                await watch.until(len(load), STALL_TIMEOUT_S)
            await watch.until_quiet()
    begin = measured_from(start, begin, end)
    return _result(load, answers, answers.tally(complete=reached is not Reached.LATE), begin, end)


async def _bursts(what: _What, first: int, size: int) -> list[Drained]:
    ground, load, processes, console, _, name = what
    answers, marks = Answers(load), []
    async with (
        Receiver(ground.kafka, answers, pause_s=READ_EVERY_S) as receiver,
        Sender(ground.kafka, ground.kafka.topics.interactions) as sender,
    ):
        with counted(console, f"  {name}", len(load)) as done:
            watch = Watch(ground, answers, receiver, done)
            for start, end in [(0, first), *((n, min(n + size, len(load))) for n in range(first, len(load), size))]:
                batches = list(load.batches(start, end))
                begin = await _mark(answers, processes)
                await sender.send_all(batches)
                if await watch.until(end, FIRST_LIST_TIMEOUT_S) is not Reached.YES:
                    raise _stood_still(what, answers, FIRST_LIST_TIMEOUT_S)
                answered_s = time.perf_counter()
                await asyncio.sleep(_COMMIT_S)
                marks.append((begin, (await _mark(answers, processes))._replace(at_s=answered_s)))
            await watch.until_quiet()
    tally = answers.tally(complete=True)
    return [_result(load, answers, tally, begin, end) for begin, end in marks[1:]]


def _stood_still(what: _What, answers: Answers, seconds: float) -> BenchError:
    return BenchError(
        f"{what.name} answered {answers.n_answered:,} of {len(what.load):,} events, then nothing for {seconds:.0f} s;"
        f" the logs are in {what.ground.directory}"
    )


class Mark(NamedTuple):
    """One end of the measured interval."""

    n_answered: int
    at_s: float
    cpu_s: float
    rss_bytes: int
    stage_s: dict[str, float]
    stage_calls: dict[str, float]


def measured_from(start: Mark, begin: Mark, end: Mark) -> Mark:
    """Where to measure from: the processes' start, where so few events came that their cost cannot be told.

    One fetch may take a small load whole, and the system counts CPU time in ticks of ten milliseconds.
    """
    return begin if end.n_answered > begin.n_answered and end.cpu_s - begin.cpu_s >= LEAST_CPU_S else start


async def _mark(answers: Answers, processes: Sequence[Process]) -> Mark:
    usages = [process.usage() for process in processes]
    n_answered, at_s = answers.n_answered, time.perf_counter()
    stage_s: dict[str, float] = defaultdict(float)
    stage_calls: dict[str, float] = defaultdict(float)
    for process in processes:
        for stage, spent in (await asyncio.to_thread(process.stages)).items():
            stage_s[stage] += spent.seconds
            stage_calls[stage] += spent.calls
    cpu_s, rss_bytes = sum(usage.cpu_s for usage in usages), sum(usage.rss_bytes for usage in usages)
    return Mark(n_answered, at_s, cpu_s, rss_bytes, stage_s, stage_calls)


def _result(load: Load, answers: Answers, tally: Tally, begin: Mark, end: Mark) -> Drained:
    n, seconds = end.n_answered - begin.n_answered, end.at_s - begin.at_s
    return Drained(
        n_events=len(load),
        n_answered=tally.answered,
        lost=tally.lost,
        duplicates=tally.duplicates,
        events_per_s=n / seconds,
        cpu_us_per_event=1e6 * (end.cpu_s - begin.cpu_s) / n,
        measured_events=n,
        measured_s=seconds,
        longest_pause_s=longest_gap(answers.received_s, begin.at_s, end.at_s).seconds,
        rss_bytes=end.rss_bytes,
        batch_events=n / calls if (calls := end.stage_calls["encode"] - begin.stage_calls["encode"]) else 0.0,
        stage_us={stage: 1e6 * (s - begin.stage_s[stage]) / n for stage, s in end.stage_s.items()},
    )
