"""Search along a graph of neighbours, through the reduction of inner product to distance.

The graph needs distances: by raw inner product an item is not its own nearest, few long vectors are everybody's
neighbours, and recall breaks. With ``L`` the longest length, an item ``x`` becomes ``[x, sqrt(L² - |x|²)]``, of
length ``L``, and a query ``q`` becomes ``[q, 0]``, here scaled to length ``L``, which changes no order. Then
``distance² = 2L² - 2 L (q·x) / |q|``: the nearest are those of the largest inner product, which follows from it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from index.errors import VectorIndexError
from index.files import read_index
from index.kernels import set_kernels
from index.protocol import BoolArray, FloatArray, IntArray, ItemSearch
from index.selection import Selection

set_kernels()

NEIGHBOURS = 32
"""Links of an item; twice as many at the bottom of the graph."""
EF_CONSTRUCTION = 200
MAX_EF_SEARCH = 2048
"""Beyond, the graph is slower than comparing with all items, for as many items as are put into one."""
_GraphParameters: Any = faiss.SearchParametersHNSW  # type: ignore[attr-defined] # the stub forgets it
_TINY = np.float32(1e-30)
"""Stands for the length of a query of zeros, so that what is missing still scores minus infinity."""
_SAME_LENGTH = 1e-3
"""By how much lengths of stored vectors may differ, as a part."""


class HNSWIndex:
    """A graph of items: fast to search for one query at a time, slow to build, large."""

    kind: ClassVar[str] = "hnsw"

    def __init__(self, graph: faiss.IndexHNSWFlat) -> None:
        self._graph: Any = graph
        self._storage: Any = faiss.downcast_index(graph.storage)
        self._length = float(np.linalg.norm(graph.reconstruct(0))) if graph.ntotal else 0.0

    @classmethod
    def build(cls, vectors: FloatArray, seed: int = 0) -> Self:
        """An index over rows 1 … n_items. Shape: ``(n_items + 1, D)``."""
        items = np.asarray(vectors[1:], dtype=np.float32)
        squares = np.einsum("nd,nd->n", items, items, dtype=np.float64)
        rest = np.sqrt(squares.max(initial=0.0) - squares).astype(np.float32)
        graph: Any = faiss.IndexHNSWFlat(vectors.shape[1] + 1, NEIGHBOURS)
        graph.hnsw.efConstruction = EF_CONSTRUCTION
        graph.add(np.concatenate([items, rest[:, None]], axis=1))
        return cls(graph)

    @property
    def params(self) -> dict[str, Any]:
        """Links of an item, and how many candidates building and searching keep in view."""
        hnsw = self._graph.hnsw
        return {"m": hnsw.nb_neighbors(1), "ef_construction": hnsw.efConstruction, "ef_search": self.effort}

    @property
    def n_items(self) -> int:
        """How many items can be found."""
        return int(self._graph.ntotal)

    @property
    def embedding_dim(self) -> int:
        """``D``."""
        return int(self._graph.d) - 1

    @property
    def effort(self) -> int:
        """`ef_search`: how many candidates a search keeps in view."""
        return int(self._graph.hnsw.efSearch)

    @effort.setter
    def effort(self, ef_search: int) -> None:
        self._graph.hnsw.efSearch = ef_search

    @property
    def max_effort(self) -> int:
        """Where another kind is better."""
        return max(1, min(self.n_items, MAX_EF_SEARCH))

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        return self.nearest(queries, k, self.effort)

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some; costs a byte and a bit for each item."""
        return _Restricted(self, Selection(removed))

    def nearest(self, queries: FloatArray, k: int, ef_search: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores by a walk through the graph, by comparing all where it reaches too few."""
        scaled, lengths = self._scaled(queries)
        distances, rows = self._graph.search(scaled, k, params=_GraphParameters(efSearch=ef_search))
        if self.n_items and (short := np.flatnonzero(rows[:, min(k, self.n_items) - 1] < 0)).size:
            distances[short], rows[short] = self._storage.search(scaled[short], k)
        return rows + 1, self._scores(distances, rows, lengths)

    def compared(self, queries: FloatArray, k: int, selection: Selection) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores by comparing with every item that is left."""
        scaled, lengths = self._scaled(queries)
        params: Any = faiss.SearchParameters()
        params.sel = selection.selector
        distances, rows = self._storage.search(scaled, k, params=params)
        return rows + 1, self._scores(distances, rows, lengths)

    def _scaled(self, queries: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Queries with their added coordinate, and how long they were. Shape: ``(B, D + 1)`` and ``(B, 1)``."""
        lengths = np.linalg.norm(queries, axis=1, keepdims=True).astype(np.float32)
        scaled = np.zeros((len(queries), self._graph.d), dtype=np.float32)
        scaled[:, :-1] = queries * (self._length / np.where(lengths > 0, lengths, 1))
        return scaled, np.maximum(lengths, _TINY)

    def _scores(self, distances: FloatArray, rows: IntArray, lengths: FloatArray) -> FloatArray:
        """Inner products from distances; minus infinity for row -1. Shape: ``(B, k)``."""
        distances[rows < 0] = np.inf
        cosines = self._length - distances / (2 * self._length or 1)  # times the item's length
        return cosines * lengths

    def save(self, path: Path) -> None:
        """Write the index to one file; `ef_search` goes with it."""
        faiss.write_index(self._graph, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; see `VectorIndex.load`."""
        graph = read_index(path, faiss.IndexHNSWFlat, faiss.METRIC_L2, "an hnsw index")
        if graph.ntotal:
            lengths = np.linalg.norm(graph.reconstruct_n(0, min(int(graph.ntotal), 64)), axis=1)
            if np.ptp(lengths) > _SAME_LENGTH * lengths.max():
                raise VectorIndexError(f"{path} holds a graph of vectors of many lengths: scores cannot be had from it")
        return cls(graph)


class _Restricted:
    """An index and the items that are left of it.

    A query whose best answers are gone asks for more of them, and has all items compared before the graph gets
    slower than that.
    """

    def __init__(self, index: HNSWIndex, selection: Selection) -> None:
        self._index = index
        self._selection = selection

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        queries = np.asarray(queries, dtype=np.float32)
        index, selection = self._index, self._selection
        numbers, scores = index.search(queries, k)
        left = np.flatnonzero(selection.removed[numbers].any(axis=1))
        width, n_answers = k, max(1, min(k, selection.n_left))
        while len(left):
            width *= 4
            ef_search = index.effort * width // k
            if ef_search > MAX_EF_SEARCH or width >= index.n_items:
                numbers[left], scores[left] = index.compared(queries[left], k, selection)
                break
            wide_numbers, wide_scores = index.nearest(queries[left], width, ef_search)
            gone = selection.removed[wide_numbers]
            first = np.argsort(gone, axis=1, kind="stable")[:, :k]
            numbers[left] = np.take_along_axis(wide_numbers, first, axis=1)
            scores[left] = np.take_along_axis(wide_scores, first, axis=1)
            left = left[(~gone).sum(axis=1) < n_answers]
        return numbers, scores
