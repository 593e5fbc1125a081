"""The queries of VMIS-kNN (`encoders.session_knn`): from windows to the items of the nearest sessions.

Shape letters: ``B`` windows, ``T`` window length, ``W`` items of a window that count, ``I`` item numbers, ``S``
sessions, ``R`` candidates, ``A`` items of a session that count, ``L`` items of all candidates, ``N`` neighbours, ``K``
answers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.best import offer, put_in_order
from encoders.click_log import (
    N_SESSIONS,
    SESSION,
    SINCE_ITEM,
    ClickLog,
    click_before,
    newest_item,
    oldest_click,
    read_items,
    row_of,
)
from encoders.compiled import Int, compiled
from encoders.growth import grown
from encoders.protocols import DoubleArray, FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM

Int32Array = npt.NDArray[np.int32]


class Limits(NamedTuple):
    """The configuration, as the compiled loops read it."""

    window_len: int
    n_recent: int
    n_neighbours: int
    session_len: int
    lists_last_item: bool


class Scratch(NamedTuple):
    """Memory of a query, by item and by session. What is to be zero a query leaves zero again."""

    weight_I: DoubleArray
    """Of the window's items; zero for all others."""
    age_I: Int32Array
    """``p`` of the window's items; anything for others."""
    given_I: DoubleArray
    """What neighbours give an item; zero between queries."""
    asked_S: IntArray
    """Number of the last query that had the session as a candidate."""
    n_queries: IntArray
    """How many there were. Shape: ``(1,)``."""


def empty_scratch() -> Scratch:
    """Memory for a log without clicks."""
    return Scratch(np.zeros(0), np.zeros(0, np.int32), np.zeros(0), np.zeros(0, np.int64), np.zeros(1, np.int64))


def scratch_for(log: ClickLog, scratch: Scratch) -> Scratch:
    """The same memory, grown to the items and sessions of a log."""
    n_items, n_sessions = len(log.newest_I), len(log.newest_S)
    return scratch._replace(
        weight_I=grown(scratch.weight_I, n_items),
        age_I=grown(scratch.age_I, n_items),
        given_I=grown(scratch.given_I, n_items),
        asked_S=grown(scratch.asked_S, n_sessions),
    )


class Candidates(NamedTuple):
    """The sessions that a window is compared with, most recent first, and their items, one session after the other."""

    slot_R: IntArray
    ends_R: IntArray
    """Where the items of each begin, and at the end where the last ones end. Shape: ``(R + 1,)``."""
    items_L: Int32Array
    """Newest first."""
    shared_R: IntArray
    """Where among the items the one is that the window clicked last."""


@compiled
def answers_of_neighbours(
    log: ClickLog, scratch: Scratch, windows_BT: IntArray, limits: Limits, closeness_A: DoubleArray, k: int
) -> tuple[IntArray, FloatArray]:
    """Answer one window after the other. Shape: ``(B, T)`` to ``(B, K)`` and ``(B, K)``."""
    numbers_BK = np.zeros((len(windows_BT), k), dtype=np.int64)
    scores_BK = np.full((len(windows_BT), k), -np.inf, dtype=np.float32)
    candidates = Candidates(
        np.empty(limits.n_recent, dtype=np.int64),
        np.zeros(limits.n_recent + 1, dtype=np.int64),
        np.empty(limits.n_recent * limits.session_len, dtype=np.int32),
        np.empty(limits.n_recent, dtype=np.int64),
    )
    window_W = np.empty(limits.window_len, dtype=np.int64)
    nearest_N = np.empty(limits.n_neighbours, dtype=np.int64)
    similarity_N = np.empty(limits.n_neighbours, dtype=np.float32)
    for b in range(len(windows_BT)):
        asked_W = window_W[: _weigh(scratch, windows_BT[b], window_W)]
        n_candidates = _find_recent(log, scratch, asked_W, candidates.slot_R) if len(asked_W) else np.int64(0)
        n = 0
        for r in range(n_candidates):
            slot, start = candidates.slot_R[r], candidates.ends_R[r]
            candidates.ends_R[r + 1] = read_items(log, slot, limits.session_len, candidates.items_L, start)
            similarity = _compare(scratch, candidates, r)
            if similarity > 0:
                n = offer(similarity_N, nearest_N, n, similarity, r)
        put_in_order(similarity_N, nearest_N, n)
        for place in range(n):
            _give(scratch, candidates, nearest_N[place], similarity_N[place], closeness_A)
        last = np.int64(PADDING_ITEM) if limits.lists_last_item else newest_item(windows_BT[b])
        _collect(log, scratch, candidates, nearest_N[:n], last, numbers_BK[b], scores_BK[b])
        scratch.weight_I[asked_W] = 0
    return numbers_BK, scores_BK


@compiled
def _weigh(scratch: Scratch, window_T: IntArray, window_W: IntArray) -> Int:
    """Give the items of a window that are known their weights, list them, newest first, and return how many."""
    n, n_clicks = 0, 0
    for item in window_T[::-1]:
        if item != PADDING_ITEM and n_clicks < len(window_W):
            if item < len(scratch.weight_I) and scratch.weight_I[item] == 0:
                scratch.weight_I[item], scratch.age_I[item] = 1, n_clicks
                window_W[n] = item
                n += 1
            n_clicks += 1
    for item in window_W[:n]:
        scratch.weight_I[item] = (n_clicks - scratch.age_I[item]) / n_clicks
    return n


@compiled
def _find_recent(log: ClickLog, scratch: Scratch, asked_W: IntArray, slot_R: IntArray) -> Int:
    """List the sessions that clicked one of the items most recently, newest first, and return how many."""
    scratch.n_queries[0] += 1
    oldest, heads_W, n = oldest_click(log), log.newest_I[asked_W], 0
    while n < len(slot_R):
        w = np.argmax(heads_W)
        click = heads_W[w]
        if click < oldest:
            break
        heads_W[w] = click_before(log, click, SINCE_ITEM)
        slot = row_of(log, click)[SESSION]
        if scratch.asked_S[slot] != scratch.n_queries[0]:
            scratch.asked_S[slot] = scratch.n_queries[0]
            slot_R[n] = slot
            n += 1
    return n


@compiled
def _compare(scratch: Scratch, candidates: Candidates, r: Int) -> np.float32:
    """Similarity of a candidate to the window. In 32 bits, so that sums in other orders are equally similar."""
    similarity, least_age = 0.0, np.int64(len(scratch.age_I))
    for at in range(candidates.ends_R[r], candidates.ends_R[r + 1]):
        item = candidates.items_L[at]
        if scratch.weight_I[item] > 0:
            similarity += scratch.weight_I[item]
            if scratch.age_I[item] < least_age:
                least_age = scratch.age_I[item]
                candidates.shared_R[r] = at
    return np.float32(similarity)


@compiled
def _give(scratch: Scratch, candidates: Candidates, r: Int, similarity: np.float32, closeness_A: DoubleArray) -> None:
    """Let a neighbour give to its items."""
    shared = candidates.shared_R[r]
    age = float(scratch.age_I[candidates.items_L[shared]])
    match_weight = max(0.0, 1 - 0.1 * (age + 1))
    for at in range(candidates.ends_R[r], candidates.ends_R[r + 1]):
        scratch.given_I[candidates.items_L[at]] += similarity * match_weight * closeness_A[abs(at - shared)]


@compiled
def _collect(
    log: ClickLog,
    scratch: Scratch,
    candidates: Candidates,
    nearest_N: IntArray,
    last: Int,
    numbers_K: IntArray,
    scores_K: FloatArray,
) -> None:
    """Take what items were given and keep the best of them."""
    n = 0
    for r in nearest_N:
        for item in candidates.items_L[candidates.ends_R[r] : candidates.ends_R[r + 1]]:
            given = scratch.given_I[item]
            if given > 0:
                scratch.given_I[item] = 0
                rarity = np.log(max(1.0, log.totals[N_SESSIONS] / log.count_I[item]))
                if item != last:
                    n = offer(scores_K, numbers_K, n, np.float32(given * rarity), np.int64(item))
    put_in_order(scores_K, numbers_K, n)
