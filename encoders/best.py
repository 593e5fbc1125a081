"""The best of many scores, which come one after the other: a heap in the two arrays that become the answer.

Better is the higher score, and of equal ones the lower number. As no two are equal then, the best do not depend on the
order in which they come, and fewer of them are the beginning of more.

Shape letters: ``K`` how many are kept.
"""

from __future__ import annotations

import numpy as np

from encoders.compiled import Int, compiled
from encoders.protocols import FloatArray, IntArray


@compiled
def offer(scores_K: FloatArray, numbers_K: IntArray, n: Int, score: np.float32, number: Int) -> Int:
    """Keep one more, in place of the worst if ``K`` are kept, and return how many are kept now.

    Args:
        scores_K: Scores of what is kept; the first ``n`` are a heap with the worst in front.
        numbers_K: Their numbers.
        n: How many are kept.
        score: Of the one more. Not NaN.
        number: Of the one more; not offered before.
    """
    if n < len(scores_K):
        place = n
        while place > 0:
            above = (place - 1) // 2
            if not _is_better(scores_K[above], numbers_K[above], score, number):
                break
            scores_K[place], numbers_K[place] = scores_K[above], numbers_K[above]
            place = above
        scores_K[place], numbers_K[place] = score, number
        return n + 1
    if n > 0 and _is_better(score, number, scores_K[0], numbers_K[0]):
        _sink(scores_K, numbers_K, n, score, number)
    return n


@compiled
def put_in_order(scores_K: FloatArray, numbers_K: IntArray, n: Int) -> None:
    """Turn the heap of the ``n`` that are kept into a list, best first; what is behind them is left alone."""
    for last in range(n - 1, 0, -1):
        score, number = scores_K[last], numbers_K[last]
        scores_K[last], numbers_K[last] = scores_K[0], numbers_K[0]
        _sink(scores_K, numbers_K, last, score, number)


@compiled
def _is_better(score: np.float32, number: Int, other_score: np.float32, other_number: Int) -> bool:
    return bool(score > other_score or (score == other_score and number < other_number))


@compiled
def _sink(scores_K: FloatArray, numbers_K: IntArray, n: Int, score: np.float32, number: Int) -> None:
    """Let one in at the front of a heap of ``n``, in place of what stood there, down to where it belongs."""
    place = 0
    while True:
        below = 2 * place + 1
        if below >= n:
            break
        if below + 1 < n and _is_better(scores_K[below], numbers_K[below], scores_K[below + 1], numbers_K[below + 1]):
            below += 1
        if not _is_better(score, number, scores_K[below], numbers_K[below]):
            break
        scores_K[place], numbers_K[place] = scores_K[below], numbers_K[below]
        place = below
    scores_K[place], numbers_K[place] = score, number
