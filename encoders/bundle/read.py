"""Reading a bundle and making sure that it is safe to serve."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.bundle.manifest import (
    INDEX_FILE,
    ITEM_VECTORS_FILE,
    MANIFEST_FILE,
    POPULARITY_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    Manifest,
    bundle_path,
    read_file,
    read_manifest,
    vocabulary_fingerprint,
)
from encoders.bundle.registry import ENCODERS
from encoders.errors import BundleError, VocabularyError
from encoders.protocols import FloatArray, SequenceEncoder
from encoders.vocabulary import Vocabulary

Tensors = Mapping[str, npt.NDArray[Any]]
_DTYPES = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1", "BOOL": "|b1",
}  # fmt: skip
"""Names of types in safetensors files."""


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read, verified, and is safe to serve."""

    manifest: Manifest
    vocabulary: Vocabulary
    encoder: SequenceEncoder
    item_vectors: FloatArray
    """Row 0 is zero. Shape: ``(n_items + 1, D)``."""
    popularity: FloatArray
    """Shape: ``(n_items + 1,)``."""
    index_path: Path


def read_bundle(uri: str | Path, manifest_sha256: str | None = None) -> Bundle:
    """Read and verify a bundle: every hash, every dimension, and that every number is finite.

    The index is verified by its hash alone; whoever loads it compares its size and dimension.

    Args:
        uri: Folder of the bundle, as a path or as a `file://` URI.
        manifest_sha256: What the manifest's SHA-256 must be; None accepts any, for a bundle that was
            named by hand.

    Raises:
        BundleError: If anything is missing, damaged, unknown or unsafe; the message names the file.
    """
    folder = bundle_path(uri)
    manifest = read_manifest(folder, manifest_sha256)
    _read_verified(folder, INDEX_FILE, manifest)
    n_rows = manifest.n_items + 1
    vectors = _tensors(folder, ITEM_VECTORS_FILE, manifest)
    item_vectors = _take(vectors, folder / ITEM_VECTORS_FILE, "item_vectors", (n_rows, manifest.embedding_dim))
    if item_vectors[0].any():
        raise BundleError(f"{folder / ITEM_VECTORS_FILE}: row 0 is padding and must be zero")
    popularity = _take(_tensors(folder, POPULARITY_FILE, manifest), folder / POPULARITY_FILE, "scores", (n_rows,))
    return Bundle(
        manifest=manifest,
        vocabulary=_vocabulary(folder, manifest),
        encoder=_encoder(folder, manifest, item_vectors),
        item_vectors=item_vectors,
        popularity=popularity,
        index_path=folder / INDEX_FILE,
    )


def _read_verified(folder: Path, name: str, manifest: Manifest) -> bytes:
    path = folder / name
    expected = manifest.files.get(name)
    if expected is None:
        raise BundleError(f"{folder / MANIFEST_FILE} does not list {name}")
    data = read_file(path)
    if len(data) != expected.bytes:
        raise BundleError(f"{path} has {len(data)} bytes, the manifest says {expected.bytes}")
    if sha256(data).hexdigest() != expected.sha256:
        raise BundleError(f"{path} has another SHA-256 than the manifest says: it is damaged or was changed")
    return data


def _tensors(folder: Path, name: str, manifest: Manifest) -> Tensors:
    """The tensors of a file, every floating point number in them finite."""
    try:
        tensors = _parse(_read_verified(folder, name, manifest))
    except (KeyError, TypeError, ValueError, struct.error) as error:
        raise BundleError(f"{folder / name} cannot be read as safetensors: {error}") from error
    for key, tensor in tensors.items():
        if np.issubdtype(tensor.dtype, np.floating) and not np.isfinite(tensor).all():
            raise BundleError(f"{folder / name}: tensor {key!r} holds NaN or infinity")
    return tensors


def _parse(data: bytes) -> Tensors:
    """The tensors of a safetensors file: a header in JSON that says where each lies.

    The library's own `load` copies all of them while it holds the interpreter's lock, a tenth of a second for a
    million items; numpy lets go of it.

    Raises:
        KeyError, TypeError, ValueError, struct.error: If it is no such file, or of a type that numpy has not.
    """
    (header_bytes,) = struct.unpack_from("<Q", data)
    start = 8 + header_bytes
    header = json.loads(data[8:start])
    header.pop("__metadata__", None)
    tensors = {}
    for name, place in header.items():
        begin, end = place["data_offsets"]
        dtype = np.dtype(_DTYPES[place["dtype"]])
        if not 0 <= begin <= end <= len(data) - start:
            raise ValueError(f"{name!r} lies outside of the file")
        flat = np.frombuffer(data, dtype, (end - begin) // dtype.itemsize, start + begin)
        tensors[name] = flat.reshape(place["shape"]).copy()
    return tensors


def _take(tensors: Tensors, path: Path, key: str, shape: tuple[int, ...]) -> FloatArray:
    tensor = tensors.get(key)
    if tensor is None:
        raise BundleError(f"{path} has no tensor {key!r}")
    if tensor.shape != shape or tensor.dtype != np.float32:
        raise BundleError(f"{path}: {key!r} is {tensor.dtype} {tensor.shape}, the manifest says float32 {shape}")
    return tensor


def _vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    path = folder / VOCABULARY_FILE
    arrays = _tensors(folder, VOCABULARY_FILE, manifest)
    try:
        vocabulary = Vocabulary(
            manifest.catalogue, arrays["sorted_hashes"], arrays["numbers"], arrays["id_bytes"], arrays["id_offsets"]
        )
    except KeyError as error:
        raise BundleError(f"{path} has no tensor {error}") from error
    except VocabularyError as error:
        raise BundleError(f"{path}: {error}") from error
    if vocabulary.n_items != manifest.n_items:
        raise BundleError(f"{path} has {vocabulary.n_items} items, the manifest says {manifest.n_items}")
    if vocabulary_fingerprint(vocabulary) != manifest.vocabulary_fingerprint:
        raise BundleError(f"{path} is another vocabulary than the manifest's fingerprint says")
    return vocabulary


def _encoder(folder: Path, manifest: Manifest, item_vectors: FloatArray) -> SequenceEncoder:
    kind = ENCODERS.get(manifest.kind)
    if kind is None:
        known = ", ".join(ENCODERS)
        raise BundleError(f"{folder / MANIFEST_FILE}: kind {manifest.kind!r} is unknown, this version has {known}")
    try:
        encoder = kind.load(manifest.config, _tensors(folder, WEIGHTS_FILE, manifest), item_vectors)
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{folder / WEIGHTS_FILE} does not fit the manifest: {error}") from error
    if encoder.embedding_dim != manifest.embedding_dim:
        raise BundleError(
            f"{folder / MANIFEST_FILE}: embedding_dim is {manifest.embedding_dim}, "
            f"its {manifest.kind} encoder has {encoder.embedding_dim}"
        )
    return encoder
