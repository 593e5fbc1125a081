"""`streamrec evaluate`: what a model is worth on events it has not seen."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.archive import ArchiveOption, NoArchiveOption, archive_folder
from streams.cli.config import ConfigOption, SetOption, Settings, load_settings

if TYPE_CHECKING:
    from encoders.bundle import Bundle
    from trainer.assess import Assessment
    from trainer.report import Report


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
        Path | None,
        typer.Option(metavar="DIR", help="A data set's folder. Default: the topic `interactions`.", show_default=False),
    ] = None,
    archive: ArchiveOption = None,
    no_archive: NoArchiveOption = False,
    json_file: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write the figures there.")] = None,
) -> None:
    """Measure a model beside popularity: is what a user did next in the list that the event before brought?

    On the topic, the events that came after the training are predicted; if there are none, or with --data, the newest
    part (trainer.test_fraction, by time), which the model may have been trained on. Windows hold all of a user's
    events up to then, seen items are left out, and all items are ranked. Where the trainer has an archive, only what is
    new in the topic is read, into it.
    """
    if bundle and current:
        raise typer.BadParameter("give --bundle or --current, not both")
    settings = load_settings(config, sets)
    folder = archive_folder(settings, archive, no_archive)
    if folder and not (archive or folder.exists()):
        folder = None  # nobody asked for one here
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.trainer.threads))
    from rich.console import Console

    from streams.cli.training import ConsoleReport, figures_table

    console = Console()
    with ConsoleReport(console) as report:
        assessment = _assess(settings, bundle, data, folder, report)
    figures = assessment.figures
    if figures:
        seen = "not seen in training" if assessment.unseen else "that the model may have been trained on"
        console.print(figures_table(figures, f"{assessment.version}, on {figures['n_test_events']:,.0f} events {seen}"))
    if json_file:
        content = {"version": assessment.version, "unseen": assessment.unseen, "metrics": figures}
        json_file.write_text(json.dumps(content, indent=2) + "\n")


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
