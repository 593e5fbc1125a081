"""Exact search over all item vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

import faiss
import numpy as np

from index.errors import VectorIndexError
from index.protocol import FloatArray, IntArray


class FlatIndex:
    """Compares a query with every item: recall 1, and cost that grows with the number of items."""

    kind: ClassVar[str] = "flat"

    def __init__(self, flat: faiss.IndexFlat) -> None:
        self._flat = flat

    @classmethod
    def build(cls, vectors: FloatArray) -> Self:
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
        """Item numbers and scores, best first; see `VectorIndex.search`."""
        scores, rows = self._flat.search(np.ascontiguousarray(queries, dtype=np.float32), k)
        # FAISS says row -1 where there are fewer than k rows, and row r is item number r + 1.
        item_numbers = rows + 1
        scores[item_numbers == 0] = -np.inf
        return item_numbers, scores

    def save(self, path: Path) -> None:
        """Write the index to one file."""
        faiss.write_index(self._flat, str(path))

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote; see `VectorIndex.load`."""
        try:
            loaded = faiss.read_index(str(path))
        except RuntimeError as error:  # FAISS raises nothing more particular
            raise VectorIndexError(f"{path} cannot be read as an index: {error}") from error
        if not isinstance(loaded, faiss.IndexFlat) or loaded.metric_type != faiss.METRIC_INNER_PRODUCT:
            raise VectorIndexError(f"{path} holds a {type(loaded).__name__}, not a flat index by inner product")
        return cls(loaded)
