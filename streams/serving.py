"""The model that answers: everything of one bundle that a worker swaps together."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.bundle import Bundle, EncoderBundle, RetrieverBundle, read_bundle
from encoders.compiled import as_bytes
from encoders.errors import BundleError
from encoders.protocols import FloatArray, IntArray
from encoders.records import BundleReference
from encoders.vocabulary import PADDING_ITEM
from encoders.window import WindowRule
from index.build import load_index
from index.errors import VectorIndexError
from index.overlay import Overlay
from index.protocol import BoolArray, ItemSearch, VectorIndex, excluding
from streams.exclusion import ByFingerprint, Exclusion
from streams.learning import Learner
from streams.session import FINGERPRINT_MASK
from streams.strategy import WIDEST, Width
from streams.texts import Texts

_LONGEST_KEY_BYTES = 255
"""A stored session counts them in one byte."""
_LARGEST_STATE = 65_535
"""Numbers; a stored session counts them in two bytes."""
_WARM_UP_ROWS = 32
_WARM_UP_K = 50
_SCORE_TOLERANCE = 0.1
"""How far scores may be off, as a part of the largest: room for compressed vectors, none for another item's."""
WITHHELD = -1
"""In place of the number of an item that may not be listed."""


class ServingModel:
    """What is common to an `EncoderModel` and a `RetrieverModel`. Item numbers mean something only within it.

    Holds no reference to itself, so the memory of a replaced model is free as soon as the last batch
    that used it is done.

    Args:
        bundle: A bundle that was read and verified.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self.version = bundle.manifest.version
        self.catalogue = bundle.manifest.catalogue
        self.state_key = f"{bundle.manifest.model}@{self.version}"
        """Under which a session keeps this model's encoder state."""
        hashes = bundle.vocabulary.hashes_by_number
        self.fingerprints: npt.NDArray[np.uint32] = (hashes & np.uint64(FINGERPRINT_MASK)).astype(np.uint32)
        """32-bit fingerprint of each item number. Shape: ``(n_items + 1,)``."""
        self.names = Texts(as_bytes(bundle.vocabulary.id_text), np.ascontiguousarray(bundle.vocabulary.id_offsets))
        """The id of each item number."""
        self.width = Width()
        """How many candidates are fetched for a list."""

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

    def withheld(self, identities: frozenset[int]) -> BoolArray:
        """Which item numbers have one of the given hashes. Shape: ``(n_items + 1,)``."""
        withheld = np.zeros(len(self.fingerprints), dtype=np.bool_)
        withheld[self.bundle.vocabulary.item_numbers(identities)] = True
        withheld[PADDING_ITEM] = False
        return withheld


class EncoderModel(ServingModel):
    """Encoder, vocabulary, item vectors and index of one bundle.

    Args:
        bundle: A bundle that was read and verified.
        index: The index of that bundle.
    """

    bundle: EncoderBundle

    def __init__(self, bundle: EncoderBundle, index: VectorIndex) -> None:
        super().__init__(bundle)
        self.index = index
        table = ByFingerprint.of(self.fingerprints) if excluding(index) else None
        self.exclusion = Exclusion(table) if table else None
        """For an index that can leave out what a user has come by."""
        self._without: frozenset[int] = frozenset()
        self._rest: ItemSearch = index

    def index_without(self, identities: frozenset[int]) -> ItemSearch:
        """The index without the items that have one of the given hashes.

        Asked again with the same object it answers at once.
        """
        if identities is not self._without:
            removed = self.withheld(identities)
            self._rest = Overlay(self.index, removed) if removed.any() else self.index
            self._without = identities
        return self._rest


class RetrieverModel(ServingModel):
    """Retriever and vocabulary of one bundle. It learns what it is let have, and nothing else changes what it answers.

    Args:
        bundle: A bundle that was read and verified.
    """

    bundle: RetrieverBundle

    def __init__(self, bundle: RetrieverBundle) -> None:
        super().__init__(bundle)
        self.width = Width(least=WIDEST)  # a wide answer costs it hardly more, and being asked again as much again
        self.learner = Learner(bundle.retriever, bundle.manifest.trained_through)
        self._withheld: tuple[frozenset[int], BoolArray] = frozenset(), self.withheld(frozenset())

    def search_without(self, identities: frozenset[int], windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` items for each window; those that have one of the given hashes have number -1.

        Shape:
            - windows: ``(B, T)``
            - Output: ``(B, k)`` and ``(B, k)``, 0 and minus infinity where the retriever knows no more items
        """
        if identities is not self._withheld[0]:
            self._withheld = identities, self.withheld(identities)
        numbers, scores = self.bundle.retriever.retrieve(windows, k)
        return np.where(self._withheld[1][numbers], WITHHELD, numbers), scores


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
    if isinstance(bundle, RetrieverBundle):
        return RetrieverModel(bundle)
    assert isinstance(bundle, EncoderBundle), "there is no other"
    try:
        return EncoderModel(bundle, load_index(bundle.index_path, bundle.manifest.index.kind))
    except VectorIndexError as error:
        raise BundleError(str(error)) from error


def verify(model: ServingModel, reference: BundleReference, rule: WindowRule) -> None:
    """Check that the parts belong together, and to this worker.

    Raises:
        BundleError: If they do not.
    """
    manifest, folder = model.bundle.manifest, model.bundle.folder
    if manifest.version != reference.version:
        raise BundleError(f"{folder} holds version {manifest.version}, the update announced {reference.version}")
    if len(model.state_key.encode()) > _LONGEST_KEY_BYTES:
        raise BundleError(
            f"{folder}: the names of model and version, {model.state_key!r}, take more than {_LONGEST_KEY_BYTES}"
            " bytes, which no stored session has room for; publish it under shorter ones"
        )
    if manifest.window_rule != rule:
        raise BundleError(
            f"{folder} was trained under another window rule than this worker's sessions are kept under: "
            f"{_differences(manifest.window_rule, rule)}; train with the [model.window] that the workers have"
        )
    if isinstance(model, EncoderModel):
        _verify_sizes(model)


def _verify_sizes(model: EncoderModel) -> None:
    manifest, path = model.bundle.manifest, model.bundle.index_path
    if (size := model.bundle.encoder.state_size) > _LARGEST_STATE:
        raise BundleError(
            f"{path.parent}: a state of {size:,} numbers is more than the {_LARGEST_STATE:,} that a stored session has"
            " room for; train with a smaller trainer.hidden_dim or trainer.n_layers"
        )
    found, expected = (model.index.n_items, model.index.embedding_dim), (manifest.n_items, manifest.embedding_dim)
    if found != expected:
        raise BundleError(f"{path} holds (items, dimensions) {found}, the manifest says {expected}")


def _differences(found: WindowRule, kept: WindowRule) -> str:
    """What tells two rules apart, such as ``max_len 20 (worker: 50)``."""
    pairs = zip(found.model_dump(mode="json").items(), kept.model_dump(mode="json").values(), strict=True)
    return ", ".join(f"{name} {theirs} (worker: {ours})" for (name, theirs), ours in pairs if theirs != ours)


def warm_up(model: ServingModel) -> None:
    """Run what a batch would, and check what the model answers.

    Raises:
        BundleError: If the model fails, or answers what is no vector or no item.
    """
    n_items, folder = model.bundle.manifest.n_items, model.bundle.folder
    if not n_items:
        raise BundleError(f"{folder} knows no item")
    items = np.arange(_WARM_UP_ROWS, dtype=np.int64) % n_items + 1
    if isinstance(model, RetrieverModel):
        _warm_up_retriever(model, items)
    elif isinstance(model, EncoderModel):
        _warm_up_encoder(model, items)


def _warm_up_encoder(model: EncoderModel, items: IntArray) -> None:
    encoder, folder = model.bundle.encoder, model.bundle.folder
    states, encoded = encoder.encode(items[:, None])
    _, stepped = encoder.step(states, items)
    for queries in (encoded, stepped):
        if queries.shape != (_WARM_UP_ROWS, encoder.embedding_dim) or not np.isfinite(queries).all():
            raise BundleError(f"{folder}: the encoder answers with vectors {queries.shape}, or not with finite numbers")
        _check_search(model, queries)


def _warm_up_retriever(model: RetrieverModel, items: IntArray) -> None:
    retriever, n_items = model.bundle.retriever, model.bundle.manifest.n_items
    nothing = np.zeros(0, dtype=np.int64)
    retriever.learn(nothing, nothing, np.zeros(0))  # compiles it, and changes nothing
    numbers, scores = retriever.retrieve(items[:, None], min(_WARM_UP_K, n_items))
    if numbers.min() < 0 or numbers.max() > n_items or not np.isfinite(scores[numbers > 0]).all():
        raise BundleError(f"{model.bundle.folder} answers with items that it cannot hold, or not with finite scores")


def _check_search(model: EncoderModel, queries: FloatArray) -> None:
    path, n_items = model.bundle.index_path, model.bundle.manifest.n_items
    numbers, scores = model.index.search(queries, min(_WARM_UP_K, n_items))
    if numbers.min() < 1 or numbers.max() > n_items or not np.isfinite(scores).all():
        raise BundleError(f"{path} answers with items that it cannot hold, or not with finite scores")
    exact = np.einsum("bd,bkd->bk", queries, model.bundle.item_vectors[numbers])
    if not np.allclose(scores, exact, rtol=0, atol=_SCORE_TOLERANCE * np.abs(exact).max()):
        raise BundleError(f"{path} scores items otherwise than their item vectors do: it was built from others")
