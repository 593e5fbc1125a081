"""Choosing, building and tuning the index of a model; reading it back."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from index.errors import VectorIndexError
from index.flat import FlatIndex
from index.hnsw import HNSWIndex
from index.ivf import IVFFlatIndex, IVFSQ8Index
from index.protocol import FloatArray, TunableIndex, VectorIndex
from index.recall import ExactAnswers

INDEXES: dict[str, type[VectorIndex]] = {kind.kind: kind for kind in (FlatIndex, IVFFlatIndex, IVFSQ8Index, HNSWIndex)}
"""The implementations by name."""
KINDS = tuple(INDEXES)
"""The kinds of index, as a manifest names them."""
AUTO = "auto"
"""Stands for the kind that is best for the catalogue."""

FLAT_UP_TO = 320_000
"""Items times dimensions that are searched exactly: with 5,000 items of 64 dimensions that costs 14 µs a query in a
batch, as much as searching lists of whole vectors."""
MANY_LISTS = 1 / 3
"""Part of the lists from which searching them costs more than comparing with all items at once."""


@dataclass(frozen=True, slots=True)
class BuiltIndex:
    """An index, and what it is worth."""

    index: VectorIndex
    recall: float
    """Measured against exact search, on the queries that it was tuned with."""
    k: int
    """How many answers that is about, no more than there are items."""
    seconds: float
    """How long choosing, building and tuning took."""


def build_index(
    vectors: FloatArray,
    queries: FloatArray,
    *,
    kind: str = AUTO,
    target_recall: float = 0.95,
    k: int = 10,
    seed: int = 0,
) -> BuiltIndex:
    """Build an index that finds what exact search does, as cheaply as it can.

    An approximate index is tuned to the smallest effort that reaches the target on ``queries``. Where a
    kind was asked for that cannot reach it, the recall says so. With `AUTO` small catalogues are searched
    exactly, others by lists of compressed vectors; if these cannot reach the target, by lists of whole
    vectors, and if too many lists had to be searched, exactly.

    Args:
        vectors: Item vectors; row 0 is padding.
        queries: Vectors of sessions as they will come, at least one: tuning on others, such as item
            vectors, promises what is not kept.
        kind: One of `KINDS`, or `AUTO`.
        target_recall: Share of the exact top ``k`` to find.
        k: Answers to each query.
        seed: Of the clustering.

    Shape:
        - vectors: ``(n_items + 1, D)``
        - queries: ``(B, D)``

    Raises:
        ValueError: If the kind is unknown, or there is no query or no item.
    """
    if kind not in (AUTO, *KINDS):
        raise ValueError(f"no index of kind {kind!r}; there are {', '.join((AUTO, *KINDS))}")
    began_s = time.monotonic()
    exact = ExactAnswers(vectors, queries, k)
    if kind != AUTO:
        index, recall = _built(INDEXES[kind], vectors, exact, target_recall, seed)
    else:
        index, recall = _chosen(vectors, exact, target_recall, seed)
    return BuiltIndex(index, recall, exact.k, time.monotonic() - began_s)


def load_index(path: Path, kind: str) -> VectorIndex:
    """Read an index from a file.

    Raises:
        VectorIndexError: If the kind is unknown, or the file is missing, damaged, or of another kind.
    """
    if kind not in INDEXES:
        raise VectorIndexError(f"{path} is of kind {kind!r}, this version of streamrec knows {', '.join(KINDS)}")
    return INDEXES[kind].load(path)


def _chosen(vectors: FloatArray, exact: ExactAnswers, target_recall: float, seed: int) -> tuple[VectorIndex, float]:
    n_items, dim = len(vectors) - 1, vectors.shape[1]
    if n_items * dim > FLAT_UP_TO:
        for kind in (IVFSQ8Index, IVFFlatIndex):
            index = kind.build(vectors, seed)
            recall = tune(index, exact, target_recall)
            if recall >= target_recall and index.effort <= MANY_LISTS * index.max_effort:
                return index, recall
    return _built(FlatIndex, vectors, exact, target_recall, seed)


def _built(
    kind: type[VectorIndex], vectors: FloatArray, exact: ExactAnswers, target_recall: float, seed: int
) -> tuple[VectorIndex, float]:
    index = kind.build(vectors, seed)
    if isinstance(index, TunableIndex):
        return index, tune(index, exact, target_recall)
    return index, exact.recall_of(index)


def tune(index: TunableIndex, exact: ExactAnswers, target_recall: float) -> float:
    """Set the smallest effort that reaches the target, or the largest there is; returns its recall.

    Doubles it until it is enough, then halves the interval: what is tried costs a few times what is found.
    """
    recalls: dict[int, float] = {}

    def reaches(effort: int) -> bool:
        index.effort = effort
        recalls[effort] = exact.recall_of(index)
        return recalls[effort] >= target_recall

    below, enough = 0, 1
    while not reaches(enough) and enough < index.max_effort:
        below, enough = enough, min(2 * enough, index.max_effort)
    if recalls[enough] >= target_recall:
        while enough - below > 1:
            middle = (below + enough) // 2
            below, enough = (below, middle) if reaches(middle) else (middle, enough)
    index.effort = enough
    return recalls[enough]
