"""`streamrec evaluate`: what a model is worth on events it has not seen, or models beside each other on a data set."""

from __future__ import annotations

import json
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.archive import ArchiveOption, NoArchiveOption, archive_folder
from streams.cli.comparison import Device, ExcludedItems, Part, SplitBy, Windows
from streams.cli.config import ConfigOption, SetOption, Settings, load_settings
from streams.cli.room import insist_on_room, write_figures

if TYPE_CHECKING:
    from encoders.bundle import Bundle
    from trainer.assess import Assessment
    from trainer.report import Report

COMPARING = "Comparing models by name"
RATINGS = "Predicting ratings"


class Task(StrEnum):
    """What models are measured by."""

    RANKING = "ranking"
    RATINGS = "ratings"


@app.command()
def evaluate(
    config: ConfigOption = None,
    sets: SetOption = None,
    bundle: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The model's folder. Default: the newest announced.", show_default=False),
    ] = None,
    current: Annotated[
        bool, typer.Option("--current", help="The newest announced model; this is the default.")
    ] = False,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|DIR",
            help="A data set: its folder, or the name of one under STREAMREC_DATA. Default: the topic `interactions`.",
            show_default=False,
        ),
    ] = None,
    archive: ArchiveOption = None,
    no_archive: NoArchiveOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
    task: Annotated[
        Task, typer.Option(help="What is measured: where the next item is in a list, or how far off ratings are.")
    ] = Task.RANKING,
    models: Annotated[
        str | None,
        typer.Option(
            metavar="A,B",
            help="Compare these models on --data: popularity, markov, session-knn, mf, gru, lstm, lru, sasrec, or what"
            " the file of --models-config calls them; of ratings mean, biases, mf-ratings, which is the default.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    models_config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="How each model is set, a TOML table each. Default: streamrec's own for the data set, if it has one.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    part: Annotated[
        Part, typer.Option(help="What models are asked; neither is learned from.", rich_help_panel=COMPARING)
    ] = Part.TEST,
    split: Annotated[
        SplitBy | None,
        typer.Option(
            help="What tests: as the data set's paper has it; each user's last event; the newest tenth of all events, "
            "each of them or only the last of each user. Default: paper.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    live: Annotated[
        bool,
        typer.Option(
            "--live",
            help="Ask before each event as it arrives, and then let the model have it: popularity, markov and "
            "session-knn learn it, encoders move the user's state and take up new items. Figures of queries that "
            "others are asked, too, come first, those with new items after them.",
            rich_help_panel=COMPARING,
        ),
    ] = False,
    windows: Annotated[
        Windows | None,
        typer.Option(
            help="What models are fed: the crop of the data set's paper, or what a worker keeps. Default: paper.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    excluded: Annotated[
        list[ExcludedItems] | None,
        typer.Option(
            help="What may not be listed: nothing, the item just had, what the model is fed, or all that the user has "
            "seen. Repeatable, to see what is best, on --part validation: models are then MODEL@WHAT. An encoder is "
            "fitted for each, unless seen_negatives is set. Default: as the data set's paper has it.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    seeds: Annotated[
        list[int] | None,
        typer.Option("--seed", metavar="N", help="Of the fits; repeatable. Default: 0.", rich_help_panel=COMPARING),
    ] = None,
    device: Annotated[Device, typer.Option(help="Where encoders are fitted.", rich_help_panel=COMPARING)] = Device.CPU,
    fits: Annotated[
        Path,
        typer.Option(metavar="DIR", help="Where fits are kept, so that none is done twice.", rich_help_panel=COMPARING),
    ] = Path(".quality"),
    output: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Write a report in Markdown there, with plots and all figures.",
            show_default=False,
            rich_help_panel=COMPARING,
        ),
    ] = None,
    folds: Annotated[
        int | None,
        typer.Option(
            min=2,
            metavar="N",
            help="Into how many parts each user's ratings are cut at random; each is asked of a model that knows the"
            " others. --part validation: a fifth of what is known in the first round is asked. Default: 5.",
            show_default=False,
            rich_help_panel=RATINGS,
        ),
    ] = None,
    liked: Annotated[
        float | None,
        typer.Option(
            metavar="STARS",
            help="From how many stars on an item counts as liked, for precision, recall and F1. Default: 4.",
            show_default=False,
            rich_help_panel=RATINGS,
        ),
    ] = None,
) -> None:
    """Measure a model beside popularity: is what a user did next in the list that the event before brought?

    On the topic, the events that came after the training are predicted; if there are none, or with --data, the newest
    part (trainer.test_fraction, by time), which the model may have been trained on. Windows hold all of a user's
    events up to then, seen items are left out, and all items are ranked. Where the trainer has an archive, only what is
    new in the topic is read, into it.

    With --models, models are compared that need no bundle: `streamrec evaluate --models popularity,session-knn,gru
    --data ml-100k` fits them to the oldest part of a data set as its papers split it, ranks all items for each query of
    the newest, and prints every figure with its interval, what the models cost, and how far each is above the first.

    With --task ratings, what is asked is how many stars a user gives an item: `streamrec evaluate --task ratings --data
    ml-100k` cross-validates the mean, biases and biased matrix factorisation, and prints RMSE, MAE, precision, recall
    and F1.
    """
    if task is Task.RATINGS:
        strange = {
            "--bundle": bundle, "--current": current, "--archive": archive, "--no-archive": no_archive, "--set": sets,
            "--split": split, "--live": live, "--windows": windows, "--excluded": excluded,
            "--device": device is not Device.CPU, "--output": output,
        }  # fmt: skip
        if given := [name for name, value in strange.items() if value]:
            raise typer.BadParameter(f"{given[0]} does not go with --task ratings")
        if data is None:
            raise typer.BadParameter("--task ratings needs --data: a folder, or the name of a data set such as ml-100k")
        from rich.console import Console

        from streams.cli.ratings import RatingsTask, evaluate_ratings

        names = _names(models) if models is not None else []
        chosen = list(dict.fromkeys(seeds or [0]))
        liked = 4.0 if liked is None else liked
        evaluate_ratings(RatingsTask(names, data, models_config, part, folds or 5, liked, chosen, json_file), Console())
        return
    if folds or liked is not None:
        raise typer.BadParameter("--folds and --liked go with --task ratings")
    comparison = {
        "--models-config": models_config,
        "--part": part is not Part.TEST,
        "--split": split,
        "--live": live,
        "--windows": windows,
        "--excluded": excluded,
        "--seed": seeds,
        "--device": device is not Device.CPU,
        "--output": output,
    }
    if models is None:
        if given := [name for name, value in comparison.items() if value]:
            raise typer.BadParameter(f"{given[0]} goes with --models, which names what is compared")
        _evaluate_bundle(config, sets, bundle, current, data, archive, no_archive, json_file)
        return
    if bundle or current or archive or no_archive:
        raise typer.BadParameter("--models are fitted to --data: --bundle, --current and archives do not go with them")
    if sets:
        raise typer.BadParameter("--set is of the settings file; what --models are set by stands in --models-config")
    if data is None:
        raise typer.BadParameter("--models needs --data: a folder, or the name of a data set such as ml-100k")
    names = _names(models)
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from rich.console import Console

    from streams.cli.comparison import Comparison, compare_models

    compare_models(
        Comparison(
            names, data, models_config, part, split, windows, tuple(dict.fromkeys(excluded or [])), live,
            tuple(dict.fromkeys(seeds or [0])), device, fits, output, json_file,
        ),
        Console(),
    )  # fmt: skip


def _names(models: str) -> list[str]:
    """What --models names."""
    names = [name.strip() for name in models.split(",") if name.strip()]
    if not names or len(set(names)) < len(names):
        raise typer.BadParameter("--models names one model or more, with commas between, none twice")
    return names


def _evaluate_bundle(
    config: Path | None,
    sets: list[str] | None,
    bundle: Path | None,
    current: bool,
    data: str | None,
    archive: Path | None,
    no_archive: bool,
    json_file: Path | None,
) -> None:
    """Measure a bundle on the topic or on a data set."""
    if bundle and current:
        raise typer.BadParameter("give --bundle or --current, not both")
    if json_file:
        insist_on_room("--json", json_file, json_file)
    settings = load_settings(config, sets)
    folder = archive_folder(settings, archive, no_archive)
    if folder and not (archive or folder.exists()):
        folder = None  # nobody asked for one here
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.trainer.threads))
    from rich.console import Console

    from streams.cli.comparison import data_folder
    from streams.cli.training import ConsoleReport, figures_table

    console = Console()
    with ConsoleReport(console) as report:
        where = data_folder(data, console) if data else None
        assessment = _assess(settings, bundle, where, folder, report)
    figures = assessment.figures
    if figures:
        seen = "not seen in training" if assessment.unseen else "that the model may have been trained on"
        console.print(figures_table(figures, f"{assessment.version}, on {figures['n_test_events']:,.0f} events {seen}"))
    if json_file:
        content = {"version": assessment.version, "unseen": assessment.unseen, "metrics": figures}
        write_figures("--json", json_file, json.dumps(content, indent=2) + "\n")


def _assess(
    settings: Settings, folder: Path | None, data: Path | None, archive: Path | None, report: Report
) -> Assessment:
    import numpy as np

    from streams.cli.training import cleaning_rules, kafka_source
    from trainer.assess import assess, trained_mask
    from trainer.datasets import read_dataset
    from trainer.log import dataset_log, read_log

    model = _read_model(settings, folder)
    manifest = model.manifest
    report.say(f"{manifest.model} {manifest.version}: {manifest.n_items:,} items")
    rules = cleaning_rules(settings, manifest.window_rule, manifest.catalogue)
    if data:
        events = dataset_log(read_dataset(data), rules, report).events
        trained = np.ones(len(events), dtype=bool)
    else:
        events = read_log(kafka_source(settings), rules, report, archive).events
        trained = trained_mask(events, manifest.trained_through.get(settings.kafka.topics.interactions, {}))
    return assess(model, events, trained, settings.trainer.test_fraction, report)


def _read_model(settings: Settings, folder: Path | None) -> Bundle:
    from encoders.bundle import read_bundle
    from streams.cli.training import kafka_source
    from trainer.errors import NoModelError
    from trainer.publish import current_update

    if folder:
        return read_bundle(folder)
    source = kafka_source(settings)
    update = current_update(source, settings.model.name)
    if update is None:
        raise NoModelError(
            f"no model {settings.model.name!r} is announced on {source.model_updates!r} at {source.brokers}; "
            "train one with `streamrec train`, or name a folder with --bundle"
        )
    return read_bundle(update.uri, update.manifest_sha256)
