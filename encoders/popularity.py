"""Popularity: decayed counts, and the retrievers that answer everyone alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from encoders.best import offer, put_in_order
from encoders.compiled import compiled
from encoders.decay import as_of_newest, new_clock, weight_of
from encoders.growth import grown
from encoders.protocols import DoubleArray, FloatArray, IntArray
from encoders.saved import Arrays, insist_on_counts, restored_clock, saved_clock, taken
from encoders.vocabulary import PADDING_ITEM


def decayed_counts(
    item_numbers: IntArray,
    times_s: npt.NDArray[np.float64],
    weights: npt.NDArray[np.float64],
    n_items: int,
    half_life_s: float,
) -> FloatArray:
    """Sum of each item's event weights, an event counting half for every half-life of age.

    Ages are taken from the newest event, so the scores do not depend on when they are computed.
    Item number 0, the unknown items, scores nothing.

    Shape:
        - item_numbers, times_s, weights: ``(n_events,)``
        - Output: ``(n_items + 1,)``

    Example:
        >>> decayed_counts(np.array([1, 2, 2]), np.array([0.0, 0.0, 60.0]), np.ones(3), 3, half_life_s=60.0)
        array([0. , 0.5, 1.5, 0. ], dtype=float32)
    """
    age_s = times_s.max(initial=-np.inf) - times_s
    counts = np.bincount(item_numbers, weights * np.exp2(-age_s / half_life_s), minlength=n_items + 1)
    counts[PADDING_ITEM] = 0
    return counts.astype(np.float32)


class PopularityRetriever:
    """The same items for every window: those with the highest scores.

    Args:
        scores: Score of each item number. Row 0 is padding and never an answer; equal scores are
            ranked by item number.

    Shape:
        - scores: ``(n_items + 1,)``
    """

    def __init__(self, scores: FloatArray) -> None:
        self._ranked = np.argsort(-scores[1:], kind="stable") + 1
        self._scores = scores[self._ranked]

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` items, the same in each row; see `Retriever.retrieve`."""
        items = np.zeros(k, dtype=np.int64)
        scores = np.full(k, -np.inf, dtype=np.float32)
        n = min(k, len(self._ranked))
        items[:n], scores[:n] = self._ranked[:n], self._scores[:n]
        return np.tile(items, (len(windows), 1)), np.tile(scores, (len(windows), 1))


class PopularityConfig(BaseModel):
    """How fast popularity fades."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    half_life_s: float | None = Field(default=7 * 86_400, gt=0)
    """What a click has added halves with every half-life of event time, in seconds; None for no decay."""


class LivePopularity:
    """The same items for every window: those clicked most of late. A `LiveRetriever`, not for two threads at once.

    Holds one number an item. Every click counts, and half as much with every half-life; only items that were clicked
    are answers, until what is left of their clicks is too small for a 64-bit float, some thousand half-lives later.

    Args:
        config: How fast clicks fade.

    Example:
        >>> popularity = LivePopularity(PopularityConfig(half_life_s=60))
        >>> popularity.learn(np.array([1, 2]), np.array([7, 9]), np.array([0.0, 60.0]))
        >>> popularity.retrieve(np.array([[3]]), k=3)
        (array([[9, 7, 0]]), array([[ 1. ,  0.5, -inf]], dtype=float32))
    """

    kind: ClassVar[str] = "popularity"
    Config: ClassVar[type[BaseModel]] = PopularityConfig

    def __init__(self, config: PopularityConfig | None = None) -> None:
        self.config = config or PopularityConfig()
        self._half_life_s = self.config.half_life_s or np.inf
        self._counts, self._clock = np.zeros(0), new_clock()

    @classmethod
    def restored(cls, config: Mapping[str, Any], arrays: Arrays, n_items: int) -> Self:
        """One that has learned what `arrays` gave; see `BundledRetriever.restored`."""
        found = cls(PopularityConfig.model_validate(config))
        counts = taken(arrays, "counts", np.float64)
        insist_on_counts("counts", counts)
        if len(counts) > n_items + 1 or counts[:1].any():
            raise ValueError(f"'counts' has {len(counts)} rows, the first for padding, where there are {n_items} items")
        found._counts, found._clock = counts, restored_clock(arrays)
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was learned; see `BundledRetriever.arrays`."""
        return {"counts": np.trim_zeros(self._counts, "b").copy(), "clock": saved_clock(self._clock)}

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Count the clicks, whosever they are; see `LiveRetriever.learn`."""
        self._counts = grown(self._counts, int(items.max(initial=0)) + 1)
        _count(self._counts, self._clock, items, times_s, self._half_life_s)

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` items, the same in each row; see `Retriever.retrieve`.

        A score is an item's decayed count as of the newest event; equal ones are ranked by item number.
        """
        scores = (self._counts * as_of_newest(self._clock, self._half_life_s)).astype(np.float32)
        best_items, best_scores = _best(scores, k)
        return np.tile(best_items, (len(windows), 1)), np.tile(best_scores, (len(windows), 1))


@compiled
def _count(counts: DoubleArray, clock: DoubleArray, items: IntArray, times_s: DoubleArray, half_life_s: float) -> None:
    for i in range(len(items)):
        if items[i] != PADDING_ITEM:
            weight = weight_of(clock, counts, times_s[i], half_life_s)
            counts[items[i]] += weight


@compiled
def _best(scores: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
    """The ``k`` highest scores above 0 and where they stand, best first, the rest 0 and minus infinity."""
    items, best, n = np.zeros(k, dtype=np.int64), np.full(k, -np.inf, dtype=np.float32), 0
    for item in range(len(scores)):
        if scores[item] > 0:
            n = offer(best, items, n, scores[item], item)
    put_in_order(best, items, n)
    return items, best
