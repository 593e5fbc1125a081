"""Removing old bundles, by count: never the serving one, its `previous`, or one that is being written."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from encoders.records import ModelUpdate
from trainer.archive.files import HeldError, locked
from trainer.errors import RegistryError, TrainerError
from trainer.publish import current_updates
from trainer.registry import Entry, Registry, no_folder, role_of
from trainer.replay import KafkaSource
from trainer.report import Report

_LOCK_FILE = ".models.lock"
_REMOVED = ".removing-"
"""What a bundle's folder is called before it goes, so that nobody takes half of one for a whole."""


def superfluous(registry: Registry, keep: int, updates: Mapping[str, ModelUpdate]) -> list[Entry]:
    """The bundles that may go: of each model name all but the newest, and none that is announced under any name.

    Bundles that are being written have no version yet, and damaged ones no known name: neither is looked at. Nor is a
    folder that was given a name of its own.

    Args:
        registry: What lies in the folder.
        keep: How many of each model name stay, the announced ones among them or beside them.
        updates: By the model's name, what is announced.
    """
    kept: Counter[str] = Counter()
    found = []
    for entry in registry.entries:
        name = entry.manifest.model
        kept[name] += 1
        ours = entry.folder.name == entry.version and not entry.folder.is_symlink()
        if kept[name] > keep and ours and role_of(entry, updates) is None:
            found.append(entry)
    return found


def prune(source: KafkaSource, directory: Path, keep: int, dry_run: bool = False) -> list[Entry]:
    """Remove the bundles that are too many; returns those that it removed, or with ``dry_run`` would have.

    Raises:
        RegistryError: If there is no such folder, or another process is choosing or removing bundles in it.
        ReplayError: If the brokers cannot say what is announced; then nothing is removed.
        OSError: If a folder cannot be removed.
    """
    if dry_run:
        return superfluous(Registry.read(directory), keep, current_updates(source))
    with alone_in(directory):
        found = superfluous(Registry.read(directory), keep, current_updates(source))
        for entry in found:
            entry.folder.rename(entry.folder.with_name(_REMOVED + entry.version))
        for path in directory.glob(f"{_REMOVED}*"):  # those included that an earlier run did not get to
            shutil.rmtree(path)
    return found


def prune_after_training(source: KafkaSource, directory: Path, keep: int, report: Report) -> None:
    """The same; what becomes of a new model does not hang on it, so that what goes wrong is only said."""
    try:
        removed = prune(source, directory, keep)
    except (TrainerError, OSError) as error:
        report.say(f"Old bundles could not be removed: {error}; `streamrec models prune` tries again")
        return
    if removed:
        versions = ", ".join(entry.version for entry in removed)
        report.say(f"Removed old bundles (trainer.keep_bundles = {keep}): {versions}")


@contextmanager
def alone_in(directory: Path) -> Iterator[None]:
    """Keep bundles from being removed while one of them is announced, and the other way round.

    Raises:
        RegistryError: If another process is at it, or the folder is missing.
    """
    with ExitStack() as alone:
        try:
            alone.enter_context(locked(directory / _LOCK_FILE))
        except HeldError as holder:
            raise RegistryError(f"{holder} is removing or announcing bundles in {directory}; try again") from None
        except FileNotFoundError:
            raise no_folder(directory) from None
        yield
