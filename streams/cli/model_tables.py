"""How models are shown to people, and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from encoders.bundle import EncoderManifest, Manifest
from encoders.records import ModelUpdate
from streams.cli.training import verdict_lines
from trainer.registry import Entry, Registry, Role, role_of

_NUMBERS = (4, 5, 6)
"""Columns of a list of models that hold numbers."""


def models_lines(registry: Registry, updates: Mapping[str, ModelUpdate], metric: str) -> list[str]:
    """A heading and one line for each bundle, the newest first; as wide as they need to be, for pipes too.

    Args:
        registry: What lies in the folder.
        updates: By the model's name, what is announced.
        metric: The figure that is shown.
    """
    rows = [("version", "model", "kind", "created (UTC)", "items", metric, "popularity", "gate", "now")]
    for entry in registry.entries:
        manifest = entry.manifest
        rows.append(
            (
                entry.version,
                manifest.model,
                manifest.kind,
                _moment(manifest.created_at_ms),
                f"{manifest.n_items:,}",
                _figure(manifest.metrics.get(metric)),
                _figure(manifest.metrics.get(f"popularity_{metric}")),
                entry.report.verdict.outcome if entry.report else "-",
                role_of(entry, updates) or "",
            )
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(_aligned(row, widths)).rstrip() for row in rows]


def notes(registry: Registry, updates: Mapping[str, ModelUpdate]) -> list[str]:
    """What the list does not show: models that serve from elsewhere, or none, and bundles that are damaged."""
    found = []
    for name, update in sorted(updates.items()):
        if not any(entry.is_the(update) for entry in registry.entries):
            found.append(f"{name} {update.version} serves from {update.uri}, which is not among these bundles")
    names = {entry.manifest.model for entry in registry.entries} - updates.keys()
    found += [f"no model {name!r} is announced" for name in sorted(names)]
    return found + [f"{version} is damaged: {why}" for version, why in sorted(registry.damaged.items())]


def list_as_json(registry: Registry, updates: Mapping[str, ModelUpdate]) -> dict[str, Any]:
    """All of it: bundles, what is announced, and what is damaged."""
    return {
        "bundles": [_summary(entry, role_of(entry, updates)) for entry in registry.entries],
        "announced": {name: update.model_dump(mode="json") for name, update in sorted(updates.items())},
        "damaged": dict(registry.damaged),
    }


def entry_as_json(entry: Entry, role: Role | None) -> dict[str, Any]:
    """A model with its whole manifest and report."""
    return {
        **_summary(entry, role),
        "manifest": entry.manifest.model_dump(mode="json"),
        "report": entry.report.model_dump(mode="json") if entry.report else None,
    }


def model_lines(entry: Entry, role: Role | None) -> list[str]:
    """A model in plain words, one line a fact."""
    manifest, report = entry.manifest, entry.report
    lines = [
        f"{manifest.model} {entry.version}, {role or 'not announced'}",
        f"{manifest.kind} of {manifest.n_items:,} items in catalogue {manifest.catalogue!r}, made "
        f"{_moment(manifest.created_at_ms)} UTC",
        str(entry.folder.absolute()),
        *_index_lines(manifest),
        f"window rule {manifest.window_rule.model_dump_json()}",
        "trained through the offsets"
        + ";".join(f" {topic}{_listed(offsets)}" for topic, offsets in manifest.trained_through.items()),
    ]
    if report is None:
        return [*lines, "there is no report of the run that made it"]
    lines += verdict_lines(report.verdict)
    log = report.log
    lines.append(
        f"trained on {log.n_events:,} events of {log.n_users:,} users and {log.n_items:,} items; left out of "
        f"{log.n_records:,} records{_listed(log.dropped) or ': none'}"
    )
    lines.append(f"best epoch {report.best_epoch}; seconds{_listed(report.seconds)}")
    return [*lines, f"settings {json.dumps(report.settings, ensure_ascii=False)}"]


def _index_lines(manifest: Manifest) -> list[str]:
    """The index, where there is one."""
    if not isinstance(manifest, EncoderManifest):
        return []
    index = manifest.index
    return [f"index {index.kind}{_listed(index.params)}{_listed(index.recall)}"]


def _summary(entry: Entry, role: Role | None) -> dict[str, Any]:
    manifest = entry.manifest
    return {
        "version": entry.version,
        "model": manifest.model,
        "kind": manifest.kind,
        "catalogue": manifest.catalogue,
        "created_at_ms": manifest.created_at_ms,
        "n_items": manifest.n_items,
        "metrics": manifest.metrics,
        "verdict": entry.report.verdict.outcome if entry.report else None,
        "role": role,
        "folder": str(entry.folder.absolute()),
    }


def _listed(values: Mapping[Any, Any]) -> str:
    """Names and values behind a word, such as ` (a 1, b 2)`; nothing where there are none."""
    return f" ({', '.join(f'{name} {_plain(value)}' for name, value in values.items())})" if values else ""


def _plain(value: Any) -> str:
    match value:
        case int():
            return f"{value:,}"
        case float():
            return f"{value:.4g}"
        case _:
            return str(value)


def _aligned(row: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    for place, (cell, width) in enumerate(zip(row, widths, strict=True)):
        yield cell.rjust(width) if place in _NUMBERS else cell.ljust(width)


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _moment(at_ms: int) -> str:
    return f"{datetime.fromtimestamp(at_ms / 1000, UTC):%Y-%m-%d %H:%M}"
