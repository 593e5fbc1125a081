"""Popularity that the stream counts itself: what answers where no model can.

An item's count decays with event time, by half each half-life. Under forward decay (Cormode, Shkapenyuk,
Srivastava & Xu, ICDE 2009) an event of weight ``w`` at time ``t`` adds ``w * 2 ** (t / half_life)``, and the
order of items never depends on when one looks. Kept as the base-2 logarithm of that sum, one number an
item neither overflows nor needs a landmark, and the counts of several partitions add by `log2_add`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from math import log1p, log2

import numpy as np
import numpy.typing as npt

from encoders.compiled import IntArray, compiled
from encoders.vocabulary import item_hash

FloatArray = npt.NDArray[np.float64]

_LOG2_E = 1.4426950408889634


def log2_add(a: float, b: float) -> float:
    """``log2(2 ** a + 2 ** b)`` without overflow.

    Example:
        >>> log2_add(2000.0, 2000.0)
        2001.0
    """
    low, high = (a, b) if a < b else (b, a)
    return high + log1p(2.0 ** (low - high)) * _LOG2_E


_log2_add = compiled(log2_add)


def log2_count(weight: float, time_s: float, half_life: timedelta) -> float:
    """What one event adds, as a base-2 logarithm."""
    return log2(weight) + time_s / half_life.total_seconds()


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """What events add to the counts of items, in the order of offsets.

    Shape letters: ``N`` events that add something.
    """

    items: Sequence[tuple[str, str]] = ()
    """Catalogue and item id."""
    item_N: IntArray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    """Place in `items`."""
    log2_N: FloatArray = field(default_factory=lambda: np.empty(0))
    """What each adds, as a base-2 logarithm."""

    def __iter__(self) -> Iterator[tuple[str, str, float]]:
        """Catalogue, item id and what is added, one event after the other."""
        pairs = zip(self.item_N.tolist(), self.log2_N.tolist(), strict=True)
        return ((*self.items[n], log2) for n, log2 in pairs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Counts) and [*self] == [*other]

    __hash__ = None  # type: ignore[assignment]

    def onto(self, known: Mapping[tuple[str, str], float]) -> dict[tuple[str, str], float]:
        """New counts of the items that something is added to, as if one was added after the other."""
        count_I = np.array([known.get(item, -np.inf) for item in self.items], dtype=np.float64)
        _add_all(count_I, self.item_N, self.log2_N)
        touched = np.bincount(self.item_N, minlength=len(self.items)).nonzero()[0]
        return dict(zip([self.items[i] for i in touched.tolist()], count_I[touched].tolist(), strict=True))


@compiled
def _add_all(count_I: FloatArray, item_N: IntArray, log2_N: FloatArray) -> None:
    """Add counts, in place; minus infinity is no count yet."""
    for n in range(len(item_N)):
        before = count_I[item_N[n]]
        count_I[item_N[n]] = log2_N[n] if before == -np.inf else _log2_add(before, log2_N[n])


@dataclass(frozen=True, slots=True)
class PopularItems:
    """The most popular items of a catalogue, best first, as of one moment."""

    item_ids: list[str] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)
    """Decayed count relative to the first item's, which is 1."""
    item_hashes: list[int] = field(default_factory=list)


def most_popular(counts: Iterable[Mapping[str, float]], catalogue: str, limit: int) -> PopularItems:
    """Add the counts of all partitions and keep the ``limit`` most popular items.

    Ties are broken by item id, so that every worker gives the same order.
    """
    total: dict[str, float] = {}
    for partition in counts:
        for item_id, count in partition.items():
            known = total.get(item_id)
            total[item_id] = count if known is None else log2_add(known, count)
    best = sorted(total.items(), key=lambda pair: (-pair[1], pair[0]))[:limit]
    if not best:
        return PopularItems()
    highest = best[0][1]
    return PopularItems(
        [item_id for item_id, _ in best],
        [2.0 ** (count - highest) for _, count in best],
        [item_hash(item_id, catalogue) for item_id, _ in best],
    )
