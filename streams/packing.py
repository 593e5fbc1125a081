"""Writes every session of a batch in its stored form (`streams.session`): one compiled loop over columns."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, Int, IntArray, compiled, copy_bytes, write_int
from streams.advance import Advanced, BoolArray, Sessions, Stored, states_at
from streams.lists import Lists, Names
from streams.session import HEADER_BYTES, SESSION_VERSION
from streams.texts import cut

FloatArray = npt.NDArray[np.float32]


class States(NamedTuple):
    """Encoder states of a batch, in the places that `advance` gave them."""

    key: Bytes
    """Under which the model's states are stored."""
    state_MS: FloatArray
    answers_M: BoolArray
    """Which of them stand for a window with an item that the model knows; the others are not stored."""


class Made(NamedTuple):
    """The lists of all events; a session keeps its latest."""

    lists: Lists
    names: Names
    version: Bytes
    """Of the model that made them; empty without one."""
    at_ms: int
    """When they were made, milliseconds since 1970."""


def packed_sessions(advanced: Advanced, stored: Stored, offsets_B: IntArray, states: States, made: Made) -> list[bytes]:
    """The stored form of each session after its last event.

    Args:
        advanced: What the batch did to the sessions.
        stored: The sessions before.
        offsets_B: Of the events.
        states: After the events.
        made: The lists that answer them.
    """
    return cut(*_pack(advanced, stored, offsets_B, states, made))


@compiled
def _pack(
    advanced: Advanced, stored: Stored, offsets_B: IntArray, states: States, made: Made
) -> tuple[Bytes, IntArray]:
    """All sessions, one after the other, and where each begins and the last one ends."""
    sessions, windows = advanced.sessions, advanced.windows
    n_sessions, state_size = len(sessions.last_U), states.state_MS.shape[1]
    places = np.zeros(n_sessions + 1, dtype=np.int64)
    for u in range(n_sessions):
        b = sessions.last_U[u]
        n = windows.end_B[b] - windows.first_B[b]
        size = HEADER_BYTES + 13 * n + 8 * sessions.n_recent_U[u] + _states_bytes(sessions, u, states)
        places[u + 1] = places[u] + size + _list_bytes(made, b)
    out = np.empty(places[-1], dtype=np.uint8)
    items, times = windows.item_T.view(np.uint8), windows.time_T.view(np.uint8)
    recent_UR, states_MB = sessions.recent_UR.view(np.uint8), states.state_MS.view(np.uint8)
    score_bytes = np.empty(4, dtype=np.uint8)
    for u in range(n_sessions):
        b, has_state = sessions.last_U[u], _has_state(sessions, u, states)
        first, n, n_recent = windows.first_B[b], windows.end_B[b] - windows.first_B[b], sessions.n_recent_U[u]
        states_bytes, kept = _states_bytes(sessions, u, states), sessions.states_U[u] > 0
        at = write_int(out, places[u], SESSION_VERSION, 1)
        at = write_int(out, at, offsets_B[b], 8)
        at = write_int(out, at, n, 2)
        at = write_int(out, at, n_recent, 1)
        at = write_int(out, at, np.int64(stored.data[stored.ends[u] + 12]) if kept else np.int64(has_state), 1)
        at = write_int(out, at, states_bytes, 4)
        at = copy_bytes(out, at, items, 8 * first, 8 * n)
        at = copy_bytes(out, at, times, 4 * first, 4 * n)
        at = copy_bytes(out, at, windows.type_T, first, n)
        at = copy_bytes(out, at, recent_UR[u], 0, 8 * n_recent)
        if has_state:
            at = write_int(out, at, len(states.key), 1)
            at = copy_bytes(out, at, states.key, 0, len(states.key))
            at = write_int(out, at, state_size, 2)
            at = copy_bytes(out, at, states_MB[sessions.place_U[u]], 0, 4 * state_size)
        elif kept:
            at = copy_bytes(out, at, stored.data, states_at(stored.data, stored.ends[u]), states_bytes)
        _write_list(out, at, made, b, score_bytes)
    return out, places


@compiled
def _has_state(sessions: Sessions, u: Int, states: States) -> bool:
    """Whether the model has a state to store of a session."""
    place: Int = sessions.place_U[u]
    return bool(place >= 0 and states.answers_M[max(place, 0)])


@compiled
def _states_bytes(sessions: Sessions, u: Int, states: States) -> Int:
    """How long all encoder states of a session are; where the model has none, those stay that were stored."""
    if _has_state(sessions, u, states):
        return 3 + len(states.key) + 4 * states.state_MS.shape[1]
    return sessions.states_U[u]


@compiled
def _list_bytes(made: Made, b: Int) -> Int:
    """How long the list of an event is."""
    total = 10 + len(made.version) + 7 * made.lists.lengths_B[b]
    for i in range(made.lists.lengths_B[b]):
        ends, item = _place(made, b, i)
        total += ends[item + 1] - ends[item]
    return total


@compiled
def _write_list(out: Bytes, at: Int, made: Made, b: Int, score_bytes: Bytes) -> None:
    """When and by what it was made; scores, sources, lengths of names and names, one column after the other."""
    score = score_bytes.view(np.float32)
    n = made.lists.lengths_B[b]
    at = write_int(out, at, n, 1)
    at = write_int(out, at, made.at_ms, 8)
    at = write_int(out, at, len(made.version), 1)
    at = copy_bytes(out, at, made.version, 0, len(made.version))
    for i in range(n):
        score[0] = made.lists.scores_BN[b, i]
        at = copy_bytes(out, at, score_bytes, 0, 4)
    for i in range(n):
        at = write_int(out, at, 0 if made.lists.items_BN[b, i] > 0 else 1, 1)
    for i in range(n):
        ends, item = _place(made, b, i)
        at = write_int(out, at, ends[item + 1] - ends[item], 2)
    for i in range(n):
        ends, item = _place(made, b, i)
        data = made.names.ann.data if made.lists.items_BN[b, i] > 0 else made.names.popular.data
        at = copy_bytes(out, at, data, ends[item], ends[item + 1] - ends[item])


@compiled
def _place(made: Made, b: Int, i: Int) -> tuple[IntArray, Int]:
    """Which texts hold the name of an item of a list, and its place among them."""
    item = made.lists.items_BN[b, i]
    if item > 0:
        return made.names.ann.ends, item - 1
    return made.names.popular.ends, -1 - item
