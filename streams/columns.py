"""Decoded events and stored sessions as columns, which the compiled loops go through.

Shape letters: ``B`` events of all batches, ``U`` their sessions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from encoders.compiled import as_bytes
from encoders.events import EVENT_TRAITS
from encoders.vocabulary import item_hash
from streams.advance import Events, Stored
from streams.decode import Event
from streams.lists import ends_of
from streams.session import SessionKey, StoredSession, event_hash

_CODES = {kind: traits.code for kind, traits in EVENT_TRAITS.items()}
_NEW = StoredSession(b"", b"")


class Columns(NamedTuple):
    """The events of several batches one after the other, and the sessions that they find."""

    events: Events
    stored: Stored
    keys: list[SessionKey]
    """Of the sessions."""
    event_ends: list[int]
    """Where the events of each batch begin, and at the end where the last ones end."""
    session_ends: list[int]
    """The same of their sessions."""


def columns_of(
    batches: Sequence[tuple[Sequence[Event], Mapping[SessionKey, StoredSession]]],
    catalogue: str | None,
    window_types: frozenset[int],
) -> Columns:
    """Take events and sessions apart.

    Args:
        batches: Of each partition the events, and the stored sessions of those users who have one.
        catalogue: What the model can answer; None without a model.
        window_types: Codes of the event types that enter windows.
    """
    keys: list[SessionKey] = []
    stored: list[StoredSession] = []
    places: list[int] = []
    event_ends, session_ends = [0], [0]
    for events, sessions in batches:
        place_of: dict[SessionKey, int] = {}
        first = len(keys)
        places += [place_of.setdefault(event.key, first + len(place_of)) for event in events]
        keys += place_of
        stored += [sessions.get(key, _NEW) for key in place_of]
        event_ends.append(len(places))
        session_ends.append(len(keys))
    return Columns(
        _events([event for events, _ in batches for event in events], places, catalogue, window_types),
        _stored(stored),
        keys,
        event_ends,
        session_ends,
    )


def _events(
    events: Sequence[Event], sessions: list[int], catalogue: str | None, window_types: frozenset[int]
) -> Events:
    interactions = [event.interaction for event in events]
    codes = np.array([_CODES[interaction.event_type] for interaction in interactions], dtype=np.uint8)
    items = [
        0 if (item_id := interaction.item_id) is None else item_hash(item_id, interaction.catalogue)
        for interaction in interactions
    ]
    enters_by_code = np.zeros(256, dtype=np.bool_)
    enters_by_code[list(window_types)] = True
    has_item = np.array([interaction.item_id is not None for interaction in interactions], dtype=np.bool_)
    return Events(
        np.array(sessions, dtype=np.int64),
        np.array([event.offset for event in events], dtype=np.int64),
        np.array([event_hash(interaction.event_id) for interaction in interactions], dtype=np.uint64),
        np.array(items, dtype=np.uint64),
        np.array([interaction.timestamp_ms for interaction in interactions], dtype=np.int64) // 1000,
        codes,
        has_item & enters_by_code[codes],
        np.array([interaction.catalogue == catalogue for interaction in interactions], dtype=np.bool_),
    )


def _stored(sessions: Sequence[StoredSession]) -> Stored:
    seen = bytearray().join([session.seen for session in sessions])  # may be written to, unlike bytes
    return Stored(
        as_bytes(b"".join([session.packed for session in sessions])),
        ends_of([len(session.packed) for session in sessions]),
        np.frombuffer(seen, dtype=np.uint32),
        ends_of([len(session.seen) // 4 for session in sessions]),
    )
