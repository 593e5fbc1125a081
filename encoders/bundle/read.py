"""Reading a bundle and making sure that it is safe to serve."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from encoders.bundle.manifest import (
    INDEX_FILE,
    ITEM_VECTORS_FILE,
    LEARNED_FILE,
    MANIFEST_FILE,
    POPULARITY_FILE,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    EncoderManifest,
    Manifest,
    bundle_path,
    read_manifest,
    vocabulary_fingerprint,
)
from encoders.bundle.registry import ENCODERS, RETRIEVERS, BundledRetriever
from encoders.bundle.tensors import read_tensors, read_verified, take
from encoders.errors import BundleError, VocabularyError
from encoders.protocols import FloatArray, SequenceEncoder
from encoders.vocabulary import Vocabulary


@dataclass(frozen=True)
class Bundle:
    """A bundle that was read, verified, and is safe to serve: an `EncoderBundle` or a `RetrieverBundle`."""

    folder: Path
    manifest: Manifest
    vocabulary: Vocabulary
    popularity: FloatArray
    """Shape: ``(n_items + 1,)``."""


@dataclass(frozen=True)
class EncoderBundle(Bundle):
    """A sequence encoder, and an index over its item vectors."""

    manifest: EncoderManifest
    encoder: SequenceEncoder
    item_vectors: FloatArray
    """Row 0 is zero. Shape: ``(n_items + 1, D)``."""

    @property
    def index_path(self) -> Path:
        """Where the index lies."""
        return self.folder / INDEX_FILE


@dataclass(frozen=True)
class RetrieverBundle(Bundle):
    """A retriever that has learned."""

    retriever: BundledRetriever
    """It goes on learning: whoever wants another one reads the bundle again."""


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
    if isinstance(manifest, EncoderManifest):
        return _encoder_bundle(folder, manifest)
    popularity, vocabulary = _popularity(folder, manifest), _vocabulary(folder, manifest)
    return RetrieverBundle(folder, manifest, vocabulary, popularity, _retriever(folder, manifest))


def read_encoder_bundle(uri: str | Path, manifest_sha256: str | None = None) -> EncoderBundle:
    """`read_bundle`, for who needs item vectors.

    Raises:
        BundleError: Also if the bundle has none.
    """
    bundle = read_bundle(uri, manifest_sha256)
    if not isinstance(bundle, EncoderBundle):
        raise BundleError(f"{bundle.folder} holds {bundle.manifest.kind}, which has no item vectors")
    return bundle


def _encoder_bundle(folder: Path, manifest: EncoderManifest) -> EncoderBundle:
    read_verified(folder, INDEX_FILE, manifest)
    vectors, path = read_tensors(folder, ITEM_VECTORS_FILE, manifest), folder / ITEM_VECTORS_FILE
    item_vectors = take(vectors, path, "item_vectors", (manifest.n_items + 1, manifest.embedding_dim))
    if item_vectors[0].any():
        raise BundleError(f"{path}: row 0 is padding and must be zero")
    popularity, vocabulary = _popularity(folder, manifest), _vocabulary(folder, manifest)
    encoder = _encoder(folder, manifest, item_vectors)
    return EncoderBundle(folder, manifest, vocabulary, popularity, encoder, item_vectors)


def _popularity(folder: Path, manifest: Manifest) -> FloatArray:
    path = folder / POPULARITY_FILE
    return take(read_tensors(folder, POPULARITY_FILE, manifest), path, "scores", (manifest.n_items + 1,))


def _vocabulary(folder: Path, manifest: Manifest) -> Vocabulary:
    path = folder / VOCABULARY_FILE
    arrays = read_tensors(folder, VOCABULARY_FILE, manifest)
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


def _encoder(folder: Path, manifest: EncoderManifest, item_vectors: FloatArray) -> SequenceEncoder:
    kind = ENCODERS.get(manifest.kind)
    if kind is None:
        raise _unknown_kind(folder, manifest, ENCODERS)
    try:
        encoder = kind.load(manifest.config, read_tensors(folder, WEIGHTS_FILE, manifest), item_vectors)
    except (ValueError, RuntimeError) as error:
        raise BundleError(f"{folder / WEIGHTS_FILE} does not fit the manifest: {error}") from error
    if encoder.embedding_dim != manifest.embedding_dim:
        raise BundleError(
            f"{folder / MANIFEST_FILE}: embedding_dim is {manifest.embedding_dim}, "
            f"its {manifest.kind} encoder has {encoder.embedding_dim}"
        )
    return encoder


def _retriever(folder: Path, manifest: Manifest) -> BundledRetriever:
    kind = RETRIEVERS.get(manifest.kind)
    if kind is None:
        raise _unknown_kind(folder, manifest, RETRIEVERS)
    arrays = read_tensors(folder, LEARNED_FILE, manifest)
    try:
        return kind.restored(manifest.config, arrays, manifest.n_items)
    except ValueError as error:
        raise BundleError(f"{folder / LEARNED_FILE} does not fit the manifest: {error}") from error


def _unknown_kind(folder: Path, manifest: Manifest, known: Iterable[str]) -> BundleError:
    return BundleError(
        f"{folder / MANIFEST_FILE}: kind {manifest.kind!r} is unknown, of bundles of format {manifest.format_version} "
        f"this version has {', '.join(known)}"
    )
