"""`streamrec evaluate --models`: models by name on a data set, beside each other."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from streams.cli.room import insist_on_room, write_figures

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from trainer.evaluation.summary import Result
    from trainer.quality.contenders import Configuration

SHOWN = ("ndcg@10", "recall@10", "mrr@20", "recall@20")
"""Figures of the table; the report and the JSON have all."""
COMPARED = ("ndcg@10", "mrr@20")
"""Figures of which the table shows by how much each model is above the first."""


class Part(StrEnum):
    """What models are asked."""

    TEST = "test"
    VALIDATION = "validation"


class SplitBy(StrEnum):
    """What models learn, and what they are asked."""

    PAPER = "paper"
    LEAVE_ONE_OUT = "leave-one-out"
    GLOBAL_TIME = "global-time"
    GLOBAL_TIME_LAST = "global-time-last"


class ExcludedItems(StrEnum):
    """What models may not list."""

    NONE = "none"
    LAST = "last"
    FED = "fed"
    SEEN = "seen"


class Windows(StrEnum):
    """What models are fed."""

    PAPER = "paper"
    SERVED = "served"


class Device(StrEnum):
    """Where models are fitted."""

    CPU = "cpu"
    CUDA = "cuda"


@dataclass(frozen=True)
class Comparison:
    """What was asked for on the command line."""

    models: Sequence[str]
    data: str
    configuration: Path | None
    part: Part
    split: SplitBy | None
    windows: Windows | None
    excluded: Sequence[ExcludedItems]
    live: bool
    seeds: Sequence[int]
    device: Device
    fits: Path
    output: Path | None
    json_file: Path | None


def compare_models(asked: Comparison, console: Console) -> None:
    """Fit, ask, print, write.

    Raises:
        TrainerError: If a model, the configuration or the data set is not what it should be, or cannot be asked so.
    """
    from streams.cli.training import ConsoleReport
    from trainer.evaluation import read_set, write_report
    from trainer.evaluation.summary import with_new_items
    from trainer.quality.compare import compare, entrants
    from trainer.quality.models import Workshop

    if asked.output and find_spec("matplotlib") is None:
        raise typer.BadParameter("the report has plots, which need matplotlib: pip install 'streamrec[bench]'")
    if asked.output:
        insist_on_room("--output", asked.output, asked.output / "report.md")
    if asked.json_file:
        insist_on_room("--json", asked.json_file, asked.json_file)
    folder = data_folder(asked.data, console)
    configuration = _configuration(asked, folder.resolve().name)
    settings = configuration.settings
    given = {"split": asked.split, "windows": asked.windows}
    settings = settings.model_copy(update={name: choice.value for name, choice in given.items() if choice})
    running = entrants(configuration.pick(asked.models), asked.seeds, [each.value for each in asked.excluded])
    try:
        with ConsoleReport(console) as report:
            report.say(f"Reading {folder}; models are set by {configuration.source}")
            data = read_set(folder)
            workshop = Workshop(asked.fits, settings.validation_fraction, report, asked.device.value)
            result = compare(data, settings, running, workshop, report, asked.part.value, asked.live or None)
    except KeyboardInterrupt:
        console.print(f"\nstopped; the next run finds in {asked.fits} what was fitted", highlight=False)
        raise typer.Exit(130) from None
    for table in (*map(accuracy_table, filter(None, (result, with_new_items(result)))), costs_table(result)):
        console.print(table)
    if asked.json_file:
        content = json.dumps(result, indent=2, ensure_ascii=False) + "\n"
        write_figures("--json", asked.json_file, content)
    if asked.output:
        console.print(f"report: {write_report(result, asked.output)}", highlight=False, soft_wrap=True)


def data_folder(data: str, console: Console) -> Path:
    """Where a data set is: a folder as given, one by name, or MovieLens 100K, which is downloaded if need be.

    Raises:
        DatasetError: If it is nowhere.
    """
    from trainer.errors import DatasetError
    from trainer.evaluation import set_folder
    from trainer.movielens import fetch_movielens_100k

    if (folder := Path(data)).is_dir():
        return folder
    try:
        return set_folder(data)
    except DatasetError:
        if data == "ml-100k":
            return fetch_movielens_100k(lambda text: console.print(text, highlight=False, soft_wrap=True))
        raise


def _configuration(asked: Comparison, data: str) -> Configuration:
    """How models are set: by the file that was given, else by the one for the data set, else by their defaults."""
    from trainer.quality.contenders import Configuration, committed, read_configuration

    path = asked.configuration or committed(data)
    return read_configuration(path) if path else Configuration()


def accuracy_table(result: Result) -> Table:
    """The figures of each model with their intervals, and by how much it is above the first on the same queries."""
    first, *others = result["models"]
    table = models_table(f"{result['dataset']}, {result['n_queries']:,} queries: {result['protocol']}")
    table.caption = f"in brackets: {100 * result['level']:.0f} % of a bootstrap over users"
    for name in (*SHOWN, *(f"{figure}, over {first}" for figure in COMPARED if others)):
        table.add_column(name, justify="right")
    above = {pair["model"]: pair["figures"] for pair in result["differences"] if pair["baseline"] == first}
    for name, model in result["models"].items():
        figures = [interval(model["figures"][figure], "") for figure in SHOWN]
        table.add_row(name, *figures, *(interval(above[name][figure], "+") for figure in COMPARED if name in above))
    return table


def costs_table(result: Result) -> Table:
    """What each model cost to fit, and what it costs to ask."""
    table = models_table("cost")
    for name in ("fit, s", "CPU, s", "targets/s", "peak memory", "µs a query", "µs of learning a query", "µs a step"):
        table.add_column(name, justify="right")
    for name, model in result["models"].items():
        fit = model["fit"]
        table.add_row(
            name,
            f"{fit['wall_s']:,.1f}",
            f"{fit['cpu_s']:,.1f}",
            f"{fit['targets_per_s']:,.0f}",
            f"{fit['peak_bytes'] / 1e6:,.0f} MB",
            f"{model['us_per_query']:,.0f}",
            f"{learning:,.1f}" if (learning := model["learning_us_per_query"]) else "",
            f"{fit['us_per_step']:,.0f}" if "us_per_step" in fit else "",
        )
    return table


def models_table(title: str) -> Table:
    """A table whose rows are models, and whose columns are still to be named."""
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption_justify="left")
    table.add_column("model")
    return table


def interval(figure: Mapping[str, Any], sign: str) -> str:
    """A figure above its interval.

    Example:
        >>> print(interval({"mean": 0.19304, "low": 0.185, "high": 0.20111}, sign="+"))
        +.1930
        [+.1850, +.2011]
    """
    mean, low, high = (f"{figure[end]:{sign}.4f}".replace("0.", ".", 1) for end in ("mean", "low", "high"))
    return f"{mean}\n[{low}, {high}]"
