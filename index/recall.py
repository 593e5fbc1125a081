"""How much of the exact answer an index finds."""

from __future__ import annotations

import numpy as np

from index.protocol import FloatArray, VectorIndex

QUERIES_AT_ONCE = 256
"""Rows of exact scores held in memory together."""


def recall_at_k(index: VectorIndex, vectors: FloatArray, queries: FloatArray, k: int) -> float:
    """Share of the exact top ``k`` that the index finds, over all queries.

    An answer counts if its exact score reaches the exact ``k``-th best, so ties are no errors.

    Args:
        index: The index to measure, built over ``vectors``.
        vectors: Item vectors; row 0 is padding.
        queries: Query vectors, at least one.
        k: Answers asked for.

    Shape:
        - vectors: ``(n_items + 1, D)``
        - queries: ``(B, D)``

    Raises:
        ValueError: If there is no query or no item, since a share of nothing is no number.
    """
    k = min(k, len(vectors) - 1)
    if not len(queries) or k < 1:
        raise ValueError(f"recall of {len(queries)} queries over {len(vectors) - 1} items at k={k} is undefined")
    found = 0
    for start in range(0, len(queries), QUERIES_AT_ONCE):
        chunk = queries[start : start + QUERIES_AT_ONCE]
        exact = chunk @ vectors.T
        exact[:, 0] = -np.inf
        kth_best = np.partition(exact, -k, axis=1)[:, -k]
        answers = np.sort(index.search(chunk, k)[0], axis=1)
        first_time = np.diff(answers, axis=1, prepend=0) > 0
        # Index and matrix product add in different orders; the last digits differ.
        good = np.take_along_axis(exact, answers, axis=1) >= (kth_best - 1e-5 * np.abs(kth_best))[:, None]
        found += int((first_time & good).sum())
    return found / (len(queries) * k)
