"""`streamrec models`: what was trained, what serves, and going back."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, Settings, load_settings

if TYPE_CHECKING:
    from encoders.records import BundleReference, ModelUpdate
    from trainer.replay import KafkaSource

BundlesOption = Annotated[
    Path | None,
    typer.Option("--bundles", metavar="DIR", help="Where the bundles lie. Default: model.bundles.", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]
VersionArgument = Annotated[
    str, typer.Argument(metavar="VERSION", help="As `models list` prints it; its beginning or end will do.")
]

models_app = typer.Typer(
    no_args_is_help=True,
    help="List what was trained, promote a model by hand, go back to the one before, and remove old ones.",
)
app.add_typer(models_app, name="models")


@models_app.command("list")
def list_command(
    config: ConfigOption = None, sets: SetOption = None, bundles: BundlesOption = None, as_json: JsonOption = False
) -> None:
    """Print every bundle, the newest first: what it is worth, what the gate said of it, and which one serves.

    `serving` is what `model-updates` announces to the workers now, `previous` what a rollback would announce. A row's
    figure is of the newest part of the log as it was then, so that two rows are only roughly comparable; the gate has
    asked both models the same, and `streamrec models show VERSION` prints what came of it.
    """
    from streams.cli.model_tables import list_as_json, models_lines, notes
    from streams.cli.training import kafka_source
    from trainer.publish import current_updates
    from trainer.registry import Registry

    settings = load_settings(config, sets)
    registry = Registry.read(bundles or settings.model.bundles)
    updates = current_updates(kafka_source(settings))
    if as_json:
        _print_json(list_as_json(registry, updates))
        return
    if registry.entries:
        print(*models_lines(registry, updates, settings.gate.metric), sep="\n")
    else:
        print(f"there is no bundle in {registry.directory}; `streamrec train` makes one")
    for note in notes(registry, updates):
        print(note)


@models_app.command()
def show(
    version: VersionArgument,
    config: ConfigOption = None,
    sets: SetOption = None,
    bundles: BundlesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print all that is known of a model: what it is, its figures, what the gate compared and said, how it was made.

    Figures are of the newest part of the log, before the model learned it, beside popularity on the same events.
    """
    from rich.console import Console

    from streams.cli.model_tables import entry_as_json, model_lines
    from streams.cli.training import figures_table, kafka_source
    from trainer.publish import current_updates
    from trainer.registry import Registry, role_of

    settings = load_settings(config, sets)
    entry = Registry.read(bundles or settings.model.bundles).find(version)
    role = role_of(entry, current_updates(kafka_source(settings)))
    if as_json:
        _print_json(entry_as_json(entry, role))
        return
    print(*model_lines(entry, role), sep="\n")
    if metrics := entry.manifest.metrics:
        Console().print(figures_table(metrics, f"Measured on {metrics.get('n_test_events', 0):,.0f} events"))


@models_app.command()
def promote(
    version: VersionArgument,
    config: ConfigOption = None,
    sets: SetOption = None,
    bundles: BundlesOption = None,
    as_json: JsonOption = False,
) -> None:
    """Announce a bundle to the workers, whatever the gate said of it: an older one, or one that was rejected.

    It is read and tried first, as a worker would, and refused if a worker would refuse it. Workers load it without a
    pause, as any other. The next training run compares its model with this one. A bundle that serves already is
    announced again, so that workers which could not load it try once more.
    """
    from encoders.bundle import bundle_reference
    from streams.cli.training import kafka_source
    from trainer.pruning import alone_in
    from trainer.registry import Registry

    settings = load_settings(config, sets)
    directory = bundles or settings.model.bundles
    entry = Registry.read(directory).find(version)
    source, model = kafka_source(settings), entry.manifest.model
    with alone_in(directory):
        update = _announce(settings, source, model, bundle_reference(entry.folder))
    if as_json:
        _print_json(update.model_dump(mode="json"))
        return
    _say_announced(update, source)
    if entry.report and entry.report.verdict.outcome == "rejected":
        print(f"the gate had rejected it: {entry.report.verdict.reason}")
    if model != settings.model.name:
        print(f"workers with model.name = {settings.model.name!r} do not load it: it is a model {model!r}")


@models_app.command()
def rollback(
    config: ConfigOption = None,
    sets: SetOption = None,
    model: Annotated[
        str | None, typer.Option(metavar="NAME", help="Of which model. Default: model.name.", show_default=False)
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Announce the model that served before the one that serves now; once more, and that one is back.

    What it replaces becomes its `previous`, so two rollbacks leave everything as it was. To go further back, promote a
    version that `streamrec models list` prints. A trainer that runs every so often goes on and may replace it again:
    stop it first, or see to it that the gate rejects what you do not want.
    """
    from streams.cli.training import kafka_source
    from trainer.errors import NoModelError
    from trainer.publish import current_update

    settings = load_settings(config, sets)
    source, name = kafka_source(settings), model or settings.model.name
    current = current_update(source, name)
    if current is None:
        raise NoModelError(
            f"no model {name!r} is announced on {source.model_updates!r} at {source.brokers}, so there is nothing to "
            "roll back; `streamrec models list` prints what could be promoted"
        )
    if current.previous is None:
        raise NoModelError(
            f"{name} {current.version} is the first that was announced, so there is no previous one; `streamrec models "
            "list` prints what could be promoted"
        )
    update = _announce(settings, source, name, current.previous)
    if as_json:
        _print_json(update.model_dump(mode="json"))
        return
    _say_announced(update, source)


@models_app.command()
def prune(
    config: ConfigOption = None,
    sets: SetOption = None,
    bundles: BundlesOption = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="How many of each model name stay. Default: trainer.keep_bundles."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say which would go.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Remove old bundles with their reports: of each model name all but the newest, as each training run does.

    Never one that serves or its previous, under any name, nor one that is being written. Damaged bundles and folders
    with names of their own are left alone.
    """
    from streams.cli.training import kafka_source
    from trainer.pruning import prune as remove_old

    settings = load_settings(config, sets)
    wanted = keep or settings.trainer.keep_bundles
    if wanted == "all":
        raise typer.BadParameter("trainer.keep_bundles is 'all'; say how many with --keep")
    removed = remove_old(kafka_source(settings), bundles or settings.model.bundles, wanted, dry_run)
    if as_json:
        _print_json({"dry_run": dry_run, "removed": [entry.version for entry in removed]})
        return
    for entry in removed:
        print(f"{'would remove' if dry_run else 'removed'}  {entry.manifest.model}  {entry.version}")
    if not removed:
        print(f"nothing to remove: of no model name there are more than {wanted} that are not announced")


def _announce(settings: Settings, source: KafkaSource, model: str, reference: BundleReference) -> ModelUpdate:
    """Announce a bundle that a worker with these settings would serve.

    Raises:
        BundleError: If it would not; nothing is announced then.
    """
    from encoders.bundle import bundle_path, read_manifest
    from streams.serving import ServingModel
    from trainer.publish import announce

    ServingModel.load(reference, settings.model.window)
    manifest = read_manifest(bundle_path(reference.uri), reference.manifest_sha256)
    return announce(source, model, reference, manifest.metrics)


def _say_announced(update: ModelUpdate, source: KafkaSource) -> None:
    print(f"{update.model} {update.version} is announced on {source.model_updates}")
    if update.previous:
        print(f"it replaces {update.previous.version}; `streamrec models rollback` brings that back")


def _print_json(content: dict[str, Any]) -> None:
    print(json.dumps(content, indent=2, ensure_ascii=False))
