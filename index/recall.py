"""How much of the exact answer an index finds."""

from __future__ import annotations

import faiss
import numpy as np

from index.kernels import set_kernels
from index.protocol import FloatArray, ItemSearch

set_kernels()

_ROUNDING = 1e-6
"""By how much two ways to add up an inner product may differ, as a part of the product of the lengths."""


class ExactAnswers:
    """The exact answers to some queries, to measure many indexes or many settings by.

    Costs one comparison of every query with every item, 2 s for 1,000 queries over a million items of 64
    dimensions; measuring an index then costs its searches.

    Args:
        vectors: Item vectors; row 0 is padding.
        queries: Query vectors, at least one.
        k: Answers asked for.

    Shape:
        - vectors: ``(n_items + 1, D)``
        - queries: ``(B, D)``

    Raises:
        ValueError: If there is no query or no item, since a share of nothing is no number.
    """

    def __init__(self, vectors: FloatArray, queries: FloatArray, k: int) -> None:
        self.k = min(k, len(vectors) - 1)
        if not len(queries) or self.k < 1:
            raise ValueError(f"recall of {len(queries)} queries over {len(vectors) - 1} items at k={k} is undefined")
        self._vectors = vectors
        self._queries = np.ascontiguousarray(queries, dtype=np.float32)
        items = np.ascontiguousarray(vectors[1:], dtype=np.float32)
        scores, _ = faiss.knn(self._queries, items, self.k, faiss.METRIC_INNER_PRODUCT)
        self._kth_best = scores[:, -1:]
        self._query_lengths = np.linalg.norm(self._queries, axis=1)[:, None]

    def recall_of(self, index: ItemSearch) -> float:
        """Share of the exact top ``k`` that an index over the same items finds, over all queries.

        An answer counts if its exact score reaches the exact ``k``-th best, so ties are no errors.
        """
        answers = np.sort(index.search(self._queries, self.k)[0], axis=1)
        found = self._vectors[answers]
        exact = np.einsum("bkd,bd->bk", found, self._queries)
        slack = _ROUNDING * np.linalg.norm(found, axis=2) * self._query_lengths
        first_time = np.diff(answers, axis=1, prepend=0) > 0
        return float((first_time & (exact >= self._kth_best - slack)).mean())


def recall_at_k(index: ItemSearch, vectors: FloatArray, queries: FloatArray, k: int) -> float:
    """Share of the exact top ``k`` that the index finds; see `ExactAnswers`.

    Raises:
        ValueError: If there is no query or no item.
    """
    return ExactAnswers(vectors, queries, k).recall_of(index)
