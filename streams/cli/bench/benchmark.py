"""What a benchmark is: a name, a question, a run that ends in flat figures, and the goals for some of them."""

from __future__ import annotations

from enum import Enum
from importlib import import_module
from typing import TYPE_CHECKING, Literal, NamedTuple

from streams.cli.bench.errors import UnknownBenchmarkError

if TYPE_CHECKING:
    from streams.cli.bench.stage import Stage

Figures = dict[str, float | int | str]
"""Flat: what a benchmark writes as one JSON object."""


class Counted:
    """What became of the events of all measurements of a benchmark."""

    def __init__(self) -> None:
        self._events = self._lost = self._duplicates = 0

    def add(self, events: int, lost: int, duplicates: int) -> None:
        """Count one measurement."""
        self._events += events
        self._lost += lost
        self._duplicates += duplicates

    def figures(self) -> Figures:
        """As flat keys of a benchmark's JSON.

        Example:
            >>> counted = Counted()
            >>> counted.add(10, 1, 0)
            >>> counted.add(20, 0, 2)
            >>> counted.figures()
            {'events': 30, 'lost': 1, 'duplicates': 2}
        """
        return {"events": self._events, "lost": self._lost, "duplicates": self._duplicates}


MADE_UP = "synthetic"
"""Clicks of a load that are no data set's."""


class Verdict(Enum):
    """What a figure is beside its goal."""

    REACHED = "reached"
    MISSED = "missed"
    NO_DATA_SET = "not measured: no data set"
    """The goal is for a data set, and what was measured had made-up clicks in its place."""


class Goal(NamedTuple):
    """What one figure is to reach."""

    key: str
    relation: Literal[">=", "<="]
    bound: float
    aim: float | None = None
    """A further goal, which need not be reached."""
    load_key: str = ""
    """Key of the figure that names the load, where the goal is for the clicks of a data set."""

    def met(self, value: float) -> bool:
        """Whether a value reaches it.

        Example:
            >>> Goal("p99_ms_at_50", "<=", 15).met(15.0)
            True
        """
        return value >= self.bound if self.relation == ">=" else value <= self.bound

    def verdict(self, figures: Figures) -> Verdict:
        """Whether figures that have this one reach it.

        Raises:
            ValueError: If it is no number.
        """
        if self.load_key and figures.get(self.load_key) == MADE_UP:
            return Verdict.NO_DATA_SET
        return Verdict.REACHED if self.met(float(figures[self.key])) else Verdict.MISSED

    def __str__(self) -> str:
        sign = "≥" if self.relation == ">=" else "≤"
        return f"{sign} {self.bound:,g}" + (f", aim {self.aim:,g}" if self.aim is not None else "")


class Benchmark(NamedTuple):
    """One benchmark, without what it takes to run it: that is imported once it runs."""

    name: str
    question: str
    module: str
    """Has ``run(stage) -> Figures``."""
    goals: tuple[Goal, ...] = ()
    memory_gb: float = 1.5
    """What it takes at most, all processes together; asked for before the first benchmark starts."""

    def run(self, stage: Stage) -> Figures:
        """Carry it out.

        Raises:
            BenchError: If it cannot be carried out.
        """
        figures: Figures = import_module(self.module).run(stage)
        return figures


_HERE = "streams.cli.bench"
BENCHMARKS = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark(
            "throughput",
            "How many events a second does one worker process answer, and what does one cost?",
            f"{_HERE}.throughput",
            (
                Goal("events_per_s", ">=", 15_000, aim=25_000),
                Goal("ratio_to_naive", ">=", 10),
                Goal("ratio_to_quix", ">=", 3),
                Goal("share_of_limit", ">=", 0.6),
            ),
        ),
        Benchmark(
            "latency",
            "How long does a list take, from publish to receipt, at several loads?",
            f"{_HERE}.latency",
            (Goal("p50_ms_at_50", "<=", 4), Goal("p99_ms_at_50", "<=", 15)),
        ),
        Benchmark(
            "catalogue",
            "What does the size of the catalogue change?",
            f"{_HERE}.catalogue",
            (
                Goal("diginetica_cpu_us_per_event", "<=", 70, aim=50, load_key="diginetica_load"),
                Goal("diginetica_recall", ">=", 0.95, load_key="diginetica_load"),
                Goal("1m_events_per_s", ">=", 4_000),
                Goal("1m_recall", ">=", 0.95),
            ),
            memory_gb=4.0,  # measured: 1.6 where a model of a million items is made, 1.1 in the worker
        ),
        Benchmark(
            "history",
            "Does an event cost more where the user has a longer past, and how large does a session get?",
            f"{_HERE}.history",
            (
                Goal("ratio_1000_to_10", "<=", 1.1),
                Goal("session_bytes_window_50", "<=", 1250),
                Goal("session_bytes_window_200", "<=", 3250),
            ),
        ),
        Benchmark("workers", "What do more worker processes cost?", f"{_HERE}.workers", memory_gb=3.0),
        Benchmark(
            "reload",
            "How long do lists pause while a model of a million items is swapped in?",
            f"{_HERE}.reload",
            (Goal("longest_gap_ms", "<=", 250), Goal("lost", "<=", 0)),
            memory_gb=5.0,  # the worker has two models of a million items for a moment
        ),
    )
}
"""By name, in the order in which they run."""


def chosen(names: list[str]) -> list[Benchmark]:
    """The benchmarks of these names, all where there are none, in the order in which they run.

    Raises:
        UnknownBenchmarkError: If a name is unknown.
    """
    if unknown := [name for name in names if name not in BENCHMARKS]:
        raise UnknownBenchmarkError(f"there is no benchmark {', '.join(unknown)}; there are {', '.join(BENCHMARKS)}")
    return [benchmark for name, benchmark in BENCHMARKS.items() if not names or name in names]


def lost_events(figures: Figures) -> dict[str, int]:
    """What was lost, by key, of every process that was measured; empty if nothing was.

    Example:
        >>> lost_events({"lost": 0, "naive_lost": 3, "longest_gap_ms": 12.0})
        {'naive_lost': 3}
    """
    return {
        key: int(value)
        for key, value in figures.items()
        if (key == "lost" or key.endswith("_lost")) and isinstance(value, int | float) and value > 0
    }
