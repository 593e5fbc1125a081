"""Draws the tables and plots of a page from the figures that `streamrec bench --output` wrote.

``python -m streams.cli.bench.performance docs/benchmarks docs/performance.md`` puts them between markers of the
page, one pair for each benchmark, and leaves the prose around them alone::

    <!-- figures: latency -->
    <!-- end -->
"""

from __future__ import annotations

import re
import sys
from os.path import relpath
from pathlib import Path

from streams.cli.bench.benchmark import BENCHMARKS, Benchmark, Figures
from streams.cli.bench.errors import BenchError
from streams.cli.bench.plots import draw_plot
from streams.cli.bench.report import read_json
from streams.cli.bench.tables import TABLES, cell, markdown

_MARKED = re.compile(r"(<!-- figures: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)


def draw_page(folder: Path, page: Path) -> list[str]:
    """Bring a page up to date with the figures of a folder, and write the plots beside the figures.

    Returns:
        The names of the benchmarks that were drawn.

    Raises:
        BenchError: If there are no figures, or the page has no place for one of them.
    """
    found = read_json(folder)
    if not found:
        raise BenchError(f"no figures in {folder}; `streamrec bench --output {folder}` writes them")
    text = page.read_text()
    missing = [name for name in found if f"<!-- figures: {name} -->" not in text]
    if missing:
        raise BenchError(f"{page} has no place for {', '.join(missing)}: no line <!-- figures: {missing[0]} -->")
    plots = {name: path for name, content in found.items() if (path := draw_plot(folder, name, content[name]))}
    where = relpath(folder, page.parent)

    def section(match: re.Match[str]) -> str:
        name = match[2]
        if name not in found:
            return match[0]
        drawn = section_text(BENCHMARKS[name], found[name][name], found[name]["environment"], where)
        picture = f"![{name}]({where}/{plots[name].name})\n\n" if name in plots else ""
        return f"{match[1]}\n{drawn}\n{picture}{match[3]}"

    page.write_text(_MARKED.sub(section, text))
    return list(found)


def section_text(benchmark: Benchmark, figures: Figures, environment: Figures, where: str) -> str:
    """One benchmark in Markdown: goals, tables, and where the figures come from."""
    goals = []
    for goal in benchmark.goals:
        if goal.key in figures:
            reached = "yes" if goal.met(float(figures[goal.key])) else "**no**"
            goals.append((f"`{goal.key}`", cell(figures, goal.key), str(goal), reached))
    parts = [markdown(("figure", "measured", "goal", "reached"), goals)] if goals else []
    parts += [markdown(header, rows) for header, rows in TABLES[benchmark.name](figures) if rows]
    parts.append(_source(benchmark.name, figures, environment, where))
    return "\n".join(parts)


def _source(name: str, figures: Figures, environment: Figures, where: str) -> str:
    """Where the figures come from, and what became of the events."""
    counted = ""
    if "events" in figures:
        events, lost, again = (cell(figures, key) for key in ("events", "lost", "duplicates"))
        counted = f" {events} events, {lost} lost, {again} sent again."
    return (
        f"*[{name}.json]({where}/{name}.json): {environment['cpu']}, {environment['cores']} cores, Python"
        f" {environment['python']}, {environment['broker']}, {environment['redis']}, commit {environment['commit']},"
        f" {str(environment['date'])[:10]}.{counted}*\n"
    )


def main() -> None:
    """Folder of figures and page from the command line."""
    folder, page = map(Path, sys.argv[1:3])
    try:
        drawn = draw_page(folder, page)
    except (BenchError, OSError) as error:
        sys.exit(f"streamrec: {error}")
    print(f"{page}: {', '.join(drawn)}")


if __name__ == "__main__":
    main()
