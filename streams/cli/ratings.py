"""`streamrec evaluate --task ratings`: how far off predicted ratings are, over the folds of a data set."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streams.cli.comparison import Part, data_folder, interval, models_table
from streams.cli.room import insist_on_room, write_figures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trainer.evaluation.summary import Result

ERRORS = ("rmse", "mae")
"""Figures in stars; the others are shares."""


@dataclass(frozen=True)
class RatingsTask:
    """What was asked for on the command line."""

    models: Sequence[str]
    """All of them, the simplest first, where none is named."""
    data: str
    configuration: Path | None
    part: Part
    n_folds: int
    liked: float
    seeds: Sequence[int]
    json_file: Path | None


def evaluate_ratings(asked: RatingsTask, console: Console) -> None:
    """Fit, ask, print, write.

    Raises:
        TrainerError: If a model, the configuration or the data set is not what it should be.
    """
    from streams.cli.training import ConsoleReport
    from trainer.machine import machine
    from trainer.ratings import cross_validate, read_ratings, rounds, validation_rounds
    from trainer.ratings.configuration import CONFIGS, pick_rating_models

    if asked.json_file:
        insist_on_room("--json", asked.json_file, asked.json_file)
    models = pick_rating_models(asked.models or list(CONFIGS), asked.configuration)
    folder = data_folder(asked.data, console)
    cut = rounds if asked.part is Part.TEST else validation_rounds
    try:
        with ConsoleReport(console) as report:
            report.say(f"Reading {folder}")
            ratings, left_out = read_ratings(folder)
            for reason, n in left_out.items():
                report.say(f"  left out: {n:,} {reason}")
            of_seeds = {seed: cut(ratings, asked.n_folds, seed) for seed in asked.seeds}
            result = cross_validate(ratings, models, of_seeds, asked.liked, report)
    except KeyboardInterrupt:
        console.print("\nstopped", highlight=False)
        raise typer.Exit(130) from None
    result = {**result, "part": asked.part.value, "n_folds": asked.n_folds, "left_out": left_out}
    for table in (_errors_table(result), _liked_table(result)):
        console.print(table)
    if asked.json_file:
        content = {**result, "environment": machine(("numpy", "numba"))}
        write_figures("--json", asked.json_file, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _errors_table(result: Result) -> Table:
    """How far off each model is, in stars, and beside the first."""
    first, *others = result["models"]
    where = f"{result['n_folds']} folds" if result["part"] == Part.TEST else "validation part of the first fold"
    table = models_table(f"{result['dataset']}, {result['n_ratings']:,} ratings: {where}, seeds {result['seeds']}")
    table.caption = f"in brackets: {100 * result['level']:.0f} % of a bootstrap over users"
    for name in (*ERRORS, *([f"rmse, over {first}"] if others else []), "fit, s"):
        table.add_column(name, justify="right")
    above: dict[str, Any] = {
        pair["model"]: pair["figures"] for pair in result["differences"] if pair["baseline"] == first
    }
    for name, model in result["models"].items():
        cells = [interval(model["figures"][figure], "") for figure in ERRORS]
        compared = [interval(above[name]["rmse"], "+") if name in above else ""] if others else []
        table.add_row(name, *cells, *compared, f"{model['fit_s']:.2f}")
    return table


def _liked_table(result: Result) -> Table:
    """How good each model is at telling what is liked."""
    table = models_table(f"liked, which is {result['liked']:g} stars or more")
    table.caption = "of what is asked for and predicted to be liked; @10: of the 10 items predicted highest"
    models = result["models"]
    figures = [name for name in next(iter(models.values()))["figures"] if name not in ERRORS]
    for name in figures:
        table.add_column(name, justify="right")
    for name, model in models.items():
        table.add_row(name, *(interval(model["figures"][figure], "") for figure in figures))
    return table
