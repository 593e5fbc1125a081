"""Search in the lists near a query only: an inverted file over clusters of items.

FAISS's own way by inner product, clusters of directions, puts items of all lengths into one list, though the
longest vectors win most searches. Here items are clustered by distance, so that long and short ones come into
lists of their own, and a list is as near as the mean of its longest items says: for the same recall an eighth
to a twentieth of the lists is searched (`docs/adr/0009-index-kinds.md` has the figures).
"""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from index.files import read_index
from index.kernels import set_kernels
from index.protocol import BoolArray, FloatArray, IntArray, ItemSearch
from index.selection import Selection

set_kernels()

POINTS_PER_CENTROID = 40
"""Items that k-means reads for each list: beyond, a list's centre moves no more than its items do."""
KMEANS_ROUNDS = 8
LONGEST = 0.2
"""Part of a list's items whose mean stands for the list."""


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

    @classmethod
    def build(cls, vectors: FloatArray, seed: int = 0) -> Self:
        """An index over rows 1 … n_items, the same for the same seed. Shape: ``(n_items + 1, D)``."""
        items = np.ascontiguousarray(vectors[1:], dtype=np.float32)
        centers = _clusters(items, n_lists(len(items)), seed)
        lists = _nearest(items, centers)
        quantizer = faiss.IndexFlatIP(items.shape[1])
        quantizer.add(_longest_means(items, lists, centers))
        ivf = cls._empty(quantizer, items)
        ivf.add_core(len(items), faiss.swig_ptr(items), None, faiss.swig_ptr(lists), None)
        return cls(ivf)

    @classmethod
    @abstractmethod
    def _empty(cls, quantizer: faiss.Index, items: FloatArray) -> Any:
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
        return self._search(queries, k, None)

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some, which FAISS skips: costs a bit for each item."""
        return _Restricted(self, Selection(removed))

    def _search(self, queries: FloatArray, k: int, selection: Selection | None) -> tuple[IntArray, FloatArray]:
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        n_answers = min(k, selection.n_left if selection else self.n_items)
        scores, rows = self._ivf.search(queries, k, params=self._how(self.effort, selection))
        nprobe = self.effort
        while nprobe < self.max_effort and n_answers and (short := np.flatnonzero(rows[:, n_answers - 1] < 0)).size:
            nprobe = min(4 * nprobe, self.max_effort)  # the lists did not hold enough: look at more of them
            scores[short], rows[short] = self._ivf.search(queries[short], k, params=self._how(nprobe, selection))
        item_numbers = rows + 1
        scores[item_numbers == 0] = -np.inf
        return item_numbers, scores

    def _how(self, nprobe: int, selection: Selection | None) -> Any:
        how: Any = faiss.SearchParametersIVF()
        how.nprobe = nprobe
        if selection:
            how.sel = selection.selector
        return how

    def save(self, path: Path) -> None:
        """Write the index to one file; `nprobe` goes with it."""
        faiss.write_index(self._ivf, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; see `VectorIndex.load`."""
        return cls(read_index(path, cls._stored_as, faiss.METRIC_INNER_PRODUCT, f"an {cls.kind} index"))


class IVFFlatIndex(IVFIndex):
    """Lists of whole vectors: with all lists searched it is exact."""

    kind = "ivf_flat"
    _stored_as = faiss.IndexIVFFlat

    @classmethod
    def _empty(cls, quantizer: faiss.Index, items: FloatArray) -> Any:
        ivf = faiss.IndexIVFFlat(quantizer, items.shape[1], quantizer.ntotal, faiss.METRIC_INNER_PRODUCT)
        ivf.is_trained = True
        return ivf


class IVFSQ8Index(IVFIndex):
    """Lists of vectors with one byte a dimension: a quarter of the memory."""

    kind = "ivf_sq8"
    _stored_as = faiss.IndexIVFScalarQuantizer

    @classmethod
    def _empty(cls, quantizer: faiss.Index, items: FloatArray) -> Any:
        ivf: Any = faiss.IndexIVFScalarQuantizer(
            quantizer,
            items.shape[1],
            quantizer.ntotal,
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
    """An index and the items that are left of it."""

    def __init__(self, index: IVFIndex, selection: Selection) -> None:
        self._index = index
        self._selection = selection

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        return self._index._search(queries, k, self._selection)


def _clusters(items: FloatArray, nlist: int, seed: int) -> FloatArray:
    """Centres by k-means over a sample. Shape: ``(n, D)`` to ``(nlist, D)``."""
    if len(items) <= nlist:
        return items if len(items) else np.zeros((nlist, items.shape[1]), dtype=np.float32)
    kmeans = faiss.Kmeans(
        items.shape[1],
        nlist,
        niter=KMEANS_ROUNDS,
        seed=seed,
        min_points_per_centroid=1,  # else it warns of few items on standard error
        max_points_per_centroid=POINTS_PER_CENTROID,
    )
    kmeans.train(items)
    return np.asarray(kmeans.centroids, dtype=np.float32)


def _nearest(items: FloatArray, centers: FloatArray) -> IntArray:
    """The list of each item: the nearest centre by distance. Shape: ``(n,)``."""
    return np.ascontiguousarray(faiss.knn(items, centers, 1, faiss.METRIC_L2)[1][:, 0])


def _longest_means(items: FloatArray, lists: IntArray, centers: FloatArray) -> FloatArray:
    """What a query compares each list by: the mean of its longest items. Shape: ``(nlist, D)``."""
    lengths = np.linalg.norm(items, axis=1)
    order = np.lexsort((-lengths, lists))
    sizes = np.bincount(lists, minlength=len(centers))
    place_in_list = np.arange(len(items)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    longest = order[place_in_list < np.ceil(LONGEST * sizes)[lists[order]]]
    means = centers.copy()
    filled, starts, counts = np.unique(lists[longest], return_index=True, return_counts=True)
    if len(filled):
        means[filled] = np.add.reduceat(items[longest], starts) / counts[:, None]
    return means
