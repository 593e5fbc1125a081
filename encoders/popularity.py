"""Popularity: decayed counts, and the retriever that answers everyone alike."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.protocols import FloatArray, IntArray
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
