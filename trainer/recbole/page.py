"""Draws the tables of a page from the figures of a comparison.

``python -m trainer.recbole.page docs/quality/recbole.json docs/recbole.md`` puts them between two comments of the
page and leaves the prose around them alone.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from os.path import relpath
from pathlib import Path
from typing import Any

from trainer.errors import RecBoleError
from trainer.recbole.judge import FIGURE

GOAL = 2.0
"""What each of the two ratios must reach."""
RATIOS = {"targets a second": "targets_per_s_ratio", f"time to the same {FIGURE}": "seconds_ratio"}
"""What has a goal, by what it is called."""
GOALS = ("model", "figure", "measured", "goal", "reached")
SPEEDS = (
    "model",
    "RecBole's learning rate",
    "streamrec, targets/s",
    "RecBole, targets/s",
    "ratio",
    "by CPU time",
    f"best {FIGURE}: streamrec",
    "RecBole (passes)",
)
LEVELS = (
    "model",
    "RecBole's learning rate",
    FIGURE,
    "of RecBole's best",
    "streamrec, s (passes)",
    "RecBole, s (passes)",
    "ratio",
    "by CPU time",
)
BEGIN, END = "<!-- figures: recbole -->", "<!-- end -->"
_MARKED = re.compile(f"({re.escape(BEGIN)}\n).*?({re.escape(END)})", re.DOTALL)


def draw_page(figures: Path, page: Path) -> None:
    """Bring a page up to date.

    Raises:
        RecBoleError: If the page has no place for the figures, or they are none.
    """
    text = page.read_text()
    if not _MARKED.search(text):
        raise RecBoleError(f"{page} has no place for the figures: no line {BEGIN} with {END} after it")
    try:
        drawn = section(json.loads(figures.read_text()), relpath(figures, page.parent))
    except (json.JSONDecodeError, KeyError, TypeError) as error:
        raise RecBoleError(f"{figures} does not hold a comparison ({error!r}); `make recbole` writes one") from error
    page.write_text(_MARKED.sub(lambda found: f"{found[1]}\n{drawn}\n{found[2]}", text))


def section(result: dict[str, Any], where: str) -> str:
    """All tables of a comparison, and where they come from, in Markdown."""
    models, environment = result["models"], result["environment"]
    goals = [
        (model, f"{label}, ratio", ratio(found[key]), f"≥ {GOAL:g}", reached(found[key]))
        for model, found in models.items()
        for label, key in RATIOS.items()
    ]
    speeds = [(model, *row) for model, found in models.items() for row in _speeds(found["duels"])]
    levels = [(model, *row) for model, found in models.items() for row in _levels(found["duels"])]
    versions = next(iter(models.values()))["duels"][0]["theirs"]["versions"]
    peer = ", ".join(f"{name} {value}" for name, value in versions.items())
    source = (
        f"*[{Path(where).name}]({where}): `{result['data']}`, {environment['cpu']}, {environment['cores']} cores, one "
        f"thread each, Python {environment['python']}, torch {environment['version_torch']}; theirs: {peer}; commit "
        f"{environment['commit']}, {str(environment['date'])[:10]}.*\n"
    )
    return "\n".join([table(GOALS, goals), table(SPEEDS, speeds), table(LEVELS, levels), source])


def _speeds(duels: Iterable[dict[str, Any]]) -> Iterable[Sequence[str]]:
    for duel in duels:
        ours, theirs = duel["ours"], duel["theirs"]
        passes = sum(turn["n_targets"] for turn in theirs["turns"]) / duel["n_targets"]
        yield (
            f"{duel['sizes']['peer_learning_rate']:g}",
            f"{ours['targets_per_s']:,.0f}",
            f"{theirs['targets_per_s']:,.0f}",
            ratio(duel["targets_per_s_ratio"]),
            ratio(duel["targets_per_cpu_s_ratio"]),
            f"{ours[f'best_{FIGURE}']:.4f}",
            f"{theirs[f'best_{FIGURE}']:.4f} ({passes:.1f})",
        )


def _levels(duels: Iterable[dict[str, Any]]) -> Iterable[Sequence[str]]:
    for duel in duels:
        for level in duel["levels"]:
            yield (
                f"{duel['sizes']['peer_learning_rate']:g}",
                f"{level[FIGURE]:.4f}",
                f"{level['share_of_best']:.0%}",
                spent(level["ours"], duel["n_targets"]),
                spent(level["theirs"], duel["n_targets"]),
                ratio(level["seconds_ratio"]),
                ratio(level["cpu_seconds_ratio"]),
            )


def spent(found: dict[str, Any] | None, n_targets: int) -> str:
    """Seconds and passes over the training part, which has so many targets.

    Example:
        >>> spent({"n_targets": 150, "seconds": 1234.56}, 100), spent(None, 100)
        ('1,234.6 (1.5)', 'not reached')
    """
    return f"{found['seconds']:,.1f} ({found['n_targets'] / n_targets:.1f})" if found else "not reached"


def ratio(value: float | None) -> str:
    """A ratio, or a dash where one side did not get there."""
    return "–" if value is None else f"{value:.1f}"


def reached(value: float | None) -> str:
    """Whether a ratio meets the goal.

    Example:
        >>> reached(2.0), reached(1.99), reached(None)
        ('yes', '**no**', '**no**')
    """
    return "yes" if value is not None and value >= GOAL else "**no**"


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown, numbers to the right."""
    lines = [header, ["---", *["--:"] * (len(header) - 1)], *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def main() -> None:
    """Figures and page from the command line."""
    try:
        draw_page(*map(Path, sys.argv[1:3]))
    except (RecBoleError, OSError) as error:
        sys.exit(f"streamrec: {error}")


if __name__ == "__main__":
    main()
