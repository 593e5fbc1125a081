"""Figures as tables and as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from streams.cli.bench.benchmark import Benchmark, Figures

Results = Mapping[str, Figures]
"""Figures by the benchmark's name, and under `environment` where they come from."""


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
            verdict = "[green]reached[/]" if goal.met(value) else "[red]missed[/]"
            drawn.add_row(key, shown(value), f"{goal} {verdict}")
    return drawn


def shown(value: float | int | str) -> str:
    """A figure for people.

    Example:
        >>> shown(25012.34), shown(41.279), shown(0.6123), shown(400000)
        ('25,012', '41.3', '0.612', '400,000')
    """
    if isinstance(value, str):
        return value
    if isinstance(value, int):
        return f"{value:,}"
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:,.3g}" if abs(value) < 10 else f"{value:,.1f}"


def write_json(path: Path, results: Results) -> None:
    """One object for each benchmark with flat keys, and the environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")


def read_json(folder: Path) -> dict[str, dict[str, Figures]]:
    """What `streamrec bench --output` wrote: for each benchmark its figures and their environment, by name."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        content = json.loads(path.read_text())
        if path.stem in content:
            found[path.stem] = content
    return found
