"""The model that answers: everything of one bundle that a worker swaps together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.bundle import Bundle, read_bundle
from encoders.compiled import as_bytes
from encoders.errors import BundleError
from encoders.protocols import FloatArray
from encoders.records import BundleReference
from encoders.vocabulary import PADDING_ITEM
from encoders.window import WindowRule
from index.build import load_index
from index.errors import VectorIndexError
from index.overlay import Overlay
from index.protocol import ExcludingSearch, ItemSearch, VectorIndex
from streams.exclusion import ByFingerprint, Exclusion
from streams.session import FINGERPRINT_MASK
from streams.strategy import Width
from streams.texts import Texts

_LONGEST_KEY_BYTES = 255
"""A stored session counts them in one byte."""
_LARGEST_STATE = 65_535
"""Numbers; a stored session counts them in two bytes."""
_WARM_UP_ROWS = 32
_WARM_UP_K = 50
_SCORE_TOLERANCE = 0.1
"""How far scores may be off, as a part of the largest: room for compressed vectors, none for another item's."""


class ServingModel:
    """Encoder, vocabulary, item vectors and index of one bundle. Item numbers mean something only within it.

    Holds no reference to itself, so the memory of a replaced model is free as soon as the last batch
    that used it is done.

    Args:
        bundle: A bundle that was read and verified.
        index: The index of that bundle.
    """

    def __init__(self, bundle: Bundle, index: VectorIndex) -> None:
        self.bundle = bundle
        self.index = index
        self.version = bundle.manifest.version
        self.catalogue = bundle.manifest.catalogue
        self.state_key = f"{bundle.manifest.model}@{self.version}"
        """Under which a session keeps this model's encoder state."""
        hashes = bundle.vocabulary.hashes_by_number
        self.fingerprints: npt.NDArray[np.uint32] = (hashes & np.uint64(FINGERPRINT_MASK)).astype(np.uint32)
        """32-bit fingerprint of each item number. Shape: ``(n_items + 1,)``."""
        excludes = isinstance(index, ExcludingSearch) and index.excludes
        table = ByFingerprint.of(self.fingerprints) if excludes else None
        self.exclusion = Exclusion(table) if table else None
        """For an index that can leave out what a user has come by."""
        self.names = Texts(as_bytes(bundle.vocabulary.id_text), np.ascontiguousarray(bundle.vocabulary.id_offsets))
        """The id of each item number."""
        self.width = Width()
        """How many candidates are fetched for a list."""
        self._without: frozenset[int] = frozenset()
        self._rest: ItemSearch = index

    @classmethod
    def load(cls, reference: BundleReference, rule: WindowRule) -> ServingModel:
        """Open, verify and warm up a model. Blocks for as long as reading the bundle takes.

        Raises:
            BundleError: If it cannot be served; the message says what is wrong and where.
        """
        model = open_model(reference)
        verify(model, reference, rule)
        warm_up(model)
        return model

    def index_without(self, identities: frozenset[int]) -> ItemSearch:
        """The index without the items that have one of the given hashes.

        Asked again with the same object it answers at once.
        """
        if identities is not self._without:
            removed = np.zeros(len(self.fingerprints), dtype=np.bool_)
            removed[self.bundle.vocabulary.item_numbers(identities)] = True
            removed[PADDING_ITEM] = False
            self._rest = Overlay(self.index, removed) if removed.any() else self.index
            self._without = identities
        return self._rest


class ModelSlot:
    """Where the worker finds the model; it reads `current` once for each batch, so no list mixes two models."""

    def __init__(self) -> None:
        self.current: ServingModel | None = None

    def swap(self, model: ServingModel) -> None:
        """Let the next batch be answered by ``model``."""
        self.current = model


def open_model(reference: BundleReference) -> ServingModel:
    """Read a bundle's files and check every hash, dimension and number.

    Raises:
        BundleError: If a file is missing, damaged or unknown.
    """
    bundle = read_bundle(reference.uri, reference.manifest_sha256)
    try:
        return ServingModel(bundle, load_index(bundle.index_path, bundle.manifest.index.kind))
    except VectorIndexError as error:
        raise BundleError(str(error)) from error


def verify(model: ServingModel, reference: BundleReference, rule: WindowRule) -> None:
    """Check that the parts belong together, and to this worker.

    Raises:
        BundleError: If they do not.
    """
    manifest, path = model.bundle.manifest, model.bundle.index_path
    if manifest.version != reference.version:
        raise BundleError(f"{path.parent} holds version {manifest.version}, the update announced {reference.version}")
    if len(model.state_key.encode()) > _LONGEST_KEY_BYTES:
        raise BundleError(
            f"{path.parent}: the names of model and version, {model.state_key!r}, take more than {_LONGEST_KEY_BYTES}"
            " bytes, which no stored session has room for; publish it under shorter ones"
        )
    if (size := model.bundle.encoder.state_size) > _LARGEST_STATE:
        raise BundleError(
            f"{path.parent}: a state of {size:,} numbers is more than the {_LARGEST_STATE:,} that a stored session has"
            " room for; train with a smaller trainer.hidden_dim or trainer.n_layers"
        )
    if manifest.window_rule != rule:
        raise BundleError(
            f"{path.parent} was trained under another window rule than this worker's sessions are kept under: "
            f"{_differences(manifest.window_rule, rule)}; train with the [model.window] that the workers have"
        )
    found, expected = (model.index.n_items, model.index.embedding_dim), (manifest.n_items, manifest.embedding_dim)
    if found != expected:
        raise BundleError(f"{path} holds (items, dimensions) {found}, the manifest says {expected}")


def _differences(found: WindowRule, kept: WindowRule) -> str:
    """What tells two rules apart, such as ``max_len 20 (worker: 50)``."""
    pairs = zip(found.model_dump(mode="json").items(), kept.model_dump(mode="json").values(), strict=True)
    return ", ".join(f"{name} {theirs} (worker: {ours})" for (name, theirs), ours in pairs if theirs != ours)


def warm_up(model: ServingModel) -> None:
    """Run an encode, a step and a search as a batch would, and check what they answer.

    Raises:
        BundleError: If the model fails, or answers what is no vector or no item.
    """
    n_items, encoder, folder = model.bundle.manifest.n_items, model.bundle.encoder, model.bundle.index_path.parent
    if not n_items:
        raise BundleError(f"{folder} knows no item")
    items = np.arange(_WARM_UP_ROWS, dtype=np.int64) % n_items + 1
    states, encoded = encoder.encode(items[:, None])
    _, stepped = encoder.step(states, items)
    for queries in (encoded, stepped):
        if queries.shape != (_WARM_UP_ROWS, encoder.embedding_dim) or not np.isfinite(queries).all():
            raise BundleError(f"{folder}: the encoder answers with vectors {queries.shape}, or not with finite numbers")
        _check_search(model, queries)


def _check_search(model: ServingModel, queries: FloatArray) -> None:
    path, n_items = model.bundle.index_path, model.bundle.manifest.n_items
    numbers, scores = model.index.search(queries, min(_WARM_UP_K, n_items))
    if numbers.min() < 1 or numbers.max() > n_items or not np.isfinite(scores).all():
        raise BundleError(f"{path} answers with items that it cannot hold, or not with finite scores")
    exact = np.einsum("bd,bkd->bk", queries, model.bundle.item_vectors[numbers])
    if not np.allclose(scores, exact, rtol=0, atol=_SCORE_TOLERANCE * np.abs(exact).max()):
        raise BundleError(f"{path} scores items otherwise than their item vectors do: it was built from others")
