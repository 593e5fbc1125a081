"""What an index must be able to do.

Shape letters: ``B`` queries, ``D`` embedding dimension, ``k`` answers to each query.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]
BoolArray = npt.NDArray[np.bool_]
NumberArray = npt.NDArray[np.uint16] | npt.NDArray[np.int32]


class ItemSearch(Protocol):
    """Finds the items whose vectors have the largest inner product with a query."""

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first.

        A list is only short where there are fewer items than ``k``, however approximate the search is.

        Args:
            queries: Query vectors.
            k: How many, at least 1. Where there are fewer items, the rest is item number 0 with
                score minus infinity.

        Shape:
            - queries: ``(B, D)``
            - Output: ``(B, k)`` and ``(B, k)``
        """


class Excluded(NamedTuple):
    """Items that a query is not to find."""

    items: NumberArray
    """Item numbers in any order; 0 is none."""
    ranges_BR2: IntArray
    """For each query half-open ranges of ``items``. Shape: ``(B, R, 2)``."""


class ExcludingSearch(ItemSearch, Protocol):
    """Finds the best of what each query leaves, at no more than a search for as many costs."""

    excludes: bool
    """Whether that holds for this index; else it is better asked for more, and what is excluded is passed over."""

    def search_without(self, queries: FloatArray, k: int, excluded: Excluded) -> tuple[IntArray, FloatArray]:
        """The ``k`` best items that a query does not exclude; see `ItemSearch.search`."""


def excluding(index: ItemSearch) -> ExcludingSearch | None:
    """The same index, if it finds the best of what is left. By attribute: a protocol takes `isinstance` 20 µs."""
    return cast(ExcludingSearch, index) if getattr(index, "excludes", False) else None


class VectorIndex(ItemSearch, Protocol):
    """An index over all item vectors of a model.

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
    def build(cls, vectors: FloatArray, seed: int = 0) -> Self:
        """An index over rows 1 … n_items, the same for the same seed. Shape: ``(n_items + 1, D)``."""

    def without(self, removed: BoolArray) -> ItemSearch:
        """The same items but some; this index stays as it is, and is shared.

        Args:
            removed: By item number; row 0 is not looked at. Shape: ``(n_items + 1,)``.
        """

    def save(self, path: Path) -> None:
        """Write the index to one file."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read what `save` wrote.

        Raises:
            VectorIndexError: If the file cannot be read or holds something else.
        """


@runtime_checkable
class TunableIndex(VectorIndex, Protocol):
    """An index whose recall grows with the effort of a search, and so does its cost."""

    effort: int
    """How much of the index a search looks at, at least 1. Not to be changed while others search."""

    @property
    def max_effort(self) -> int:
        """Where more gains nothing or is not worth it."""
