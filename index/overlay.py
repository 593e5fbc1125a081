"""Items that came or went since the index was built, without building it again."""

from __future__ import annotations

import faiss
import numpy as np

from index.kernels import set_kernels
from index.protocol import BoolArray, Excluded, FloatArray, IntArray, VectorIndex, excluding

set_kernels()


class Overlay:
    """A view of an index without some items and with others; it never changes, and shares the index.

    A change of one item is a new overlay over the same index. That costs what its arguments do: a byte and a bit
    for each item of the index (0.2 ms for a million) if any is removed, with a flat index a copy of what is left
    of it, and a copy of what is left of the additions if any of these is removed. Additions are not copied and
    searched exactly: 2 µs more a query in a batch for every 1,000 of them (64 dimensions), so build the index
    again before they are many.

    A query pays for removals only where they are among its best answers: it is then searched again, further. Where
    all the best of a query have gone, those that come next lie close together, and an index of one byte a
    dimension finds items of nearly their score, not always the very same.

    Without additions it leaves out what each query excludes, where its base can.

    Args:
        base: The index.
        removed: Which items are no answers, by number, additions included; None stands for no item.
        added: Vectors of the items that came: the first has the number after the index's last. They are
            read in place and must not be changed; appending to a larger array and passing its beginning
            is fine.

    Shape:
        - removed: ``(n_items + 1,)``
        - added: ``(n_added, D)``

    Raises:
        ValueError: If shapes do not fit the index.
    """

    def __init__(self, base: VectorIndex, removed: BoolArray | None = None, added: FloatArray | None = None) -> None:
        if added is None:
            added = np.zeros((0, base.embedding_dim), dtype=np.float32)
        if added.ndim != 2 or added.shape[1] != base.embedding_dim:
            raise ValueError(f"additions are {added.shape}, the index has {base.embedding_dim} dimensions")
        self.n_items = base.n_items + len(added)
        """Of the index and of the additions, removed ones included."""
        if removed is not None and removed.shape != (self.n_items + 1,):
            raise ValueError(f"removed is {removed.shape} for {self.n_items} items and the padding")
        n_base = base.n_items
        self._base = (
            base.without(removed[: n_base + 1]) if removed is not None and removed[1 : n_base + 1].any() else base
        )
        self._added = np.ascontiguousarray(added, dtype=np.float32)
        self._numbers = np.arange(n_base + 1, self.n_items + 1)
        if removed is not None and removed[n_base + 1 :].any():
            left = ~removed[n_base + 1 :]
            self._added, self._numbers = self._added[left], self._numbers[left]
        self._excluding = None if len(self._added) else excluding(self._base)
        self.excludes = self._excluding is not None

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first; see `ItemSearch.search`."""
        numbers, scores = self._base.search(queries, k)
        n_added = min(k, len(self._added))
        if not n_added:
            return numbers, scores
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        added_scores, rows = faiss.knn(queries, self._added, n_added, faiss.METRIC_INNER_PRODUCT)
        numbers = np.concatenate([numbers, self._numbers[rows]], axis=1)
        scores = np.concatenate([scores, added_scores], axis=1)
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(numbers, best, axis=1), np.take_along_axis(scores, best, axis=1)

    def search_without(self, queries: FloatArray, k: int, excluded: Excluded) -> tuple[IntArray, FloatArray]:
        """The best of what each query does not exclude; see `ExcludingSearch.search_without`.

        Raises:
            TypeError: If this overlay does not exclude.
        """
        if self._excluding is None:
            raise TypeError(
                "what queries exclude cannot be left out of additions, or of an index that does not exclude"
            )
        return self._excluding.search_without(queries, k, excluded)
