"""Writing a bundle."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import numpy as safetensors_numpy

from encoders.bundle.manifest import (
    ENCODER_FORMAT,
    INDEX_FILE,
    ITEM_VECTORS_FILE,
    LEARNED_FILE,
    MANIFEST_FILE,
    POPULARITY_FILE,
    REPORT_FILE,
    RETRIEVER_FORMAT,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    EncoderManifest,
    FileRecord,
    IndexRecord,
    Manifest,
    PartitionOffsets,
    RetrieverManifest,
    vocabulary_fingerprint,
)
from encoders.bundle.registry import BundledEncoder, BundledRetriever
from encoders.bundle.tensors import Tensors
from encoders.durable import sync
from encoders.errors import BundleError
from encoders.protocols import FloatArray
from encoders.records import BundleReference
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule


@dataclass(frozen=True, kw_only=True)
class BundleDraft:
    """What a trainer puts into every bundle."""

    model: str
    vocabulary: Vocabulary
    popularity: FloatArray
    """Score of each item number; row 0 is zero. Shape: ``(n_items + 1,)``."""
    window_rule: WindowRule
    metrics: dict[str, float] = field(default_factory=dict)
    trained_through: dict[str, PartitionOffsets] = field(default_factory=dict)
    items_offsets: PartitionOffsets = field(default_factory=dict)
    report: bytes | None = None
    """JSON for people, see `REPORT_FILE`."""


@dataclass(frozen=True, kw_only=True)
class EncoderDraft(BundleDraft):
    """A sequence encoder, and an index over its item vectors."""

    encoder: BundledEncoder
    index: IndexRecord
    save_index: Callable[[Path], None]
    """Writes the index to the path it is given."""


@dataclass(frozen=True, kw_only=True)
class RetrieverDraft(BundleDraft):
    """A retriever that has learned."""

    retriever: BundledRetriever


Draft = EncoderDraft | RetrieverDraft


def insist_on_writable(directory: Path) -> None:
    """Make the folder for bundles if it is missing, and try to write there.

    Raises:
        BundleError: If nothing can be written there.
    """
    try:
        directory.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=directory).close()
    except OSError as error:
        raise BundleError(
            f"cannot write bundles to {directory}: {error.strerror}; choose another folder or free it"
        ) from error


def write_bundle(directory: Path, draft: Draft, created_at_ms: int) -> BundleReference:
    """Write a bundle into a new folder of ``directory``; it is there whole or not at all.

    Args:
        directory: Where bundles lie; made if it is missing.
        draft: What to write.
        created_at_ms: Wall clock; the version's name begins with it.

    Returns:
        Version, absolute path and hash, as a model update announces them. All of it is on the disk.

    Raises:
        BundleError: If the bundle cannot be written; nothing is left behind.
    """
    directory = directory.absolute()
    insist_on_writable(directory)
    scratch = Path(tempfile.mkdtemp(prefix=".writing-", dir=directory))
    try:
        scratch.chmod(0o755)  # a worker may run as another user
        version, manifest_sha256 = _write_files(scratch, draft, created_at_ms)
        for path in (*scratch.iterdir(), scratch):
            sync(path)
        target = directory / version
        scratch.rename(target)
        sync(directory)
    except OSError as error:
        raise BundleError(f"cannot write a bundle to {directory}: {error.strerror}") from error
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return BundleReference(version=version, uri=str(target), manifest_sha256=manifest_sha256)


def _write_files(scratch: Path, draft: Draft, created_at_ms: int) -> tuple[str, str]:
    """Fill the scratch folder; returns the version and the manifest's SHA-256."""
    tensors = {**_common_tensors(draft), **_tensors(draft)}
    files = {name: _write(scratch / name, _in_one_file(arrays)) for name, arrays in tensors.items()}
    if isinstance(draft, EncoderDraft):
        draft.save_index(scratch / INDEX_FILE)
        files[INDEX_FILE] = _record((scratch / INDEX_FILE).read_bytes())
    if draft.report is not None:
        (scratch / REPORT_FILE).write_bytes(draft.report)
    manifest = _manifest(draft, files, created_at_ms)
    return manifest.version, _write(scratch / MANIFEST_FILE, manifest.model_dump_json(indent=2).encode()).sha256


def _manifest(draft: Draft, files: dict[str, FileRecord], created_at_ms: int) -> Manifest:
    common: dict[str, Any] = {
        "model": draft.model,
        "version": _version(files, created_at_ms),
        "window_rule": draft.window_rule,
        "catalogue": draft.vocabulary.catalogue,
        "vocabulary_fingerprint": vocabulary_fingerprint(draft.vocabulary),
        "metrics": draft.metrics,
        "trained_through": draft.trained_through,
        "items_offsets": draft.items_offsets,
        "created_at_ms": created_at_ms,
        "n_items": draft.vocabulary.n_items,
        "files": files,
    }
    if isinstance(draft, RetrieverDraft):
        retriever = draft.retriever
        config = retriever.config.model_dump(mode="json")
        return RetrieverManifest(format_version=RETRIEVER_FORMAT, kind=retriever.kind, config=config, **common)
    return EncoderManifest(
        format_version=ENCODER_FORMAT,
        kind=draft.encoder.kind,
        config=draft.encoder.config,
        index=draft.index,
        embedding_dim=draft.encoder.embedding_dim,
        **common,
    )


def _common_tensors(draft: BundleDraft) -> dict[str, Tensors]:
    vocabulary = draft.vocabulary
    return {
        VOCABULARY_FILE: {
            "sorted_hashes": vocabulary.sorted_hashes,
            "numbers": vocabulary.numbers,
            "id_bytes": vocabulary.id_bytes,
            "id_offsets": vocabulary.id_offsets,
        },
        POPULARITY_FILE: {"scores": draft.popularity},
    }


def _tensors(draft: Draft) -> dict[str, Tensors]:
    if isinstance(draft, RetrieverDraft):
        return {LEARNED_FILE: draft.retriever.arrays()}
    return {WEIGHTS_FILE: draft.encoder.weights, ITEM_VECTORS_FILE: {"item_vectors": draft.encoder.item_vectors}}


def _in_one_file(arrays: Tensors) -> bytes:
    return safetensors_numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()})


def _version(files: dict[str, FileRecord], created_at_ms: int) -> str:
    content = sha256("".join([str(created_at_ms), *(files[name].sha256 for name in sorted(files))]).encode())
    return f"{datetime.fromtimestamp(created_at_ms / 1000, UTC):%Y%m%dT%H%M%SZ}-{content.hexdigest()[:6]}"


def _write(path: Path, data: bytes) -> FileRecord:
    path.write_bytes(data)
    return _record(data)


def _record(data: bytes) -> FileRecord:
    return FileRecord(sha256=sha256(data).hexdigest(), bytes=len(data))
