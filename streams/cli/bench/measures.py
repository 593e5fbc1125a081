"""Figures from series of times."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def percentile(values: Floats, percent: float) -> float:
    """The smallest of the values that at least ``percent`` of them do not exceed (nearest rank).

    Raises:
        ValueError: If there are no values.

    Example:
        >>> percentile(np.array([4.0, 1.0, 3.0, 2.0]), 50)
        2.0
    """
    if not len(values):
        raise ValueError("no values")
    rank = max(1, int(np.ceil(len(values) * percent / 100)))
    return float(np.partition(values, rank - 1)[rank - 1])


class Gap(NamedTuple):
    """The longest time in which nothing came."""

    seconds: float
    begins_s: float


def longest_gap(times_s: Floats, start_s: float, end_s: float) -> Gap:
    """The longest time without a list between two moments; the time up to the first and after the last counts.

    Args:
        times_s: When lists came, in any order.
        start_s: Where to begin to look.
        end_s: Where to end.

    Example:
        >>> longest_gap(np.array([1.0, 2.5, 3.0]), start_s=0.5, end_s=3.2)
        Gap(seconds=1.5, begins_s=1.0)
    """
    inside = np.sort(times_s[(times_s >= start_s) & (times_s <= end_s)])
    marks = np.concatenate([[start_s], inside, [end_s]])
    gaps = np.diff(marks)
    widest = int(np.argmax(gaps))
    return Gap(float(gaps[widest]), float(marks[widest]))
