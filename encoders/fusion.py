"""Lists of several retrievers, fused to one.

By reciprocal rank (Cormack, Clarke & Büttcher, SIGIR 2009) an item scores the sum of ``weight / (60 + rank)`` over the
lists that it is in, ranks counted from 1. By score (weighted CombSUM; Fox & Shaw, TREC-2, 1994) it scores the sum of
``weight * (score - lowest) / (highest - lowest)``, with the lowest and highest of that list, so that lists of any scale
meet between 0 and 1. By probability (linear opinion pool; Stone, Ann. Math. Statist. 1961) it scores the sum of
``weight * p``, where ``p`` is how likely a list has the item: the softmax over the list where scores are logits, as an
encoder's are, and the score's share of all scores where they count something. An item that is not in a list gets
nothing from it.

Shape letters: ``M`` lists, ``B`` windows, ``D`` length of a list, ``I`` item numbers, ``K`` answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.best import offer, put_in_order
from encoders.compiled import compiled
from encoders.protocols import DoubleArray, FloatArray, IntArray

BoolArray = npt.NDArray[np.bool_]
Fusion = Literal["reciprocal_rank", "score", "probability"]
RANK_OFFSET = 60.0
"""The constant of Cormack et al.: the larger, the less the first places stand out."""
NOT_LISTED = np.iinfo(np.int64).max
"""Place of an item that is in no list."""


class Lists(NamedTuple):
    """What several retrievers answered to the same windows."""

    items_MBD: IntArray
    """Best first. 0 is no item, wherever it stands: a list may have had items struck out."""
    scores_MBD: FloatArray
    """Of the items; anything where there is none."""
    logits_M: Sequence[bool] = ()
    """Whose scores are logits; of the others none is negative. Without it, nobody's are."""


def fuse(
    lists: Lists, weights: Sequence[float] | DoubleArray, k: int, fusion: Fusion = "reciprocal_rank"
) -> tuple[IntArray, FloatArray]:
    """The best ``k`` items of all lists together, best first, equal ones by item number.

    Args:
        lists: What is fused.
        weights: How much each list counts, not negative. A list with weight 0 might as well not be there.
        k: How many. Where there are fewer, the rest is item number 0 with score minus infinity.
        fusion: How an item's score comes about.

    Shape:
        - weights: ``(M,)``
        - Output: item numbers ``(B, k)`` and scores ``(B, k)``

    Example:
        >>> lists = Lists(np.array([[[7, 8]], [[8, 9]]]), np.zeros((2, 1, 2), dtype=np.float32))
        >>> fuse(lists, [1, 1], k=3)[0]
        array([[8, 7, 9]])
    """
    n_items = int(lists.items_MBD.max(initial=0)) + 1
    return _fuse(lists.items_MBD, points(lists, fusion), np.asarray(weights, dtype=np.float64), n_items, k)


def target_ranks(lists: Lists, points_MBD: DoubleArray, weights: DoubleArray, targets: IntArray) -> IntArray:
    """Where each target stands in its window's fused list.

    Args:
        lists: What is fused.
        points_MBD: From `points`: the same for all weights.
        weights: As for `fuse`.
        targets: Item numbers.

    Returns:
        Places from 0; `NOT_LISTED` where it is in no list.

    Shape:
        - weights: ``(M,)``
        - targets: ``(B,)``
        - Output: ``(B,)``
    """
    n_items = int(max(lists.items_MBD.max(initial=0), targets.max(initial=0))) + 1
    return _ranks(lists.items_MBD, points_MBD, weights, n_items, targets)


def points(lists: Lists, fusion: Fusion) -> DoubleArray:
    """What each list gives its items at weight 1; anything where there is no item. Shape: ``(M, B, D)``."""
    is_item = lists.items_MBD > 0
    if fusion == "reciprocal_rank":
        return 1 / (RANK_OFFSET + np.cumsum(is_item, axis=2))
    scores_MBD = np.where(is_item, lists.scores_MBD, 0.0).astype(np.float64)
    highest = np.max(scores_MBD, axis=2, keepdims=True, where=is_item, initial=-np.inf)
    if fusion == "probability":
        return _probabilities(scores_MBD, is_item, highest, np.array(lists.logits_M or [False] * len(scores_MBD)))
    lowest = np.min(scores_MBD, axis=2, keepdims=True, where=is_item, initial=np.inf)
    differ = highest > lowest
    # Where all scores are equal, all are the highest.
    width = np.where(differ, highest - lowest, 1.0)
    return np.where(differ, (scores_MBD - np.where(differ, lowest, 0.0)) / width, 1.0)


def _probabilities(
    scores_MBD: DoubleArray, is_item: BoolArray, highest: DoubleArray, logits_M: BoolArray
) -> DoubleArray:
    """How likely each list has it that an item is the next one, 0 where there is no item. Shape: ``(M, B, D)``."""
    exponents = np.where(is_item, scores_MBD - np.where(is_item.any(axis=2, keepdims=True), highest, 0.0), -np.inf)
    odds = np.where(logits_M[:, None, None], np.exp(exponents), np.maximum(scores_MBD, 0.0))
    total = odds.sum(axis=2, keepdims=True)
    likely: DoubleArray = np.divide(odds, total, out=np.zeros_like(odds), where=total > 0)
    return likely


@compiled
def _add_up(items_MBD: IntArray, points_MBD: DoubleArray, weights_M: DoubleArray, b: int, score_I: DoubleArray) -> None:
    """Give the items of one window's lists their scores; all others' are minus 1."""
    for m in range(len(weights_M)):
        if weights_M[m] > 0:
            for d in range(items_MBD.shape[2]):
                item = items_MBD[m, b, d]
                score_I[item] = max(0.0, score_I[item]) + weights_M[m] * points_MBD[m, b, d]


@compiled
def _fuse(
    items_MBD: IntArray, points_MBD: DoubleArray, weights_M: DoubleArray, n_items: int, k: int
) -> tuple[IntArray, FloatArray]:
    M, B, D = items_MBD.shape
    numbers_BK = np.zeros((B, k), dtype=np.int64)
    scores_BK = np.full((B, k), -np.inf, dtype=np.float32)
    score_I = np.full(n_items, -1.0)
    for b in range(B):
        _add_up(items_MBD, points_MBD, weights_M, b, score_I)
        score_I[0] = -1
        n = 0
        for m in range(M):
            for d in range(D):
                item = items_MBD[m, b, d]
                if score_I[item] >= 0:
                    n = offer(scores_BK[b], numbers_BK[b], n, np.float32(score_I[item]), item)
                    score_I[item] = -1
        put_in_order(scores_BK[b], numbers_BK[b], n)
    return numbers_BK, scores_BK


@compiled
def _ranks(
    items_MBD: IntArray, points_MBD: DoubleArray, weights_M: DoubleArray, n_items: int, targets_B: IntArray
) -> IntArray:
    """How many items of a window's lists stand before its target, if that is in one of them."""
    M, B, D = items_MBD.shape
    ranks_B = np.full(B, NOT_LISTED, dtype=np.int64)
    score_I = np.full(n_items, -1.0)
    for b in range(B):
        _add_up(items_MBD, points_MBD, weights_M, b, score_I)
        score_I[0] = -1
        target = targets_B[b]
        wanted, n_better = np.float32(score_I[target]), 0
        for m in range(M):
            for d in range(D):
                item = items_MBD[m, b, d]
                score = np.float32(score_I[item])
                n_better += int(score > wanted or (score == wanted and score >= 0 and item < target))
                score_I[item] = -1
        if wanted >= 0:
            ranks_B[b] = n_better
    return ranks_B
