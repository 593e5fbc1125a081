"""Figures as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from rich.table import Table

from streams.cli.bench.benchmark import BENCHMARKS, Benchmark, Figures, Verdict
from streams.cli.bench.errors import BenchError

Results = Mapping[str, Figures]
"""Figures by the benchmark's name, and under `environment` where they come from."""
_COLOURS = {Verdict.REACHED: "green", Verdict.MISSED: "red", Verdict.NO_DATA_SET: "yellow"}
ON_KAFKA = "-kafka"
"""Ends the names of files with what was measured on a Kafka that was given."""


def table(benchmark: Benchmark, figures: Figures) -> Table:
    """One benchmark's figures, each beside its goal where it has one."""
    goals = {goal.key: goal for goal in benchmark.goals}
    drawn = Table(title=f"{benchmark.name}: {benchmark.question}", title_justify="left")
    drawn.add_column("figure")
    drawn.add_column("value", justify="right")
    drawn.add_column("goal")
    for key, value in figures.items():
        goal = goals.get(key)
        if goal is None or isinstance(value, str):
            drawn.add_row(key, shown(value), "")
        else:
            verdict = goal.verdict(figures)
            drawn.add_row(key, shown(value), f"{goal} [{_COLOURS[verdict]}]{verdict.value}[/]")
    return drawn


def shown(value: float | int | str) -> str:
    """A figure for people.

    Example:
        >>> shown(25012.34), shown(41.279), shown(0.6123), shown(400000)
        ('25,012', '41.3', '0.6123', '400,000')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.4g}" if abs(value) < 10 else f"{value:,.1f}"


class Measured(NamedTuple):
    """What a file of `streamrec bench --output` holds."""

    benchmark: Benchmark
    figures: Figures
    environment: Figures


def figures_file(folder: Path, name: str, broker_is_given: bool) -> Path:
    """Where a benchmark's figures go: those of the embedded broker and those of a given Kafka are kept apart.

    Example:
        >>> figures_file(Path("docs"), "latency", True).name, figures_file(Path("docs"), "latency", False).name
        ('latency-kafka.json', 'latency.json')
    """
    return folder / f"{name}{ON_KAFKA if broker_is_given else ''}.json"


def write_json(path: Path, results: Results, quick: bool = False) -> None:
    """One object for each benchmark with flat keys, the environment, and whether the figures mean something."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"quick": quick, **results}, indent=2, ensure_ascii=False) + "\n")


def insist_on_quick(option: str, given: Path, files: Iterable[Path]) -> None:
    """See that figures that mean nothing take the place of no others.

    Args:
        option: What the place was given by, such as `--json`.
        given: The place as it was given.
        files: Those that would be written.

    Raises:
        BenchError: If one of them holds figures that are not of `--quick`.
    """
    if real := [path.name for path in files if _holds_real_figures(path)]:
        raise BenchError(
            f"{option} {given}: {', '.join(real)} would be overwritten with figures of --quick, which mean nothing;"
            " name another place, or leave --quick out"
        )


def read_json(folder: Path) -> dict[str, Measured]:
    """What `streamrec bench --output` wrote, by the names of the files without their ending.

    Raises:
        BenchError: If a benchmark's file is damaged, or its figures are of `--quick`.
    """
    found = {}
    for path in sorted(folder.glob("*.json"), key=lambda path: path.stem):
        benchmark = BENCHMARKS.get(path.stem.removesuffix(ON_KAFKA))
        if benchmark:
            found[path.stem] = _read(path, benchmark)
    return found


def writes_anew(path: Path, benchmark: Benchmark) -> str:
    """What to do about a file that cannot be used, for messages."""
    brokers = " --brokers HOST:PORT" if path.stem.endswith(ON_KAFKA) else ""
    return f"`streamrec bench {benchmark.name}{brokers} --output {path.parent}` writes it anew"


def _read(path: Path, benchmark: Benchmark) -> Measured:
    again = writes_anew(path, benchmark)
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise BenchError(f"{path} cannot be read: {error}; {again}") from error
    found: dict[str, Any] = content if isinstance(content, dict) else {}
    figures, environment = found.get(benchmark.name), found.get("environment")
    if not isinstance(figures, dict) or not isinstance(environment, dict):
        raise BenchError(f"{path} does not hold figures of {benchmark.name} and their environment; {again}")
    if found.get("quick"):
        raise BenchError(f"{path} holds figures of --quick, which mean nothing; {again}")
    return Measured(benchmark, figures, environment)


def _holds_real_figures(path: Path) -> bool:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and not content.get("quick") and any(name in content for name in BENCHMARKS)
