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
        return self._search(queries, k, None)

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some. The walk passes through them; where that finds too few, all are compared."""
        return _Restricted(self, Selection(removed))

    def _search(self, queries: FloatArray, k: int, selection: Selection | None) -> tuple[IntArray, FloatArray]:
        queries = np.asarray(queries, dtype=np.float32)
        lengths = np.linalg.norm(queries, axis=1)
        scaled = np.zeros((len(queries), self._graph.d), dtype=np.float32)
        scaled[:, :-1] = queries * (self._length / np.where(lengths > 0, lengths, 1))[:, None]
        distances, rows = self._graph.search(scaled, k, params=_how(_GraphParameters, self.effort, selection))
        n_answers = min(k, selection.n_left if selection else self.n_items)
        if n_answers and (short := np.flatnonzero(rows[:, n_answers - 1] < 0)).size:
            params = _how(faiss.SearchParameters, None, selection)
            distances[short], rows[short] = self._storage.search(scaled[short], k, params=params)
        item_numbers = rows + 1
        distances[item_numbers == 0] = np.inf
        cosines = self._length - distances / (2 * self._length or 1)  # times the item's length
        return item_numbers, cosines * np.maximum(lengths, _TINY)[:, None]

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
    """An index and the items that are left of it."""

    def __init__(self, index: HNSWIndex, selection: Selection) -> None:
        self._index = index
        self._selection = selection

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        return self._index._search(queries, k, self._selection)


def _how(kind: type[Any], ef_search: int | None, selection: Selection | None) -> Any:
    how = kind()
    if ef_search is not None:
        how.efSearch = ef_search
    if selection:
        how.sel = selection.selector
    return how
