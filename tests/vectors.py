"""Item vectors and queries as models make them: clusters, lengths of long tails, and queries that are no items."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


def catalogue(n_items: int, n_queries: int, dim: int, seed: int = 0) -> tuple[FloatArray, FloatArray]:
    """Item vectors in clusters of unequal size with lognormal lengths, and queries of a few histories.

    Shape:
        - Output: ``(n_items + 1, dim)``, row 0 zero, and ``(n_queries, dim)``
    """
    random = np.random.default_rng(seed)
    n_clusters = max(4, round(n_items**0.5 / 2))
    sizes = 1 / np.arange(1, n_clusters + 1) ** 0.7
    clusters = np.sort(random.choice(n_clusters, size=n_items, p=sizes / sizes.sum()))
    centers = random.standard_normal((n_clusters, dim)).astype(np.float32)
    directions = centers[clusters] + random.standard_normal((n_items, dim), dtype=np.float32)
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    vectors = np.zeros((n_items + 1, dim), dtype=np.float32)
    vectors[1:] = directions * random.lognormal(0, 0.35, size=(n_items, 1))
    # A history: four items of each of two clusters; items of a cluster are neighbours before the shuffle.
    anchors = random.integers(1, n_items + 1, size=(n_queries, 2, 1))
    history = np.clip(anchors + random.integers(-3, 4, size=(n_queries, 2, 4)), 1, n_items)
    weights = random.random((n_queries, 2, 1, 1), dtype=np.float32)
    queries = (vectors[history] * weights).sum(axis=(1, 2))
    queries += 0.3 * np.linalg.norm(queries, axis=1, keepdims=True) * random.standard_normal(queries.shape) / dim**0.5
    vectors[1:] = vectors[1 + random.permutation(n_items)]
    return vectors, queries.astype(np.float32)
