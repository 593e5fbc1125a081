"""Writes every session of a batch in its stored form (`streams.session`): one compiled loop over columns."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, IntArray, as_bytes, compiled, copy_bytes, write_int
from streams.advance import Advanced, BoolArray, Stored, states_at
from streams.lists import Lists, Names, cut
from streams.session import HEADER_BYTES, SESSION_VERSION

FloatArray = npt.NDArray[np.float32]


def packed_sessions(
    advanced: Advanced,
    stored: Stored,
    offsets_B: IntArray,
    states: tuple[bytes, FloatArray, BoolArray],
    lists: tuple[Lists, Names, str | None, int],
) -> list[bytes]:
    """The stored form of each session after its last event.

    Args:
        advanced: What the batch did to the sessions.
        stored: The sessions before.
        offsets_B: Of the events.
        states: Key of the model, its states by place, and which of these stand for a window with an item that it
            knows.
        lists: The lists of all events, what items are called, the model's version, and when they were made.
    """
    key, states_MS, answers_M = states
    columns, names, model_version, generated_at_ms = lists
    version = (model_version or "").encode()
    data, places = _pack(
        advanced,
        stored,
        offsets_B,
        as_bytes(key),
        states_MS,
        answers_M,
        columns,
        names,
        as_bytes(version),
        generated_at_ms,
    )
    return cut(data, places)


@compiled
def _pack(
    advanced: Advanced,
    stored: Stored,
    offsets_B: IntArray,
    key: Bytes,
    states_MS: FloatArray,
    answers_M: BoolArray,
    lists: Lists,
    names: Names,
    version: Bytes,
    generated_at_ms: int,
) -> tuple[Bytes, IntArray]:
    """All sessions, one after the other, and where each begins and the last one ends."""
    sessions, windows = advanced.sessions, advanced.windows
    n_sessions, state_size = len(sessions.last_U), states_MS.shape[1]
    places = np.zeros(n_sessions + 1, dtype=np.int64)
    for u in range(n_sessions):
        b, place = sessions.last_U[u], sessions.place_U[u]
        n = windows.end_B[b] - windows.first_B[b]
        states_bytes = _states_bytes(
            place >= 0 and answers_M[max(place, 0)], sessions.states_U[u], len(key), state_size
        )
        size = HEADER_BYTES + 13 * n + 8 * sessions.n_recent_U[u] + states_bytes
        size += 10 + len(version) + 7 * lists.lengths_B[b] + _text_bytes(lists, names, b)
        places[u + 1] = places[u] + size
    out = np.empty(places[-1], dtype=np.uint8)
    items, times = windows.item_T.view(np.uint8), windows.time_T.view(np.uint8)
    states = states_MS.view(np.uint8)
    score_bytes = np.empty(4, dtype=np.uint8)
    score = score_bytes.view(np.float32)
    for u in range(n_sessions):
        b, place = sessions.last_U[u], sessions.place_U[u]
        first, n, n_recent = windows.first_B[b], windows.end_B[b] - windows.first_B[b], sessions.n_recent_U[u]
        has_state = place >= 0 and answers_M[max(place, 0)]
        states_bytes = _states_bytes(has_state, sessions.states_U[u], len(key), state_size)
        at = write_int(out, places[u], SESSION_VERSION, 1)
        at = write_int(out, at, offsets_B[b], 8)
        at = write_int(out, at, n, 2)
        at = write_int(out, at, n_recent, 1)
        n_states = np.int64(stored.data[stored.ends[u] + 12]) if sessions.states_U[u] > 0 else np.int64(has_state)
        at = write_int(out, at, n_states, 1)
        at = write_int(out, at, states_bytes, 4)
        at = copy_bytes(out, at, items, 8 * first, 8 * n)
        at = copy_bytes(out, at, times, 4 * first, 4 * n)
        at = copy_bytes(out, at, windows.type_T, first, n)
        at = copy_bytes(out, at, sessions.recent_UR[u].view(np.uint8), 0, 8 * n_recent)
        if has_state:
            at = write_int(out, at, len(key), 1)
            at = copy_bytes(out, at, key, 0, len(key))
            at = write_int(out, at, state_size, 2)
            at = copy_bytes(out, at, states[place], 0, 4 * state_size)
        elif states_bytes:
            old = states_at(stored.data, stored.ends[u])
            at = copy_bytes(out, at, stored.data, old, states_bytes)
        n = lists.lengths_B[b]
        at = write_int(out, at, n, 1)
        at = write_int(out, at, generated_at_ms, 8)
        at = write_int(out, at, len(version), 1)
        at = copy_bytes(out, at, version, 0, len(version))
        for i in range(n):
            score[0] = lists.scores_BN[b, i]
            at = copy_bytes(out, at, score_bytes, 0, 4)
        for i in range(n):
            at = write_int(out, at, 0 if lists.items_BN[b, i] > 0 else 1, 1)
        for i in range(n):
            ends, item = _place(lists, names, b, i)
            at = write_int(out, at, ends[item + 1] - ends[item], 2)
        for i in range(n):
            ends, item = _place(lists, names, b, i)
            data = names.ann.data if lists.items_BN[b, i] > 0 else names.popular.data
            at = copy_bytes(out, at, data, ends[item], ends[item + 1] - ends[item])
    return out, places


@compiled
def _states_bytes(has_state: bool, kept_bytes: int, key_bytes: int, state_size: int) -> int:
    return 3 + key_bytes + 4 * state_size if has_state else kept_bytes


@compiled
def _place(lists: Lists, names: Names, b: int, i: int) -> tuple[IntArray, int]:
    """Which texts hold the name of an item of a list, and its place among them."""
    item = lists.items_BN[b, i]
    if item > 0:
        return names.ann.ends, item - 1
    return names.popular.ends, -1 - item


@compiled
def _text_bytes(lists: Lists, names: Names, b: int) -> int:
    """How long the names of a list's items are together."""
    total = 0
    for i in range(lists.lengths_B[b]):
        ends, item = _place(lists, names, b, i)
        total += ends[item + 1] - ends[item]
    return total
