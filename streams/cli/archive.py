"""`streamrec archive info` and `streamrec archive verify`, and which archive a command of the trainer uses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.config import ConfigOption, SetOption, Settings, load_settings

if TYPE_CHECKING:
    from trainer.archive import Manifest

ArchiveOption = Annotated[
    Path | None,
    typer.Option(
        "--archive",
        metavar="DIR",
        help="Where what was read before lies. Default: trainer.archive, else the folder `archive` among the bundles.",
        show_default=False,
    ),
]
NoArchiveOption = Annotated[
    bool, typer.Option("--no-archive", help="Read the whole topic, as far back as it goes, and keep nothing of it.")
]

archive_app = typer.Typer(no_args_is_help=True, help="Look at what the trainer has read, or check that it is whole.")
app.add_typer(archive_app, name="archive")


def archive_folder(
    settings: Settings, given: Path | None = None, without: bool = False, bundles: Path | None = None
) -> Path | None:
    """Where the archive of interactions is; None where none is wanted.

    Args:
        settings: Of which `trainer.archive` counts, and `model.bundles`.
        given: With --archive; beats the settings.
        without: With --no-archive; beats the settings.
        bundles: Where bundles go instead of `model.bundles`.

    Raises:
        typer.BadParameter: If one is given and none is wanted.
    """
    if given and without:
        raise typer.BadParameter("give --archive or --no-archive, not both")
    configured = settings.trainer.archive
    if without or (configured == "off" and not given):
        return None
    return given or (Path(configured) if configured else (bundles or settings.model.bundles) / "archive")


@archive_app.command()
def info(config: ConfigOption = None, sets: SetOption = None, archive: ArchiveOption = None) -> None:
    """Print which topic the archive is of, how far it has been read, what it holds and what is missing."""
    from trainer.archive import read_manifest

    folder = _folder(config, sets, archive)
    for line in archive_lines(folder, read_manifest(folder)):
        print(line)


@archive_app.command()
def verify(config: ConfigOption = None, sets: SetOption = None, archive: ArchiveOption = None) -> None:
    """Compare every byte of the archive with its checksum, as each training run does. Exits 1 if it is damaged."""
    from trainer.archive import read_manifest, read_rows

    folder = _folder(config, sets, archive)
    manifest = read_manifest(folder)
    read_rows(folder, manifest)
    print(f"{folder} is whole: {manifest.n_rows:,} interactions, {_megabytes(manifest):,.1f} MB")


def archive_lines(folder: Path, manifest: Manifest) -> list[str]:
    """An archive in plain words, one line a fact."""
    lines = [
        f"{folder}: topic {manifest.topic}, Kafka cluster {manifest.cluster_id}, {_megabytes(manifest):,.1f} MB",
        f"{manifest.n_records:,} records were read, {manifest.n_rows:,} of them are interactions of "
        f"{manifest.n_ids('users'):,} users and {manifest.n_ids('items'):,} items",
    ]
    lines += [f"  {n:,} were {reason}" for reason, n in sorted(manifest.dead.items())]
    for partition, next_offset in sorted(manifest.next_offsets.items()):
        lost = manifest.lost.get(partition)
        missing = f", without {lost:,} that were removed from the topic before they were read" if lost else ""
        first = manifest.first_offsets[partition]
        lines.append(f"partition {partition}: offsets {first:,} to {next_offset:,}{missing}")
    return lines


def _folder(config: Path | None, sets: list[str] | None, given: Path | None) -> Path:
    folder = archive_folder(load_settings(config, sets), given)
    if folder is None:
        raise typer.BadParameter("trainer.archive is off; name one with --archive")
    return folder


def _megabytes(manifest: Manifest) -> float:
    return sum(record.n_bytes for record in manifest.files.values()) / 1e6
