"""Lets all events of a batch into their users' sessions: one compiled loop over columns.

What happens to one session is what `encoders.window` and `streams.session` say; here it happens to all of them,
without an object for any. An encoder state only takes its place here (`Places`); `streams.waves` works it out.

Shape letters: ``B`` events, ``U`` sessions, ``M`` encoder states, ``T`` entries of all windows, ``F`` fingerprints.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, Int, IntArray, compiled, copy_bytes, read_int
from encoders.window import entries_dropped
from streams.session import FINGERPRINT_MASK, HEADER_BYTES

BoolArray = npt.NDArray[np.bool_]
HashArray = npt.NDArray[np.uint64]
FingerprintArray = npt.NDArray[np.uint32]
_MARKS = 1024
"""Places of a table that says what cannot be among the items that leave a window; a power of 2."""
GIVEN, BLANK, ENCODED, STEPPED = range(4)
"""Where an encoder state comes from: the stored session, nothing, a whole window, the state before."""


class Events(NamedTuple):
    """The events of a batch, in the order in which they apply."""

    session_B: IntArray
    """Which session is concerned."""
    offset_B: IntArray
    identity_B: HashArray
    """Hash of the event id."""
    item_B: HashArray
    time_s_B: IntArray
    type_B: npt.NDArray[np.uint8]
    enters_B: BoolArray
    """Whether there is an item, and the type enters windows."""
    asks_model_B: BoolArray
    """Whether the model can answer: the event is of its catalogue."""


class Stored(NamedTuple):
    """Sessions as they are stored, one after the other; one that is new has no bytes."""

    data: Bytes
    ends: IntArray
    """Where each begins, and at the end where the last one ends. Shape: ``(U + 1,)``."""
    seen: FingerprintArray
    seen_ends: IntArray
    """The same of what has left their windows."""


class Numbers(NamedTuple):
    """The rules in numbers."""

    max_len: int
    session_gap_s: int
    collapses: bool
    max_seen: int
    recent_events: int
    state_size: int


class Windows(NamedTuple):
    """Every window that there was: entries of one user lie together, oldest first, and a window is a slice of them."""

    item_T: HashArray
    time_T: npt.NDArray[np.uint32]
    type_T: npt.NDArray[np.uint8]
    first_B: IntArray
    """Where the window begins as of each event."""
    end_B: IntArray


class Seen(NamedTuple):
    """What had left each window, oldest first, as of each event."""

    item_F: FingerprintArray
    first_B: IntArray
    end_B: IntArray


class Places(NamedTuple):
    """Encoder states in the order in which they come up."""

    origin_M: npt.NDArray[np.uint8]
    source_M: IntArray
    """`GIVEN`: where its bytes begin in `Stored.data`. `STEPPED`: the place of the state before."""
    event_M: IntArray
    """The event that brought it up."""
    depth_M: IntArray
    """`STEPPED`: how many steps of this session come before it in this batch."""


class Sessions(NamedTuple):
    """The sessions as they are after their last events."""

    last_U: IntArray
    """Its last event."""
    place_U: IntArray
    """Place of its newest encoder state of this model; -1 for none."""
    states_U: IntArray
    """Bytes of stored states that it keeps as they are."""
    recent_UR: HashArray
    """Hashes of its newest event ids, oldest first."""
    n_recent_U: IntArray
    saw_more_U: BoolArray
    """Whether more has left its window."""


class Advanced(NamedTuple):
    """What a batch did to its sessions."""

    windows: Windows
    seen: Seen
    places: Places
    place_B: IntArray
    """Place of the encoder state that answers an event; -1 for none."""
    is_repeat_B: BoolArray
    """Whether the event had come before."""
    entered_B: BoolArray
    """Whether it is in the window now."""
    sessions: Sessions


@compiled
def states_at(data: Bytes, start: Int) -> Int:
    """Where the encoder states of a stored session begin."""
    return start + HEADER_BYTES + 13 * read_int(data, start + 9, 2) + 8 * np.int64(data[start + 11])


@compiled
def _latest_at(data: Bytes, start: Int) -> Int:
    return states_at(data, start) + read_int(data, start + 13, 4)


@compiled
def _state_of(data: Bytes, start: Int, key: Bytes, state_size: int) -> Int:
    """Where the state of a model begins in a stored session; -1 if there is none."""
    at, end = states_at(data, start), _latest_at(data, start)
    for _ in range(data[start + 12]):
        length = np.int64(data[at])
        value = at + 3 + length
        if value > end:
            return -1
        size = read_int(data, value - 2, 2)
        same = length == len(key) and size == state_size and value + 4 * size <= end
        for i in range(length):
            same = same and data[at + 1 + i] == key[i]
        if same:
            return value
        at = value + 4 * size
    return -1


@compiled
def advance(events: Events, stored: Stored, key: Bytes, rule: Numbers) -> Advanced:
    """Let events into sessions.

    Args:
        events: Of all partitions; of one session in the order of offsets.
        stored: Their sessions, which are read unchecked.
        key: Under which a session keeps this model's encoder state; empty without a model.
        rule: The rules in numbers.
    """
    n_events, n_sessions = len(events.offset_B), len(stored.ends) - 1
    begin_U = np.zeros(n_sessions + 1, dtype=np.int64)  # of each user's entries among all windows
    most_recent: Int = max(rule.recent_events, 1)
    for b in range(n_events):
        begin_U[events.session_B[b] + 1] += 1
    for u in range(n_sessions):
        begin_U[u + 1] += begin_U[u]
        if stored.ends[u + 1] > stored.ends[u]:
            begin_U[u + 1] += read_int(stored.data, stored.ends[u] + 9, 2)
            most_recent = max(most_recent, np.int64(stored.data[stored.ends[u] + 11]))
    windows = Windows(
        np.empty(begin_U[-1], dtype=np.uint64),
        np.empty(begin_U[-1], dtype=np.uint32),
        np.empty(begin_U[-1], dtype=np.uint8),
        np.empty(n_events, dtype=np.int64),
        np.empty(n_events, dtype=np.int64),
    )
    sessions = Sessions(
        np.empty(n_sessions, dtype=np.int64),
        np.full(n_sessions, -1, dtype=np.int64),
        np.zeros(n_sessions, dtype=np.int64),
        np.empty((n_sessions, most_recent), dtype=np.uint64),
        np.zeros(n_sessions, dtype=np.int64),
        np.zeros(n_sessions, dtype=np.bool_),
    )
    first_U, end_U = begin_U[:-1].copy(), begin_U[:-1].copy()
    for u in range(n_sessions):
        if stored.ends[u + 1] > stored.ends[u]:
            end_U[u] += _open(stored.data, stored.ends[u], windows, begin_U[u], sessions, u)
    seen_item = stored.seen  # what changes is written behind it, into an array that has room
    seen_first_U, seen_end_U = stored.seen_ends[:-1].copy(), stored.seen_ends[1:].copy()
    n_seen = len(seen_item)
    seen_first_B, seen_end_B = np.empty(n_events, dtype=np.int64), np.empty(n_events, dtype=np.int64)
    most = n_events + n_sessions
    places = Places(
        np.empty(most, dtype=np.uint8),
        np.empty(most, dtype=np.int64),
        np.empty(most, dtype=np.int64),
        np.empty(most, dtype=np.int64),
    )
    n_places = 0
    place_B, is_repeat_B = np.empty(n_events, dtype=np.int64), np.zeros(n_events, dtype=np.bool_)
    entered_B = np.zeros(n_events, dtype=np.bool_)
    n_steps_U = np.zeros(n_sessions, dtype=np.int64)
    for b in range(n_events):
        u = events.session_B[b]
        sessions.last_U[u] = b
        n: Int = end_U[u] - first_U[u]
        n_dropped: Int = -1
        is_repeat_B[b] = not _remember(sessions, u, events.identity_B[b], rule.recent_events)
        if events.enters_B[b] and not is_repeat_B[b]:
            newest = end_U[u] - 1
            is_newest = n > 0 and windows.item_T[newest] == events.item_B[b]
            newest_s: Int = np.int64(windows.time_T[newest]) if n > 0 else 0
            n_dropped = entries_dropped(
                n, is_newest, newest_s, events.time_s_B[b], rule.max_len, rule.session_gap_s, rule.collapses
            )
        if n_dropped > 0:
            need = n_seen + seen_end_U[u] - seen_first_U[u] + n_dropped
            if need > len(seen_item):
                grown = np.empty(2 * need, dtype=np.uint32)
                grown[:n_seen] = seen_item[:n_seen]
                seen_item = grown
            left = windows.item_T[first_U[u] : first_U[u] + n_dropped]
            first, n_seen = _see(seen_item, n_seen, seen_first_U[u], seen_end_U[u], left, rule.max_seen)
            seen_first_U[u], seen_end_U[u], sessions.saw_more_U[u] = first, n_seen, True
            first_U[u] += n_dropped
        if n_dropped >= 0:
            windows.item_T[end_U[u]] = events.item_B[b]
            windows.time_T[end_U[u]] = np.uint32(events.time_s_B[b])
            windows.type_T[end_U[u]] = events.type_B[b]
            end_U[u] += 1
            entered_B[b] = True
        windows.first_B[b], windows.end_B[b] = first_U[u], end_U[u]
        seen_first_B[b], seen_end_B[b] = seen_first_U[u], seen_end_U[u]
        if events.asks_model_B[b]:
            place = sessions.place_U[u]
            if place < 0 and stored.ends[u + 1] > stored.ends[u] and sessions.states_U[u] > 0:
                state = _state_of(stored.data, stored.ends[u], key, rule.state_size)
                if state >= 0:
                    place = n_places
                    places.origin_M[place], places.source_M[place], places.event_M[place] = GIVEN, state, b
                    n_places += 1
            if place < 0 and n_dropped == 0 and n == 0:
                place = n_places  # a step costs less than encoding a window, however short
                places.origin_M[place], places.event_M[place] = BLANK, b
                n_places += 1
            if place < 0 or n_dropped > 0:
                place = n_places
                places.origin_M[place], places.event_M[place] = ENCODED, b
                n_places += 1
            elif n_dropped == 0:
                places.origin_M[n_places], places.source_M[n_places], places.event_M[n_places] = STEPPED, place, b
                places.depth_M[n_places] = n_steps_U[u]
                place = n_places
                n_places += 1
                n_steps_U[u] += 1
            sessions.place_U[u] = place
            sessions.states_U[u] = 0
        elif n_dropped >= 0:
            sessions.states_U[u] = 0  # of a model that has not read this event
        place_B[b] = sessions.place_U[u]
    found = Places(
        places.origin_M[:n_places], places.source_M[:n_places], places.event_M[:n_places], places.depth_M[:n_places]
    )
    seen = Seen(seen_item[:n_seen], seen_first_B, seen_end_B)
    return Advanced(windows, seen, found, place_B, is_repeat_B, entered_B, sessions)


@compiled
def _open(data: Bytes, start: Int, windows: Windows, at: Int, sessions: Sessions, u: Int) -> Int:
    """Unpack a stored session, and return how long its window is."""
    n, n_recent = read_int(data, start + 9, 2), np.int64(data[start + 11])
    items = start + HEADER_BYTES
    copy_bytes(windows.item_T.view(np.uint8), 8 * at, data, items, 8 * n)
    copy_bytes(windows.time_T.view(np.uint8), 4 * at, data, items + 8 * n, 4 * n)
    copy_bytes(windows.type_T, at, data, items + 12 * n, n)
    copy_bytes(sessions.recent_UR[u].view(np.uint8), 0, data, items + 13 * n, 8 * n_recent)
    sessions.n_recent_U[u] = n_recent
    sessions.states_U[u] = read_int(data, start + 13, 4)
    return n


@compiled
def _remember(sessions: Sessions, u: Int, identity: np.uint64, limit: int) -> bool:
    """Remember an event id among the newest; false if it is there already."""
    recent, n = sessions.recent_UR[u], sessions.n_recent_U[u]
    for i in range(n):
        if recent[i] == identity:
            return False
    surplus: Int = max(0, n + 1 - limit)
    if limit == 0:
        sessions.n_recent_U[u] = 0
        return True
    for i in range(surplus, n):
        recent[i - surplus] = recent[i]
    recent[n - surplus] = identity
    sessions.n_recent_U[u] = n + 1 - surplus
    return True


@compiled
def _see(seen: FingerprintArray, at: Int, first: Int, end: Int, left: HashArray, limit: int) -> tuple[Int, Int]:
    """Write anew, from ``at`` on, what one user has seen: what comes again moves to the end, the oldest go.

    Returns:
        Where it begins and ends.
    """
    begin = at
    may_come_again = np.zeros(_MARKS, dtype=np.bool_)  # by the last bits: most of a thousand need no second look
    for item in left:
        may_come_again[item & np.uint64(_MARKS - 1)] = True
    for i in range(first, end):
        comes_again = False
        if may_come_again[seen[i] & np.uint32(_MARKS - 1)]:
            for item in left:
                comes_again |= np.uint32(item & np.uint64(FINGERPRINT_MASK)) == seen[i]
        if not comes_again:
            seen[at] = seen[i]
            at += 1
    for i in range(len(left)):
        fingerprint = np.uint32(left[i] & np.uint64(FINGERPRINT_MASK))
        comes_again = False
        for j in range(i + 1, len(left)):
            comes_again |= np.uint32(left[j] & np.uint64(FINGERPRINT_MASK)) == fingerprint
        if not comes_again:
            seen[at] = fingerprint
            at += 1
    return max(begin, at - limit), at
