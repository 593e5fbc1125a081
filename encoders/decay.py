"""Counts that halve with every half-life, without touching those that nothing happens to.

Under forward decay (Cormode, Shkapenyuk, Srivastava & Xu, ICDE 2009) an event at time ``t`` adds ``2 ** ((t - start) /
half_life)``, so the counts of all moments compare as they are. Before that grows too large, all counts are halved as
often as takes the start to the present; halving is exact.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.compiled import compiled
from encoders.protocols import DoubleArray

_MOST_DOUBLINGS = 64
"""Half-lives after which the start moves: far from the ends of a 32-bit float on both sides."""


START, NEWEST = range(2)
"""Places of a clock: where the decay starts and when the newest event was, in seconds."""


def new_clock() -> DoubleArray:
    """A clock before the first event. Shape: ``(2,)``."""
    return np.full(2, -np.inf)


@compiled
def weight_of(clock: DoubleArray, counts: npt.NDArray[Any], time_s: float, half_life_s: float) -> float:
    """What an event adds to a count; all counts are moved to a new start first, where one is due.

    Args:
        clock: From `new_clock`; changed in place.
        counts: All counts that decay by this clock; changed in place.
        time_s: When the event happened. One in the past adds what is left of it.
        half_life_s: Infinity for no decay: each event adds 1.
    """
    if clock[NEWEST] == -np.inf:
        clock[START] = time_s
    clock[NEWEST] = max(clock[NEWEST], time_s)
    doublings = (time_s - clock[START]) / half_life_s
    if doublings > _MOST_DOUBLINGS:
        due = np.floor(doublings)
        counts *= 2.0**-due
        clock[START] += due * half_life_s
        doublings = (time_s - clock[START]) / half_life_s
    return float(2.0**doublings)


@compiled
def as_of_newest(clock: DoubleArray, half_life_s: float) -> float:
    """What to multiply a count with, so that an event that happened now counts 1."""
    return float(2.0 ** ((clock[START] - clock[NEWEST]) / half_life_s)) if clock[NEWEST] > -np.inf else 1.0
