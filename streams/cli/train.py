"""`streamrec train`: makes a model of what the topics hold, and announces it."""

from __future__ import annotations

import json
import os
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.archive import ArchiveOption, NoArchiveOption, archive_folder
from streams.cli.config import ConfigOption, SetOption, Settings, load_settings
from streams.cli.room import insist_on_room, write_figures
from streams.durations import parse_duration

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.job import TrainingResult
    from trainer.plan import TrainingPlan


REJECTED = 3
"""Exit code of a run whose model the gate rejected: nothing went wrong, and nothing new serves."""


def _interval(text: str) -> timedelta:
    """`--every`, which must leave the trainer a breath."""
    interval = parse_duration(text)
    if interval < timedelta(seconds=1):
        raise typer.BadParameter(f"{text} is too often; at least 1s")
    return interval


@app.command()
def train(
    config: ConfigOption = None,
    sets: SetOption = None,
    every: Annotated[
        timedelta | None,
        typer.Option(parser=_interval, metavar="15m", help="Train again and again, this long after the last start."),
    ] = None,
    bundles: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where to write the model. Default: model.bundles.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="What to train: popularity, markov, session-knn, mf, gru, lstm, lru or sasrec. "
            "Default: trainer.model.",
        ),
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="cpu|cuda", help="Where to fit the model. Default: trainer.device.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Announce the model whatever the gate says; its report says so.")
    ] = False,
    no_gate: Annotated[
        bool, typer.Option("--no-gate", help="Announce the model without comparing it. The same: gate.enabled.")
    ] = False,
    archive: ArchiveOption = None,
    no_archive: NoArchiveOption = False,
    max_epochs: Annotated[
        int | None, typer.Option(min=1, help="Most passes over the data of a model that is fitted.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write version, path, figures and verdict there.")
    ] = None,
) -> None:
    """Train a model on what `interactions` holds, measure it, and announce it to the workers if it is not worse.

    Reads what is new in the topic into an archive, so that nothing is read twice, and nothing is forgotten when the
    topic no longer holds it; then cleans what it has, and splits it by time. The model learns from the oldest events
    and is measured on the newest, beside popularity: for each event, was the item in the list that the event before
    would have brought? Then it learns the newest events, too, is written as a bundle, and announced on
    `model-updates`; running workers load it without a pause. They must see the folder under the same path.

    Before it is announced, the gate compares it with the model that serves, on the newest events that neither has
    learned: the same next events, and the interval of the difference over users. One that is shown to be worse is kept
    with its report and not announced, and the exit code is 3; `streamrec models` shows and promotes it. See [gate] in
    docs/operations.md. Then old bundles are removed but for the newest trainer.keep_bundles.

    gru, lstm, lru and sasrec are fitted. A run that was killed is taken up by the next one with the same settings,
    within a day; its state is kept every trainer.checkpoint_minutes. popularity, markov and session-knn learn each
    event once, which takes seconds, and go on with that as they serve; the next model has all of that from the log. mf
    is factorised in seconds.

    With --every, a run that fails is reported and the next one comes all the same. Ctrl-C ends it.
    """
    flags = [
        *([f"trainer.model={model}"] if model else ()),
        *([f"trainer.device={device}"] if device else ()),
        *(["gate.enabled=false"] if no_gate else ()),
    ]
    settings = load_settings(config, [*(sets or ()), *flags])
    # Read by OpenMP when torch is imported, so before that.
    os.environ.setdefault("OMP_NUM_THREADS", str(settings.trainer.threads))
    from rich.console import Console

    if json_file:
        insist_on_room("--json", json_file, json_file)
    folder = archive_folder(settings, archive, no_archive, bundles)
    plan = _plan(settings, bundles, folder, max_epochs, force)
    console = Console()
    while True:
        began_s = time.monotonic()
        try:
            result = _run(plan, console, json_file)
        except KeyboardInterrupt:
            kept = "the next run goes on from what was kept" if plan.archive else "without an archive nothing was kept"
            console.print(f"\nstopped; {kept}", highlight=False)
            raise typer.Exit(130) from None
        except Exception as error:
            if every is None or not _may_pass(error):
                raise
            print(f"streamrec: {error}", file=sys.stderr)
        if every is None:
            raise typer.Exit(0 if result.update else REJECTED)
        pause_s = max(0.0, began_s + every.total_seconds() - time.monotonic())
        console.print(f"training again in {pause_s:.0f} s; Ctrl-C ends this", highlight=False)
        try:
            time.sleep(pause_s)
        except KeyboardInterrupt:
            return


def _plan(
    settings: Settings, bundles: Path | None, archive: Path | None, max_epochs: int | None, force: bool
) -> TrainingPlan:
    from encoders.bundle import NETWORKS
    from streams.cli.training import cleaning_rules, kafka_source
    from trainer.plan import TrainingPlan

    trainer = settings.trainer
    if max_epochs is not None and trainer.model not in NETWORKS:
        raise typer.BadParameter(f"--max-epochs is of {', '.join(NETWORKS)}; {trainer.model} has no epochs")
    if max_epochs is not None:
        trainer = trainer.model_copy(update={"max_epochs": max_epochs})
    return TrainingPlan(
        source=kafka_source(settings),
        model=settings.model.name,
        bundles=bundles or settings.model.bundles,
        settings=trainer,
        rules=cleaning_rules(settings, settings.model.window, trainer.catalogue),
        popularity_half_life=settings.worker.popularity_half_life,
        index=settings.index,
        gate=settings.gate,
        force=force,
        archive=archive,
    )


def _run(plan: TrainingPlan, console: Console, json_file: Path | None) -> TrainingResult:
    from streams.cli.training import ConsoleReport, figures_table, verdict_lines
    from trainer.job import train as train_once

    began_s = time.monotonic()
    with ConsoleReport(console) as report:
        result = train_once(plan, report)
    train_s = time.monotonic() - began_s
    figures, made = result.metrics, result.bundle
    if figures:
        console.print(figures_table(figures, f"Measured on the newest {figures['n_test_events']:,.0f} events"))
    for line in verdict_lines(result.verdict):
        console.print(line, soft_wrap=True, highlight=False, markup=False)
    topic, promote = plan.source.model_updates, f"`streamrec models promote {made.version}` announces it all the same"
    became = f"announced on {topic}" if result.update else f"kept and not announced; {promote}"
    what = f"{result.model} {made.version} ({plan.settings.model})"
    console.print(f"{what} trained in {train_s:.1f} s, {became}", soft_wrap=True, highlight=False)
    console.print(made.uri, soft_wrap=True, highlight=False)
    if json_file:
        content = json.dumps({**result.to_json(), "train_s": round(train_s, 3)}, indent=2) + "\n"
        write_figures("--json", json_file, content)
    return result


def _may_pass(error: Exception) -> bool:
    """Whether the next run may succeed where this one failed."""
    from encoders.errors import EncodersError
    from trainer.errors import TrainerError

    return isinstance(error, TrainerError | EncodersError | OSError)
