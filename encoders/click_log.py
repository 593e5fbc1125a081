"""The newest clicks, chained by session and by item: what models learn from that learn every event.

A click is one row of a ring. It says how many clicks before it the same session clicked, and how many before it the
same item was clicked, so that both can be followed backwards from their newest click. A new click costs the same
however many there are, and takes the place of the oldest one when the ring is full: no object and no list for a
session or an item.

A session is known by its code, any int64, as long as one of its clicks is in the ring. Then its slot and its entry in
the hash table are given to another.

Shape letters: ``C`` clicks in the ring, ``S`` sessions, ``H`` places of the hash table, ``I`` item numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import Int, IntArray, compiled
from encoders.growth import grown
from encoders.vocabulary import PADDING_ITEM

Int32Array = npt.NDArray[np.int32]

ITEM, SESSION, SINCE_SESSION, SINCE_ITEM = range(4)
"""Columns of a click: item number, slot of its session, and how many clicks ago the session and the item had their
one before, 0 for none."""
N_CLICKS, N_SESSIONS, N_SLOTS, N_FREE, N_HASHED = range(5)
"""Places in `ClickLog.totals`: clicks ever, sessions in the log, slots ever used, slots free again, used entries of the
hash table."""
N_BESIDE = 15
"""Newest items of a session that are kept beside their number."""
_FIRST_CAPACITY = 1024


class ClickLog(NamedTuple):
    """Clicks by number, from 1 in the order of arrival; click ``n`` is row ``n % C``, and ``C`` a power of two."""

    clicks_C4: Int32Array
    newest_S: IntArray
    """Number of each session's newest click."""
    code_S: IntArray
    recent_S16: Int32Array
    """How many clicks of each session are in the ring, and the items of its newest `N_BESIDE`, newest first: what most
    sessions are lies in one place, where the rows of their clicks are scattered over the ring."""
    free_S: Int32Array
    """Slots of sessions that are gone, as a stack."""
    slot_H: Int32Array
    """Slot + 1 of a session, from the place that its code hashes to; 0 ends the search."""
    newest_I: IntArray
    """Number of each item's newest click, 0 for none; it may have left the ring."""
    count_I: Int32Array
    """How many clicks on each item are in the ring."""
    totals: IntArray


def empty_log() -> ClickLog:
    """A log without clicks. It becomes longer by `with_room`."""
    n = _FIRST_CAPACITY
    return ClickLog(
        clicks_C4=np.zeros((n, 4), np.int32),
        newest_S=np.zeros(n, np.int64),
        code_S=np.zeros(n, np.int64),
        recent_S16=np.zeros((n, 1 + N_BESIDE), np.int32),
        free_S=np.zeros(n, np.int32),
        slot_H=np.zeros(4 * n, np.int32),
        newest_I=np.zeros(n, np.int64),
        count_I=np.zeros(n, np.int32),
        totals=np.zeros(5, np.int64),
    )


def with_room(log: ClickLog, n_more: int, n_items: int, max_clicks: int) -> ClickLog:
    """The log, with room for ``n_more`` clicks of as many new sessions and for item numbers up to ``n_items``.

    Args:
        log: What there is; arrays that are long enough are taken as they are.
        n_more: How many clicks will be appended before the next call.
        n_items: Highest item number among them.
        max_clicks: How many clicks the ring holds in the end; more, if that is no power of two.
    """
    log = log._replace(newest_I=grown(log.newest_I, n_items + 1), count_I=grown(log.count_I, n_items + 1))
    # Before the ring is as long as it may become, nothing in it has been overwritten, so rows keep their places.
    n_clicks = min(int(log.totals[N_CLICKS]) + n_more + 1, max_clicks)
    log = log._replace(clicks_C4=grown(log.clicks_C4, _power_of_two(n_clicks))[: _power_of_two(max_clicks)])
    n_slots = min(int(log.totals[N_SESSIONS]) + n_more, len(log.clicks_C4))
    if n_slots <= len(log.newest_S):
        return log
    log = log._replace(
        newest_S=grown(log.newest_S, n_slots),
        code_S=grown(log.code_S, n_slots),
        recent_S16=grown(log.recent_S16, n_slots),
        free_S=grown(log.free_S, n_slots),
    )
    log = log._replace(slot_H=np.zeros(_power_of_two(4 * len(log.newest_S)), np.int32))
    _fill_table(log)
    return log


def _power_of_two(least: int) -> int:
    return 1 << (least - 1).bit_length()


@compiled
def row_of(log: ClickLog, click: Int) -> Int32Array:
    """A click that is in the ring. Shape: ``(4,)``."""
    row: Int32Array = log.clicks_C4[click & (len(log.clicks_C4) - 1)]
    return row


@compiled
def oldest_click(log: ClickLog) -> Int:
    """Number of the oldest click in the ring; 1 while none has been overwritten."""
    return max(log.totals[N_CLICKS] - len(log.clicks_C4) + 1, 1)


@compiled
def click_before(log: ClickLog, click: Int, column: int) -> Int:
    """Number of the click before, of the same session or item; 0 if there is none or it has left the ring.

    Args:
        log: Where it is looked up.
        click: Number of a click in the ring.
        column: `SINCE_SESSION` or `SINCE_ITEM`.
    """
    since = np.int64(row_of(log, click)[column])
    before = click - since
    return before if since > 0 and before >= oldest_click(log) else 0


@compiled
def session_slot(log: ClickLog, code: Int) -> Int:
    """Slot of the session with a code; -1 if no click of it is in the ring."""
    mask = len(log.slot_H) - 1
    place = _hash(code) & mask
    while log.slot_H[place] > 0:
        slot = np.int64(log.slot_H[place]) - 1
        if log.newest_S[slot] > 0 and log.code_S[slot] == code:
            return slot
        place = (place + 1) & mask
    return -1


@compiled
def read_items(log: ClickLog, slot: Int, n_most: int, items: Int32Array, at: Int) -> Int:
    """Write down the items that a session clicked, newest first, at most ``n_most``, and return where they end.

    Args:
        log: Where they are read.
        slot: Of the session.
        n_most: How many are wanted.
        items: Where they are written.
        at: Place of the first.
    """
    n: Int = log.recent_S16[slot, 0]
    if n > n_most:
        n = n_most
    if n <= N_BESIDE:
        for place in range(n):
            items[at + place] = log.recent_S16[slot, 1 + place]
        return at + n
    click = log.newest_S[slot]
    for place in range(n):
        items[at + place] = row_of(log, click)[ITEM]
        click = click_before(log, click, SINCE_SESSION)
    return at + n


@compiled
def newest_item(window_T: IntArray) -> Int:
    """The last item of a window that is none of its padding; 0 if there is none."""
    for item in window_T[::-1]:
        if item != PADDING_ITEM:
            return item
    return np.int64(PADDING_ITEM)


@compiled
def append(log: ClickLog, code: Int, item: Int) -> None:
    """Put a click at the end, in place of the oldest one if the ring is full; `with_room` has made room."""
    click, capacity = log.totals[N_CLICKS] + 1, len(log.clicks_C4)
    row = row_of(log, click)
    if click > capacity:
        _forget(log, row, click - capacity)
    log.totals[N_CLICKS] = click
    slot = session_slot(log, code)
    if slot < 0:
        slot = _new_session(log, code)
    newest_of_session, newest_of_item = log.newest_S[slot], log.newest_I[item]
    oldest = oldest_click(log)
    row[ITEM], row[SESSION] = item, slot
    row[SINCE_SESSION] = click - newest_of_session if newest_of_session > 0 else 0
    row[SINCE_ITEM] = click - newest_of_item if newest_of_item >= oldest else 0
    log.newest_S[slot] = log.newest_I[item] = click
    log.count_I[item] += 1
    recent = log.recent_S16[slot]
    recent[0] += 1
    for place in range(N_BESIDE, 1, -1):
        recent[place] = recent[place - 1]
    recent[1] = item


@compiled
def _forget(log: ClickLog, row: Int32Array, click: Int) -> None:
    """Let the oldest click go, and its session if that was its newest one."""
    log.count_I[row[ITEM]] -= 1
    slot = row[SESSION]
    log.recent_S16[slot, 0] -= 1
    if log.newest_S[slot] == click:
        log.newest_S[slot] = 0
        log.free_S[log.totals[N_FREE]] = slot
        log.totals[N_FREE] += 1
        log.totals[N_SESSIONS] -= 1


@compiled
def _new_session(log: ClickLog, code: Int) -> Int:
    if log.totals[N_FREE] > 0:
        log.totals[N_FREE] -= 1
        slot = np.int64(log.free_S[log.totals[N_FREE]])
    else:
        slot = log.totals[N_SLOTS]
        log.totals[N_SLOTS] += 1
    if 2 * log.totals[N_HASHED] >= len(log.slot_H):
        _fill_table(log)
    log.code_S[slot] = code
    _enter(log, slot)
    log.totals[N_SESSIONS] += 1
    return slot


@compiled
def _enter(log: ClickLog, slot: Int) -> None:
    """Put a session into the hash table, behind what hashes to the same place."""
    mask = len(log.slot_H) - 1
    place = _hash(log.code_S[slot]) & mask
    while log.slot_H[place] > 0:
        place = (place + 1) & mask
    log.slot_H[place] = slot + 1
    log.totals[N_HASHED] += 1


@compiled
def _fill_table(log: ClickLog) -> None:
    """Make the hash table anew of the sessions that there are: those that are gone leave their entries behind."""
    log.slot_H[:] = 0
    log.totals[N_HASHED] = 0
    for slot in range(log.totals[N_SLOTS]):
        if log.newest_S[slot] > 0:
            _enter(log, slot)


@compiled
def _hash(code: Int) -> Int:
    """Spread codes that lie close together over all bits (Fibonacci hashing; Knuth, TAOCP 3, section 6.4)."""
    mixed = np.uint64(code) * np.uint64(0x9E3779B97F4A7C15)
    return np.int64(mixed >> np.uint64(33))
