"""Arrays that grow with what is put into them."""

from __future__ import annotations

from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Scalar = TypeVar("Scalar", bound=np.generic)


def grown(array: npt.NDArray[Scalar], length: int) -> npt.NDArray[Scalar]:
    """The array itself if it is long enough, else a copy of at least twice its length, filled up with zeros.

    Doubling makes a million appended rows twenty copies, and each row is copied twice on average.

    Example:
        >>> grown(np.array([7, 8]), 3)
        array([7, 8, 0, 0])
    """
    if length <= len(array):
        return array
    shape: Any = (max(length, 2 * len(array)), *array.shape[1:])
    longer: npt.NDArray[Scalar] = np.zeros(shape, dtype=array.dtype)
    longer[: len(array)] = array
    return longer
