"""Draws the tables and plots of a page from the figures that `streamrec bench --output` wrote.

``python -m streams.cli.bench.performance docs/benchmarks docs/performance.md`` puts them between markers of the
page, one pair for each benchmark, and leaves the prose around them alone::

    <!-- figures: latency -->
    <!-- end -->

A place without a file in the folder is left as it is.
"""

from __future__ import annotations

import re
import sys
from argparse import ArgumentParser
from collections.abc import Sequence
from os.path import relpath
from pathlib import Path

from streams.cli.bench.benchmark import Figures, Goal, Verdict
from streams.cli.bench.errors import BenchError
from streams.cli.bench.plots import draw_plot
from streams.cli.bench.report import Measured, read_json, writes_anew
from streams.cli.bench.tables import TABLES, cell, markdown

_MARKED = re.compile(r"(<!-- figures: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_WORDS = {Verdict.REACHED: "yes", Verdict.MISSED: "**no**"}


def draw_page(folder: Path, page: Path) -> list[str]:
    """Bring a page up to date with the figures of a folder, and write the plots beside the figures.

    Returns:
        The names of the files that were drawn, without their ending.

    Raises:
        BenchError: If there are no figures, some are damaged or of `--quick`, or the page has no place for some.
    """
    found = read_json(folder)
    if not found:
        raise BenchError(f"no figures in {folder}; `streamrec bench --output {folder}` writes them")
    text = page.read_text()
    places = {match[2] for match in _MARKED.finditer(text)}
    if missing := [name for name in found if name not in places]:
        raise BenchError(
            f"{page} has no place for {', '.join(missing)}: no line <!-- figures: {missing[0]} --> with an <!-- end -->"
        )
    drawn = {name: _drawn(folder, name, measured, page) for name, measured in found.items()}

    def fill(place: re.Match[str]) -> str:
        name = place[2]
        return f"{place[1]}{drawn[name]}{place[3]}" if name in drawn else place[0]

    page.write_text(_MARKED.sub(fill, text))
    return list(found)


def _drawn(folder: Path, name: str, measured: Measured, page: Path) -> str:
    """What stands between the two marks of one file, its plot drawn.

    Raises:
        BenchError: If something is missing in the file.
    """
    where = relpath(folder, page.parent)
    try:
        text = section_text(name, measured, where)
        plot = draw_plot(folder / f"{name}.png", measured.benchmark.name, measured.figures)
    except (KeyError, TypeError, ValueError) as error:
        what = f"has no {error}" if isinstance(error, KeyError) else f"cannot be drawn: {error}"
        file = folder / f"{name}.json"
        raise BenchError(f"{file} {what}; {writes_anew(file, measured.benchmark)}") from error
    picture = f"![{name}]({where}/{plot.name})\n\n" if plot else ""
    return f"\n{text}\n{picture}"


def section_text(name: str, measured: Measured, where: str) -> str:
    """One file in Markdown: goals, tables, and where the figures come from."""
    figures, benchmark = measured.figures, measured.benchmark
    goals = [_judged(goal, figures) for goal in benchmark.goals if goal.key in figures]
    parts = [markdown(("figure", "measured", "goal", "reached"), goals)] if goals else []
    parts += [markdown(header, rows) for header, rows in TABLES[benchmark.name](figures) if rows]
    parts.append(_source(name, figures, measured.environment, where))
    return "\n".join(parts)


def _judged(goal: Goal, figures: Figures) -> Sequence[str]:
    verdict = goal.verdict(figures)
    value = cell(figures, goal.key) if verdict in _WORDS else "–"
    return f"`{goal.key}`", value, str(goal), _WORDS.get(verdict, verdict.value)


def _source(name: str, figures: Figures, environment: Figures, where: str) -> str:
    """Where the figures come from, and what became of the events."""
    counted = ""
    if "events" in figures:
        events, lost, again = (cell(figures, key) for key in ("events", "lost", "duplicates"))
        counted = f" {events} events, {lost} lost, {again} sent again."
    day, _, time = str(environment["date"])[:16].partition("T")
    return (
        f"*[{name}.json]({where}/{name}.json): {environment['cpu']}, {environment['cores']} cores, Python"
        f" {environment['python']}, {environment['broker']}, {environment['redis']}, commit {environment['commit']},"
        f" {day} {time} UTC.{counted}*\n"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Folder of figures and page from the command line."""
    parser = ArgumentParser(
        prog="python -m streams.cli.bench.performance",
        description="Draws the tables and plots of a page from the figures that `streamrec bench --output` wrote.",
    )
    parser.add_argument("folder", type=Path, help="where the figures are, such as docs/benchmarks")
    parser.add_argument("page", type=Path, help="the page, such as docs/performance.md")
    given = parser.parse_args(arguments)
    try:
        drawn = draw_page(given.folder, given.page)
    except (BenchError, OSError, UnicodeDecodeError) as error:
        sys.exit(f"streamrec: {error}")
    print(f"{given.page}: {', '.join(drawn)}")


if __name__ == "__main__":
    main()
