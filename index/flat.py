"""Exact search over all item vectors.

A small catalogue is searched with one matrix product for a block of queries and a selection that looks at few of the
scores; FAISS keeps a heap for each query, which costs more than the product. Everything else is FAISS's.

Shape letters: ``B`` queries, ``D`` dimensions, ``I`` items, ``K`` answers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from index.files import read_index
from index.kernels import compiled, compiled_without_nan, set_kernels
from index.protocol import BoolArray, Excluded, FloatArray, IntArray, ItemSearch, NumberArray

set_kernels()
_MOST_MULTIPLIED = 8_192
"""Items up to which all vectors fit the cache beside the scores of some queries."""
_MOST_SELECTED = 64
"""Answers up to which the selection is the cheaper one."""
_BLOCK_SCORES = 1 << 18
"""Scores that are looked at together: a megabyte."""
_GROUPS = 32
"""Scores of which first only the highest is looked at."""


class FlatIndex:
    """Compares a query with every item: recall 1, and cost that grows with the number of items."""

    kind: ClassVar[str] = "flat"

    def __init__(self, flat: faiss.IndexFlat) -> None:
        self._flat = flat
        self.excludes = flat.ntotal <= _MOST_MULTIPLIED
        vectors = flat.reconstruct_n(0, flat.ntotal) if self.excludes else np.empty((0, flat.d), dtype=np.float32)
        self._vectors_DI = vectors.T

    @classmethod
    def build(cls, vectors: FloatArray, seed: int = 0) -> Self:
        """An index over rows 1 … n_items. Shape: ``(n_items + 1, D)``."""
        flat = faiss.IndexFlatIP(vectors.shape[1])
        flat.add(np.ascontiguousarray(vectors[1:], dtype=np.float32))
        return cls(flat)

    @property
    def params(self) -> dict[str, Any]:
        """Nothing: there is nothing to tune."""
        return {}

    @property
    def n_items(self) -> int:
        """How many items can be found."""
        return int(self._flat.ntotal)

    @property
    def embedding_dim(self) -> int:
        """``D``."""
        return int(self._flat.d)

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        if self.excludes and k <= _MOST_SELECTED:
            return self._select(queries, k, None)
        scores, rows = self._flat.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        # FAISS says row -1 where there are fewer than k rows, and row r is item number r + 1.
        item_numbers = rows + 1
        scores[item_numbers == 0] = -np.inf
        return item_numbers, scores

    def search_without(self, queries: FloatArray, k: int, excluded: Excluded) -> tuple[IntArray, FloatArray]:
        """The best of what each query does not exclude; see `ExcludingSearch.search_without`."""
        return self._select(queries, k, excluded)

    def _select(self, queries: FloatArray, k: int, excluded: Excluded | None) -> tuple[IntArray, FloatArray]:
        """A block of queries after the other: all scores, then the best of them."""
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        numbers, best = np.zeros((len(queries), k), np.int64), np.full((len(queries), k), -np.inf, np.float32)
        n_rows = max(1, min(len(queries), _BLOCK_SCORES // max(1, self.n_items)))
        block = np.empty((n_rows, self.n_items), dtype=np.float32)
        for start in range(0, len(queries), n_rows):
            rows = slice(start, start + n_rows)
            asked = queries[rows]
            scores = np.matmul(asked, self._vectors_DI, out=block[: len(asked)])
            if excluded:
                _strike_out(scores, excluded.items, excluded.ranges_BR2[rows])
            _best(scores, numbers[rows], best[rows])
        return numbers, best

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some; copies the vectors that are left, 0.1 ms for a megabyte."""
        left = np.flatnonzero(~removed[1:])
        vectors = np.zeros((len(left) + 1, self.embedding_dim), dtype=np.float32)
        vectors[1:] = self._flat.reconstruct_n(0, self.n_items)[left]
        return _Renumbered(FlatIndex.build(vectors), np.concatenate([[0], left + 1]))

    def save(self, path: Path) -> None:
        """Write the index to one file."""
        faiss.write_index(self._flat, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; see `VectorIndex.load`."""
        return cls(read_index(path, faiss.IndexFlat, faiss.METRIC_INNER_PRODUCT, "a flat index"))


@compiled
def _strike_out(scores_BI: FloatArray, items: NumberArray, ranges_BR2: IntArray) -> None:
    """Give items that a query excludes the score minus infinity, in place."""
    for b in range(len(scores_BI)):
        scores = scores_BI[b]
        for r in range(ranges_BR2.shape[1]):
            for item in items[ranges_BR2[b, r, 0] : ranges_BR2[b, r, 1]]:
                if item > 0:
                    scores[np.uint64(item - 1)] = -np.inf  # unsigned, so that Numba need not look for a negative one


@compiled
def _best(scores_BI: FloatArray, numbers_BK: IntArray, best_BK: FloatArray) -> None:
    """The highest scores of each row and their item numbers, put in place, best first.

    No fewer than ``K`` scores reach the ``K``-th highest of the maxima of groups, so only groups whose maximum does
    are looked into. Minus infinity is no score.
    """
    n_items, k = scores_BI.shape[1], best_BK.shape[1]
    n_groups = n_items // _GROUPS
    maxima = np.empty(n_groups, dtype=np.float32)
    for b in range(len(scores_BI)):
        scores, numbers, best = scores_BI[b], numbers_BK[b], best_BK[b]
        _maxima(scores, maxima)
        n, low = 0, np.float32(-np.inf)
        if n_groups >= k:
            for group in range(n_groups):
                n = _insert(best, numbers, n, maxima[group], 0)
            n, low = 0, best[k - 1]
        for group in range(n_groups):
            if maxima[group] >= low:
                for i in range(group, n_groups * _GROUPS, n_groups):
                    if scores[i] >= low:
                        n = _insert(best, numbers, n, scores[i], i + 1)
        for i in range(n_groups * _GROUPS, n_items):
            if scores[i] >= low:
                n = _insert(best, numbers, n, scores[i], i + 1)
        best[n:], numbers[n:] = -np.inf, 0


@compiled_without_nan
def _maxima(scores: FloatArray, maxima: FloatArray) -> None:
    """The highest score of each group; a group is every ``n_groups``-th score, so that one loop compares all groups."""
    n_groups = len(maxima)
    for group in range(n_groups):
        maxima[group] = scores[group]
    for start in range(n_groups, n_groups * _GROUPS, max(n_groups, 1)):
        part = scores[start : start + n_groups]
        for group in range(n_groups):
            maxima[group] = max(maxima[group], part[group])


@compiled
def _insert(best: FloatArray, numbers: IntArray, n: int, score: np.float32, number: int) -> int:
    """Put a score into its place among the ``n`` best so far, if it is one of them, and return how many there are."""
    place = len(best) - 1 if n == len(best) else n
    if score == -np.inf or (n == len(best) and score <= best[place]):
        return n
    while place > 0 and best[place - 1] < score:
        best[place], numbers[place] = best[place - 1], numbers[place - 1]
        place -= 1
    best[place], numbers[place] = score, number
    return min(n + 1, len(best))


class _Renumbered:
    """What is left of a flat index, under the numbers that it had."""

    def __init__(self, compact: FlatIndex, numbers: IntArray) -> None:
        self._compact = compact
        self._numbers = numbers
        self._rows = np.zeros(numbers.max(initial=0) + 2, dtype=np.int32)
        self._rows[numbers] = np.arange(len(numbers))
        self.excludes = compact.excludes

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        rows, scores = self._compact.search(queries, k)
        return self._numbers[rows], scores

    def search_without(self, queries: FloatArray, k: int, excluded: Excluded) -> tuple[IntArray, FloatArray]:
        """The best of what each query does not exclude; see `ExcludingSearch.search_without`."""
        rows: Any = self._rows[np.minimum(excluded.items, len(self._rows) - 1)]  # 0 is none, and what is gone is 0
        rows = rows.astype(excluded.items.dtype)  # so that there is one type to compile for
        found, scores = self._compact.search_without(queries, k, Excluded(rows, excluded.ranges_BR2))
        return self._numbers[found], scores
