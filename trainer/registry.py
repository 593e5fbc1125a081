"""The models in a folder of bundles, each with the report of the run that made it.

What serves is what the topic `model-updates` holds (`trainer.publish`); nothing that lies here claims it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from encoders.bundle import REPORT_FILE, Manifest, bundle_path, insist_on_files, read_manifest
from encoders.errors import BundleError
from encoders.records import BundleReference, ModelUpdate
from trainer.errors import RegistryError
from trainer.gate import Verdict
from trainer.log import Log

_VERSION = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{6}")
"""What `write_bundle` calls its folders; others are bundles only if they have a manifest."""
_MOST_NAMED = 3
"""Versions that an error proposes."""
Role = Literal["serving", "previous"]


class LogInNumbers(BaseModel):
    """How much a log held."""

    model_config = ConfigDict(frozen=True)

    n_records: int
    n_events: int
    """Of these, those that are usable."""
    n_users: int
    n_items: int
    dropped: dict[str, int]
    """The others, by reason."""

    @classmethod
    def of(cls, log: Log) -> Self:
        """The numbers of a log that was read."""
        events = log.events
        return cls(
            n_records=log.n_records,
            n_events=len(events),
            n_users=len(events.user_ids),
            n_items=len(events.item_ids),
            dropped=dict(log.dropped),
        )


class ModelReport(BaseModel):
    """What a training run says of the model that it made; `report.json` beside the bundle's manifest."""

    model_config = ConfigDict(frozen=True)

    format_version: Literal[1] = 1
    verdict: Verdict
    """Of the gate, when the model was made (the manifest's `created_at_ms`). What became of it since is not here."""
    metrics: dict[str, float]
    """As the manifest has them: before the model learned the newest events."""
    log: LogInNumbers
    """What it was trained on."""
    settings: dict[str, Any]
    """All that decided it beside the log."""
    best_epoch: int
    seconds: dict[str, float]
    """How long each part of the run took, up to the index."""


@dataclass(frozen=True)
class Entry:
    """A bundle in the folder. Only its manifest and its report were read, and its files' sizes compared."""

    folder: Path
    manifest: Manifest
    report: ModelReport | None = None
    """None where there is none, as in bundles of older versions, or it cannot be read."""

    @property
    def version(self) -> str:
        """The model's version."""
        return self.manifest.version

    def is_the(self, reference: BundleReference) -> bool:
        """Whether a reference is to this bundle: by its version, or because it lies there."""
        return reference.version == self.version or _lies_at(reference, self.folder)


@dataclass(frozen=True)
class Registry:
    """What lies in a folder of bundles."""

    directory: Path
    entries: tuple[Entry, ...]
    """The newest first."""
    damaged: Mapping[str, str]
    """Folders that look like bundles and are none: why."""

    @classmethod
    def read(cls, directory: Path) -> Self:
        """Read the manifests and reports of a folder; what is no bundle and does not look like one is passed over.

        Raises:
            RegistryError: If there is no such folder.
        """
        try:
            folders = sorted(path for path in directory.iterdir() if path.is_dir() and not path.name.startswith("."))
        except (FileNotFoundError, NotADirectoryError):
            raise no_folder(directory) from None
        entries, damaged = [], {}
        for folder in folders:
            try:
                manifest = read_manifest(folder)
            except BundleError as error:
                if _VERSION.fullmatch(folder.name) and folder.exists():
                    damaged[folder.name] = str(error)
                continue
            try:
                insist_on_files(folder, manifest)
                entries.append(Entry(folder, manifest, read_report(folder)))
            except BundleError as error:
                if folder.exists():  # not removed meanwhile
                    damaged[manifest.version] = str(error)
        entries.sort(key=lambda entry: (entry.manifest.created_at_ms, entry.version), reverse=True)
        return cls(directory, tuple(entries), damaged)

    def find(self, name: str) -> Entry:
        """The bundle with a version, or in a folder of that name, or the only one whose version begins or ends so.

        Raises:
            RegistryError: If there is none, or more than one.
            BundleError: If it is damaged.
        """
        if name in self.damaged:
            raise BundleError(self.damaged[name])
        there = [entry for entry in self.entries if entry.folder.name == name]
        found = there or [entry for entry in self.entries if entry.version == name]
        found = found or [e for e in self.entries if name and (e.version.startswith(name) or e.version.endswith(name))]
        if len(found) == 1:
            return found[0]
        if found:
            raise RegistryError(f"{name} is the version of {len(found)} bundles: {_some(found)}; write more of it")
        versions = [entry.version for entry in self.entries]
        if near := get_close_matches(name, versions, n=_MOST_NAMED, cutoff=0.8):
            proposed = f"near to it are {', '.join(near)}"
        else:
            newest = ", ".join(versions[:_MOST_NAMED])
            proposed = f"the newest are {newest}" if newest else "there is no bundle in it"
        raise RegistryError(f"no model {name} in {self.directory}; {proposed}. `streamrec models list` prints all")


def role_of(entry: Entry, updates: Mapping[str, ModelUpdate]) -> Role | None:
    """What a bundle is to the workers, as `model-updates` says; None if nothing.

    Args:
        entry: The bundle.
        updates: By the model's name, see `trainer.publish.current_updates`.
    """
    if any(entry.is_the(update) for update in updates.values()):
        return "serving"
    if any(update.previous and entry.is_the(update.previous) for update in updates.values()):
        return "previous"
    return None


def no_folder(directory: Path) -> RegistryError:
    """The error where bundles should be and there is no folder."""
    return RegistryError(
        f"there is no folder of bundles {directory}; `streamrec train` makes it, --bundles or model.bundles names "
        "another one"
    )


def read_report(folder: Path) -> ModelReport | None:
    """The report of a bundle; None where there is none, or it is damaged or of another version."""
    try:
        return ModelReport.model_validate_json((folder / REPORT_FILE).read_bytes())
    except (OSError, ValidationError):
        return None


def _some(entries: Iterable[Entry]) -> str:
    return ", ".join(entry.version for entry in entries)


def _lies_at(reference: BundleReference, folder: Path) -> bool:
    try:
        return bundle_path(reference.uri).resolve() == folder.resolve()
    except BundleError:
        return False
