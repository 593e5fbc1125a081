"""What an index must be able to do.

Shape letters: ``B`` queries, ``D`` embedding dimension, ``k`` answers to each query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class VectorIndex(Protocol):
    """Finds the items whose vectors have the largest inner product with a query.

    Rows of the vectors are item numbers and row 0 is padding: it is never an answer. Searches from
    several threads at once are allowed; nothing here does I/O but `save` and `load`.
    """

    @property
    def kind(self) -> str:
        """Name of the implementation, as a manifest holds it."""

    @property
    def params(self) -> dict[str, Any]:
        """What the index was built and tuned with, as a manifest holds it."""

    @property
    def n_items(self) -> int:
        """How many items can be found."""

    @property
    def embedding_dim(self) -> int:
        """``D``."""

    @classmethod
    def build(cls, vectors: FloatArray) -> Self:
        """An index over rows 1 … n_items. Shape: ``(n_items + 1, D)``."""

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first.

        Args:
            queries: Query vectors.
            k: How many, at least 1. Where there are fewer items, the rest is item number 0 with
                score minus infinity.

        Shape:
            - queries: ``(B, D)``
            - Output: ``(B, k)`` and ``(B, k)``
        """

    def save(self, path: Path) -> None:
        """Write the index to one file."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            VectorIndexError: If the file cannot be read or holds something else.
        """
