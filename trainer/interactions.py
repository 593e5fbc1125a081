"""Interactions as columns: what the trainer works on once the topic has been read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from encoders.events import EVENT_BY_CODE, EVENT_TRAITS
from encoders.protocols import IntArray

BoolArray = npt.NDArray[np.bool_]
AnyIntArray = npt.NDArray[np.integer[Any]]
"""Integers as narrow as they may be, where there are many of them."""


def position_type(n: int) -> np.dtype[Any]:
    """The narrowest of the types that positions in an array of ``n`` elements are kept in."""
    return np.dtype(np.int32 if n < 2**31 else np.int64)


def narrowed(values: AnyIntArray) -> AnyIntArray:
    """The same numbers in the narrowest type that all of them fit in.

    Example:
        >>> narrowed(np.array([0, 3])).dtype, narrowed(np.array([0, 2**31])).dtype
        (dtype('int8'), dtype('int64'))
    """
    least, most = int(values.min(initial=0)), int(values.max(initial=0))
    types = (np.dtype(name) for name in ("int8", "int16", "int32", "int64"))
    return values.astype(next(each for each in types if np.iinfo(each).min <= least and most <= np.iinfo(each).max))


@dataclass(frozen=True)
class Interactions:
    """Cleaned events with an item, each user's events in the order in which a worker applies them.

    Users and items are codes 0, 1, … into `user_ids` and `item_ids`.

    Shape:
        - all but the ids: ``(n_events,)``
    """

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    user_codes: IntArray
    item_codes: IntArray
    times_ms: IntArray
    type_codes: AnyIntArray
    partitions: AnyIntArray
    """Where each event stands in the topic."""
    offsets: AnyIntArray

    def __len__(self) -> int:
        return len(self.user_codes)

    def where(self, mask: BoolArray) -> Self:
        """The events that the mask is true for, with the same codes. Shape: ``(n_events,)``."""
        return replace(
            self,
            user_codes=self.user_codes[mask],
            item_codes=self.item_codes[mask],
            times_ms=self.times_ms[mask],
            type_codes=self.type_codes[mask],
            partitions=self.partitions[mask],
            offsets=self.offsets[mask],
        )

    @property
    def weights(self) -> npt.NDArray[np.float64]:
        """What each event adds to its item's popularity. Shape: ``(n_events,)``."""
        return _WEIGHT_BY_CODE[self.type_codes]


_WEIGHT_BY_CODE = np.zeros(max(EVENT_BY_CODE) + 1)
_WEIGHT_BY_CODE[list(EVENT_BY_CODE)] = [EVENT_TRAITS[kind].weight for kind in EVENT_BY_CODE.values()]
