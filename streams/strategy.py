"""From scored candidates to lists: filters and the cut to the top N, for all events of a batch.

Shape letters: ``B`` events, ``R`` those whose candidates were looked for, ``K`` candidates of each, ``N`` length of a
list, ``T`` entries of all windows, ``F`` fingerprints of what has left them, ``P`` popular items.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import IntArray, compiled
from streams.lists import Lists

FingerprintArray = npt.NDArray[np.uint32]
_MARGIN = 6
WIDEST = 16.0
"""Most candidates of the first search for each item of a list."""
_MOST_SHORT, _FEWEST_SHORT = 0.08, 0.04
"""Between these shares of rows that filters leave short the first search is as wide as it should be."""


class Passed(NamedTuple):
    """What the users have come by, as of each event, as fingerprints: what is in the window, and what has left it."""

    window_T: FingerprintArray
    window_first_B: IntArray
    window_end_B: IntArray
    seen_F: FingerprintArray
    seen_first_B: IntArray
    seen_end_B: IntArray


class Popular(NamedTuple):
    """Popular items of all catalogues, one catalogue after the other."""

    item_P: FingerprintArray
    score_P: npt.NDArray[np.float64]
    may_list_P: npt.NDArray[np.bool_]


class Width:
    """How many candidates to fetch at first, for each list of ``n``: learned from how many lists come out short.

    A wider search costs every row a little, a row searched again costs much. What is listed does not depend on it.

    Args:
        least: For each item of a list, no fewer than this.
    """

    def __init__(self, least: float = 1.0) -> None:
        self._least, self._per_item = least, max(least, 2.0)

    def candidates(self, top_n: int) -> int:
        """How many candidates to fetch."""
        return round(self._per_item * top_n) + _MARGIN

    def learn(self, n_rows: int, n_short: int) -> None:
        """Take in how a batch came out."""
        if n_short > _MOST_SHORT * n_rows:
            self._per_item = min(1.1 * self._per_item, WIDEST)
        elif n_short < _FEWEST_SHORT * n_rows:
            self._per_item = max(0.98 * self._per_item, self._least)


@compiled
def choose(
    rows_R: IntArray,
    numbers_RK: IntArray,
    scores_RK: npt.NDArray[np.float32],
    fingerprints: FingerprintArray,
    passed: Passed,
    lists: Lists,
) -> None:
    """Put the best candidates that their users have not come by into the lists, in place.

    Args:
        rows_R: Which lists, by event.
        numbers_RK: Item numbers, best first; what is not positive is no candidate.
        scores_RK: Their scores.
        fingerprints: By item number.
        passed: What each user has come by.
        lists: To be filled.
    """
    for r in range(len(rows_R)):
        b, n = rows_R[r], 0
        for k in range(numbers_RK.shape[1]):
            if n == lists.items_BN.shape[1]:
                break
            number = numbers_RK[r, k]
            if number > 0 and not _has_passed(passed, b, fingerprints[number]):
                lists.items_BN[b, n] = number
                lists.scores_BN[b, n] = scores_RK[r, k]
                n += 1
        lists.lengths_B[b] = n


@compiled
def fill(
    popular: Popular, first_B: IntArray, end_B: IntArray, fingerprints: FingerprintArray, passed: Passed, lists: Lists
) -> None:
    """Complete lists that are not full from what is popular, in place.

    Args:
        popular: Popular items of all catalogues, each catalogue's best first.
        first_B: Where those of an event's catalogue begin.
        end_B: Where they end.
        fingerprints: By item number.
        passed: What each user has come by.
        lists: To be completed.
    """
    for b in range(len(lists.lengths_B)):
        n_found, n = lists.lengths_B[b], lists.lengths_B[b]
        for place in range(first_B[b], end_B[b]):
            if n == lists.items_BN.shape[1]:
                break
            fingerprint = popular.item_P[place]
            if not popular.may_list_P[place] or _has_passed(passed, b, fingerprint):
                continue
            is_listed = False
            for i in range(n_found):
                is_listed |= fingerprints[lists.items_BN[b, i]] == fingerprint
            if not is_listed:
                lists.items_BN[b, n] = -1 - place
                lists.scores_BN[b, n] = popular.score_P[place]
                n += 1
        lists.lengths_B[b] = n


@compiled
def _has_passed(passed: Passed, b: int, fingerprint: np.uint32) -> bool:
    """Whether a user has come by an item, as of an event."""
    window = passed.window_T[passed.window_first_B[b] : passed.window_end_B[b]]
    return _holds(window, fingerprint) or _holds(
        passed.seen_F[passed.seen_first_B[b] : passed.seen_end_B[b]], fingerprint
    )


@compiled
def _holds(fingerprints: FingerprintArray, wanted: np.uint32) -> bool:
    """Whether a fingerprint is among others; eight are compared at a time, since nothing leaves the loop."""
    found = np.uint32(0)
    for i in range(len(fingerprints)):
        found |= np.uint32(fingerprints[i] == wanted)
    return bool(found)
