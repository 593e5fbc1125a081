"""What a manifest says, and where the files of a bundle lie."""

from __future__ import annotations

import json
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from encoders.errors import BundleError
from encoders.records import BundleReference
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule

MANIFEST_FILE = "manifest.json"
WEIGHTS_FILE = "weights.safetensors"
ITEM_VECTORS_FILE = "item_vectors.safetensors"
VOCABULARY_FILE = "vocabulary.safetensors"
POPULARITY_FILE = "popularity.safetensors"
INDEX_FILE = "index.faiss"
LEARNED_FILE = "learned.safetensors"
REPORT_FILE = "report.json"
"""What the run that made the bundle says of it, for people: no worker reads it, and the manifest does not hold it."""

PartitionOffsets = dict[int, int]


class FileRecord(BaseModel):
    """What a file of the bundle must be."""

    model_config = ConfigDict(frozen=True)

    sha256: str
    bytes: int


class IndexRecord(BaseModel):
    """How the index of the bundle was built, and what it is worth."""

    model_config = ConfigDict(frozen=True)

    kind: str
    params: dict[str, Any] = Field(default_factory=dict)
    recall: dict[str, float] = Field(default_factory=dict)
    """Measured against exact search, by name, such as `recall@10`, on the windows that it was tuned with: those of
    users after their newest events, which nothing has followed that the model could learn."""
    file: Literal["index.faiss"] = "index.faiss"


class Manifest(BaseModel):
    """What a bundle holds and where it comes from."""

    model_config = ConfigDict(frozen=True)

    format_version: int
    model: str
    version: str = Field(min_length=1)
    kind: str
    config: dict[str, Any]
    window_rule: WindowRule
    catalogue: str
    vocabulary_fingerprint: str
    metrics: dict[str, float]
    trained_through: dict[str, PartitionOffsets]
    """By topic and partition, the offset of the first interaction that the model has not seen."""
    items_offsets: PartitionOffsets
    """By partition, where a worker that serves this bundle begins to read `items`."""
    created_at_ms: int
    n_items: int
    files: dict[str, FileRecord]


class EncoderManifest(Manifest):
    """That of a sequence encoder, whose item vectors are searched by an index."""

    index: IndexRecord
    embedding_dim: int


class RetrieverManifest(Manifest):
    """That of a retriever, which needs neither."""


ENCODER_FORMAT, RETRIEVER_FORMAT = 1, 2
"""Each bundle has the oldest format that can hold it, so that workers of an older version go on serving encoders, and
refuse a retriever by its format."""
FORMATS: dict[int, type[Manifest]] = {ENCODER_FORMAT: EncoderManifest, RETRIEVER_FORMAT: RetrieverManifest}


def vocabulary_fingerprint(vocabulary: Vocabulary) -> str:
    """SHA-256 of which item has which number; equal exactly where item numbers mean the same."""
    digest = sha256(vocabulary.catalogue.encode())
    digest.update(vocabulary.hashes_by_number.tobytes())
    return digest.hexdigest()


def bundle_path(uri: str | Path) -> Path:
    """The folder that a bundle's `uri` names.

    Raises:
        BundleError: If it is neither a path nor a `file://` URI.
    """
    text = str(uri)
    parts = urlsplit(text)
    if "://" not in text:
        return Path(text)
    if parts.scheme != "file" or parts.netloc not in ("", "localhost"):
        raise BundleError(f"bundle {text}: only paths and file:// URIs can be read")
    return Path(unquote(parts.path))


def read_manifest(folder: Path, manifest_sha256: str | None = None) -> Manifest:
    """Read a bundle's manifest alone, without looking at the other files.

    Raises:
        BundleError: If it is missing, changed, or of a format that this version cannot read.
    """
    path = folder / MANIFEST_FILE
    raw = read_file(path)
    if manifest_sha256 is not None and sha256(raw).hexdigest() != manifest_sha256:
        raise BundleError(f"{path} has another SHA-256 than its model update says: it was changed or replaced")
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError) as error:  # the latter: thousands of brackets
        raise BundleError(f"{path} is not JSON, so {folder} is no bundle: {error}") from error
    found = content.get("format_version") if isinstance(content, dict) else None
    if not isinstance(found, int) or found not in FORMATS:
        known = " and ".join(map(str, FORMATS))
        raise BundleError(f"{path} has format_version {found!r}, this version of streamrec reads {known}")
    try:
        manifest = FORMATS[found].model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise BundleError(f"{path}: {where}: {first['msg']}") from error
    return manifest


def insist_on_files(folder: Path, manifest: Manifest) -> None:
    """See that a bundle's files are there and as long as its manifest says, without reading them.

    Raises:
        BundleError: If one is not.
    """
    for name, record in manifest.files.items():
        path = folder / name
        try:
            size = path.stat().st_size
        except OSError as error:
            raise BundleError(f"{path} cannot be read: {error.strerror}") from error
        if size != record.bytes:
            raise BundleError(f"{path} has {size} bytes, the manifest says {record.bytes}")


def bundle_reference(folder: Path) -> BundleReference:
    """Version, absolute path and hash of a bundle as it lies there, as a model update announces them.

    Raises:
        BundleError: If its manifest cannot be read.
    """
    digest = sha256(read_file(folder / MANIFEST_FILE)).hexdigest()
    version = read_manifest(folder, digest).version
    return BundleReference(version=version, uri=str(folder.absolute()), manifest_sha256=digest)


def read_file(path: Path) -> bytes:
    """The bytes of a bundle's file; BundleError naming it if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read: {error.strerror}") from error
