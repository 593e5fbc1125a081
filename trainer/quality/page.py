"""Draws the tables of `docs/models.md` from the cells' files, the goals and what was published.

They go between markers of the page, a pair for each data set, and the prose around them is left alone::

    <!-- figures: sasrec-ml-1m -->
    <!-- end -->

Models that are asked live have a pair of their own, ``<!-- figures: diginetica-ader live -->``. How long a run took,
by ``NAME.json`` of ``streamrec quality --summary``, goes between ``<!-- run: NAME -->`` and the same end, and what a
``NAME.json`` of ``streamrec evaluate --models … --json`` holds, between ``<!-- result: NAME -->`` and it, and that of
``streamrec evaluate --task ratings --json`` between ``<!-- ratings: NAME -->`` and it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from trainer.errors import ContenderError
from trainer.quality.cells import Cell, read_cell
from trainer.quality.goals import Goal, Goals, Published

FIGURES = ("ndcg@10", "recall@10", "mrr@20", "recall@20")
"""What is shown where there is neither goal nor published figure."""
_MARKED = re.compile(r"(<!-- figures: ([\w-]+?)( live)? -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
_RESULT = re.compile(r"(<!-- result: ([\w.-]+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
_RATINGS = re.compile(r"(<!-- ratings: ([\w.-]+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)
_RUN = re.compile(r"(<!-- run: ([\w.-]+) -->\n)(?:(?!<!--).)*(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Row:
    """One model of a data set, with what its cells hold."""

    name: str
    model: str
    """Its kind."""
    n_seeds: int
    """How many cells it should have."""
    cells: Sequence[Mapping[str, Any]]
    """Those that were run."""

    def mean(self, figure: str, end: str = "mean") -> float:
        """Of all seeds; of an interval's end, the mean of the seeds' ends."""
        return _mean([cell["figures"][figure][end] for cell in self.cells])

    @property
    def figures(self) -> dict[str, float]:
        """All of them, as means of the seeds; empty if nothing was run."""
        return {figure: self.mean(figure) for figure in self.cells[0]["figures"]} if self.cells else {}


def draw_page(page: Path, folder: Path, cells: Sequence[Cell], goals: Goals) -> None:
    """Bring a page up to date.

    Args:
        page: Has the markers.
        folder: Holds the cells' files.
        cells: All that there should be.
        goals: What is to be reached.

    Raises:
        ContenderError: If the page has no place for a data set, or a file is damaged.
        OSError: If the page cannot be read or written.
    """
    text = page.read_text()
    sections = dict.fromkeys((cell.data, cell.contender.live) for cell in cells)
    for data, live in sections:
        if f"<!-- figures: {data}{' live' if live else ''} -->" not in text:
            raise ContenderError(
                f"{page} has no place for {data}: no line <!-- figures: {data}{' live' if live else ''} -->"
            )

    def drawn(match: re.Match[str]) -> str:
        data, live = match[2], bool(match[3])
        if (data, live) not in sections:
            return match[0]
        rows = rows_of([cell for cell in cells if (cell.data, cell.contender.live) == (data, live)], folder)
        return f"{match[1]}\n{section(rows, *goals.of(data, live), goals.tolerance)}\n{match[4]}"

    text = _MARKED.sub(drawn, text)
    text = _RUN.sub(lambda match: f"{match[1]}\n{_run_line(folder / f'{match[2]}.json')}\n{match[3]}", text)
    text = _RESULT.sub(lambda match: f"{match[1]}\n{_result_table(folder / f'{match[2]}.json')}\n{match[3]}", text)
    text = _RATINGS.sub(lambda match: f"{match[1]}\n{_ratings_table(folder / f'{match[2]}.json')}\n{match[3]}", text)
    page.write_text(text)


def rows_of(cells: Sequence[Cell], folder: Path) -> list[Row]:
    """The models of cells, with what the cells' files hold."""
    rows = []
    for name in dict.fromkeys(cell.contender.name for cell in cells):
        mine = [cell for cell in cells if cell.contender.name == name]
        found = [content for cell in mine if (content := read_cell(folder, cell))]
        rows.append(Row(name, mine[0].contender.model, len(mine), found))
    return rows


def section(rows: Sequence[Row], goals: Sequence[Goal], published: Sequence[Published], tolerance: float) -> str:
    """One data set in Markdown: our models, what was published, and what is reached."""
    asked = [*(goal.figures for goal in goals), *(rival.figures for rival in published)]
    shown = tuple(dict.fromkeys(figure for figures in asked for figure in figures)) or FIGURES
    parts = [_models(rows, shown, published, tolerance)]
    if published:
        lines = [[rival.name, *(_number(rival.figures.get(figure)) for figure in shown)] for rival in published]
        parts.append(_table(["published", *shown], lines))
    parts += [_verdict(goal, rows) for goal in goals]
    if source := _source(rows):
        parts.append(source)
    return "\n".join(parts)


def _models(rows: Sequence[Row], shown: Sequence[str], published: Sequence[Published], tolerance: float) -> str:
    header = ["model", *shown, "seeds", "training, CPU", "µs a query"]
    if has_rivals := any(rival.model for rival in published):
        header.append("near its paper")
    lines = []
    for row in rows:
        n_seeds = f"{len(row.cells)} of {row.n_seeds}"
        if not row.cells:
            line = [f"`{row.name}`", *("not run" for _ in shown), n_seeds]
            lines.append([*line, *[""] * (len(header) - len(line))])
            continue
        figures = [_interval(row, figure) for figure in shown]
        fit_s, query_us = (
            _mean(x) for x in zip(*((c["fit"]["cpu_s"], c["us_per_query"]) for c in row.cells), strict=True)
        )
        near = [_near(row, published, tolerance)] if has_rivals else []
        lines.append([f"`{row.name}`", *figures, n_seeds, _duration(fit_s), f"{query_us:,.0f}", *near])
    return _table(header, lines)


def _interval(row: Row, figure: str) -> str:
    return _bracketed(*(row.mean(figure, end) for end in ("mean", "low", "high")))


def _near(row: Row, published: Sequence[Published], tolerance: float) -> str:
    """Whether a model lands near what was published of its kind."""
    rivals = [each for each in published if each.model == row.model]
    if not rivals:
        return ""
    return "yes" if all(each.is_met(row.figures, tolerance) for each in rivals) else "**no**"


def _verdict(goal: Goal, rows: Sequence[Row]) -> str:
    """Whether a goal is reached, and by whom."""
    able = [row for row in rows if row.cells and goal.model in (None, row.model)]
    by = f" by `{goal.model}`" if goal.model else ""
    text = f"Goal{by}: {_wanted(goal.figures)}: {_by([row for row in able if goal.is_met(row.figures)], able)}."
    if goal.aim:
        beyond = [row for row in able if goal.is_aim_met(row.figures)]
        text += f" Aim: {_wanted(goal.aim)}: {_by(beyond, able)}."
    return f"{text}\n"


def _wanted(figures: Mapping[str, float]) -> str:
    return " and ".join(f"{figure} ≥ {_number(value)}" for figure, value in figures.items())


def _by(met: Sequence[Row], able: Sequence[Row]) -> str:
    """Who reaches something, of those who might."""
    if met:
        return f"**reached** by {', '.join(f'`{row.name}`' for row in met)}"
    return "**not reached**" if able else "not run"


def _source(rows: Sequence[Row]) -> str:
    """Where the figures come from."""
    cells = [cell for row in rows for cell in row.cells]
    if not cells:
        return ""
    where = [cell["environment"] for cell in cells]
    machines = ", ".join(sorted({f"{each['cpu']}, {each['cores']} cores" for each in where}))
    commits = ", ".join(sorted({each["commit"] for each in where}))
    asked = "; ".join(dict.fromkeys(cell["protocol"] for cell in cells))
    n_queries = max(cell["n_queries"] for cell in cells)
    return f"*{asked}. {n_queries:,} queries. {machines}; commit {commits}.*\n"


def _run_line(path: Path) -> str:
    """How long a run took.

    Raises:
        ContenderError: If its file is damaged.
    """
    try:
        run = json.loads(path.read_text())
        where = run["environment"]
        before = f", with fits of an earlier run for {_code(run['fitted_before'])}" if run["fitted_before"] else ""
        failed = f", while {_code(run['failed'])} failed" if run["failed"] else ""
        return (
            f"{_code(run['cells'])}, {run['jobs']} at once: **{run['wall_s'] / 60:.1f} minutes** by the clock{before}"
            f"{failed} ({where['cpu']}, {where['cores']} cores; commit {where['commit']}).\n"
        )
    except FileNotFoundError:
        return "Not run.\n"
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ContenderError(f"{path} is damaged: {error}; remove it, or run the cells again with --summary") from error


def _result_table(path: Path) -> str:
    """What a comparison of models came to.

    Raises:
        ContenderError: If its file is damaged.
    """
    try:
        result = json.loads(path.read_text())
        lines = [
            [f"`{name}`", *(_bracketed(**model["figures"][figure]) for figure in FIGURES)]
            for name, model in result["models"].items()
        ]
        return f"{_table(['model', *FIGURES], lines)}\n*{result['protocol']}. {result['n_queries']:,} queries.*\n"
    except FileNotFoundError:
        return "Not run.\n"
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ContenderError(
            f"{path} is damaged: {error}; remove it, or compare the models again with --json"
        ) from error


def _ratings_table(path: Path) -> str:
    """How far off models of ratings are.

    Raises:
        ContenderError: If its file is damaged.
    """
    try:
        result = json.loads(path.read_text())
        where, names = result["environment"], list(next(iter(result["models"].values()))["figures"])
        lines = [
            [f"`{name}`", *(_bracketed(**model["figures"][figure]) for figure in names), _duration(model["fit_s"])]
            for name, model in result["models"].items()
        ]
        asked = f"{result['n_folds']} folds" if result["part"] == "test" else "the validation part of the first fold"
        return (
            f"{_table(['model', *names, 'a fit'], lines)}\n*{result['n_ratings']:,} ratings, {asked}, "
            f"{len(result['seeds'])} seeds. Liked: {result['liked']:g} stars or more. {where['cpu']}, {where['cores']} "
            f"cores; commit {where['commit']}.*\n"
        )
    except FileNotFoundError:
        return "Not run.\n"
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        raise ContenderError(f"{path} is damaged: {error}; remove it, or run `make ratings` again") from error


def _bracketed(mean: float, low: float, high: float) -> str:
    return f"{_number(mean)} [{_number(low)}, {_number(high)}]"


def _code(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _number(value: float | None) -> str:
    """A figure for a table.

    Example:
        >>> _number(0.19304), _number(None)
        ('.1930', '')
    """
    return "" if value is None else f"{value:.4f}".removeprefix("0")


def _duration(seconds: float) -> str:
    """Processor time for a table.

    Example:
        >>> _duration(0.42), _duration(95), _duration(4000)
        ('0.4 s', '95 s', '67 min')
    """
    if seconds >= 600:
        return f"{seconds / 60:,.0f} min"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [header, ["---", *("--:" for _ in header[1:])], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
