"""Search in the lists near a query only: an inverted file over clusters of items.

FAISS's own way by inner product, clusters of directions, puts items of all lengths into one list, though the
longest vectors win most searches. Here the items are cut into shells by length, and each shell is clustered by
distance into as many lists: the longest items have small lists, the short ones large lists that are seldom looked
at. A list promises ``q·mean + 3 |q| spread``, about the best score that one of its items can have, and the most
promising are searched. At a million items that is an eighteenth of the work for the same recall
(`docs/adr/0009-index-kinds.md` has the figures).

The promise is an inner product of one dimension more, ``[q, |q|]·[mean, 3 spread]``; that is what the coarse
quantizer in the file holds, so plain FAISS can read such a file but not search it.
"""

from __future__ import annotations

from abc import abstractmethod
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

POINTS_PER_CENTROID = 40
"""Items that k-means reads for each list, where there are as many."""
KMEANS_ROUNDS = 8
SMALLEST_SHELL = 6_000
"""The longest quarter of the items is a shell of its own, and its longest quarter again, down to this many."""
SPREADS = 3
"""How far above its mean a list may hold something, in standard deviations of its items."""


def n_lists(n_items: int) -> int:
    """How many lists: 500 for 43,000 items, 4,000 for a million.

    More lists hold less that is searched in vain, and take longer to choose among. Measured best at
    about half of n^(2/3), and flat around it.
    """
    return max(1, min(n_items, int(0.4 * n_items ** (2 / 3))))


class IVFIndex:
    """Common to all that searches lists; a subclass says how a list holds its vectors."""

    kind: ClassVar[str]
    _stored_as: ClassVar[type[Any]]

    def __init__(self, ivf: Any) -> None:
        self._ivf = ivf
        self._coarse: Any = ivf.quantizer

    @classmethod
    def build(cls, vectors: FloatArray, seed: int = 0) -> Self:
        """An index over rows 1 … n_items, the same for the same seed. Shape: ``(n_items + 1, D)``."""
        items = np.ascontiguousarray(vectors[1:], dtype=np.float32)
        lists, nlist = _lists(items, seed)
        quantizer = faiss.IndexFlatIP(items.shape[1] + 1)
        quantizer.add(_promises(items, lists, nlist))
        ivf = cls._empty(items, nlist)
        ivf.quantizer = quantizer
        ivf.add_core(len(items), faiss.swig_ptr(items), None, faiss.swig_ptr(lists), None)
        return cls(ivf)

    @classmethod
    @abstractmethod
    def _empty(cls, items: FloatArray, nlist: int) -> Any:
        """The FAISS index that the items will be added to."""

    @property
    def params(self) -> dict[str, Any]:
        """How many lists there are, and how many of them a query looks at."""
        return {"nlist": int(self._ivf.nlist), "nprobe": self.effort}

    @property
    def n_items(self) -> int:
        """How many items can be found."""
        return int(self._ivf.ntotal)

    @property
    def embedding_dim(self) -> int:
        """``D``."""
        return int(self._ivf.d)

    @property
    def effort(self) -> int:
        """`nprobe`: how many lists a query looks at."""
        return int(self._ivf.nprobe)

    @effort.setter
    def effort(self, nprobe: int) -> None:
        self._ivf.nprobe = nprobe

    @property
    def max_effort(self) -> int:
        """All lists."""
        return int(self._ivf.nlist)

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        nprobe = min(self.effort, self.max_effort)
        numbers, scores, _ = self.nearest(queries, k, nprobe)
        n_answers = min(k, self.n_items)
        while nprobe < self.max_effort and n_answers and (short := np.flatnonzero(numbers[:, n_answers - 1] == 0)).size:
            nprobe = min(4 * nprobe, self.max_effort)  # the lists did not hold enough: look at more of them
            numbers[short], scores[short], _ = self.nearest(queries[short], k, nprobe)
        return numbers, scores

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some, which FAISS skips: costs a byte and a bit for each item."""
        return _Restricted(self, Selection(removed))

    def nearest(
        self, queries: FloatArray, k: int, nprobe: int, selection: Selection | None = None
    ) -> tuple[IntArray, FloatArray, FloatArray]:
        """Item numbers and scores from so many lists of each query, and what the last of these promised.

        Shape:
            - queries: ``(B, D)``
            - Output: ``(B, k)``, ``(B, k)`` and ``(B,)``
        """
        extended = np.concatenate([queries, np.linalg.norm(queries, axis=1)[:, None]], axis=1)
        promises, lists = self._coarse.search(extended, nprobe)
        how: Any = faiss.SearchParametersIVF()
        how.nprobe = nprobe
        if selection:
            how.sel = selection.selector
        scores, rows = np.empty((len(queries), k), dtype=np.float32), np.empty((len(queries), k), dtype=np.int64)
        arrays = [faiss.swig_ptr(array) for array in (lists, promises, scores, rows)]
        self._ivf.search_preassigned_c(len(queries), faiss.swig_ptr(queries), k, *arrays, False, how)
        scores[rows < 0] = -np.inf
        return rows + 1, scores, promises[:, -1]

    def save(self, path: Path) -> None:
        """Write the index to one file; `nprobe` goes with it."""
        faiss.write_index(self._ivf, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; see `VectorIndex.load`."""
        ivf: Any = read_index(path, cls._stored_as, faiss.METRIC_INNER_PRODUCT, f"an {cls.kind} index")
        if ivf.quantizer.d != ivf.d + 1:
            raise VectorIndexError(f"{path} holds lists that do not say how far their items spread: build it again")
        return cls(ivf)


class IVFFlatIndex(IVFIndex):
    """Lists of whole vectors: with all lists searched it is exact."""

    kind = "ivf_flat"
    _stored_as = faiss.IndexIVFFlat

    @classmethod
    def _empty(cls, items: FloatArray, nlist: int) -> Any:
        dim = items.shape[1]
        ivf = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, nlist, faiss.METRIC_INNER_PRODUCT)
        ivf.is_trained = True
        return ivf


class IVFSQ8Index(IVFIndex):
    """Lists of vectors with one byte a dimension: a quarter of the memory."""

    kind = "ivf_sq8"
    _stored_as = faiss.IndexIVFScalarQuantizer

    @classmethod
    def _empty(cls, items: FloatArray, nlist: int) -> Any:
        dim = items.shape[1]
        ivf: Any = faiss.IndexIVFScalarQuantizer(
            faiss.IndexFlatIP(dim),
            dim,
            nlist,
            faiss.ScalarQuantizer.QT_8bit,
            faiss.METRIC_INNER_PRODUCT,
            False,  # whole vectors; differences to the list's centre are no more exact here and take longer
        )
        if len(items):
            # The index would train on a sample, and cut off what is longer than the longest in it.
            ivf.sq.train(items)
        ivf.is_trained = True
        return ivf


class _Restricted:
    """An index and the items that are left of it.

    Where the best answers are gone, what comes next is spread over more lists. Without removals a search ends at
    some distance between the ``k``-th score and the promise of the last list; a list that lost items is searched
    until that distance is the same, so that as little is missed.
    """

    def __init__(self, index: IVFIndex, selection: Selection) -> None:
        self._index = index
        self._selection = selection

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        index, selection = self._index, self._selection
        nprobe = min(index.effort, index.max_effort)
        numbers, scores, last_promise = index.nearest(queries, k, nprobe)
        distance = last_promise - scores[:, min(k, max(1, index.n_items)) - 1]
        left = np.flatnonzero(selection.removed[numbers].any(axis=1) | np.isinf(distance))
        distance[np.isinf(distance)] = 0  # the lists did not hold enough even without removals
        kth = min(k, max(1, selection.n_left)) - 1
        while len(left):
            numbers[left], scores[left], last_promise = index.nearest(queries[left], k, nprobe, selection)
            if nprobe == index.max_effort or not selection.n_left:
                break
            left = left[last_promise - scores[left, kth] > distance[left]]
            nprobe = min(2 * nprobe, index.max_effort)
        return numbers, scores


def shells(lengths: FloatArray) -> list[IntArray]:
    """Rows by length: the longest items, those next to them, and so on, each shell three times the one before.

    Example:
        >>> [len(shell) for shell in shells(np.arange(100_000, dtype=np.float32))]
        [6250, 18750, 75000]
    """
    by_length = np.argsort(-lengths, kind="stable")
    ends = [len(by_length)]
    while ends[-1] // 4 >= SMALLEST_SHELL:
        ends.append(ends[-1] // 4)
    return np.split(by_length, ends[:0:-1])


def _lists(items: FloatArray, seed: int) -> tuple[IntArray, int]:
    """The list of each item, and how many lists there are. Shape: ``(n, D)`` to ``(n,)``."""
    lists = np.zeros(len(items), dtype=np.int64)
    parts = shells(np.linalg.norm(items, axis=1))
    a_shell = max(1, n_lists(len(items)) // len(parts))
    for place, rows in enumerate(parts):
        lists[rows] = place * a_shell + _clusters(items[rows], a_shell, seed)
    return lists, a_shell * len(parts)


def _clusters(items: FloatArray, n_clusters: int, seed: int) -> IntArray:
    """The cluster of each item, by k-means over a sample. Shape: ``(n,)``."""
    if len(items) <= n_clusters:
        return np.arange(len(items))
    kmeans = faiss.Kmeans(
        items.shape[1],
        n_clusters,
        niter=KMEANS_ROUNDS,
        seed=seed,
        min_points_per_centroid=1,  # else it warns of few items on standard error
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(items)
    centers = np.asarray(kmeans.centroids, dtype=np.float32)
    return faiss.knn(items, centers, 1, faiss.METRIC_L2)[1][:, 0]


def _promises(items: FloatArray, lists: IntArray, nlist: int) -> FloatArray:
    """Mean and spread of each list. Shape: ``(nlist, D + 1)``."""
    sizes = np.maximum(1, np.bincount(lists, minlength=nlist))[:, None]
    promises = np.zeros((nlist, items.shape[1] + 1), dtype=np.float32)
    by_list = np.argsort(lists, kind="stable")
    filled, starts = np.unique(lists[by_list], return_index=True)
    means = promises[:, :-1]
    if len(filled):
        means[filled] = np.add.reduceat(items[by_list], starts) / sizes[filled]
    squares = np.bincount(lists, weights=np.einsum("nd,nd->n", items, items), minlength=nlist) / sizes[:, 0]
    variances = (squares - np.einsum("ld,ld->l", means, means)) / items.shape[1]
    promises[:, -1] = SPREADS * np.sqrt(np.maximum(0, variances))
    return promises
