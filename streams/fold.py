"""What the state must be: an offline fold of the log, and its comparison with what is stored.

The fold reads one record after the other and lets one event after the other into its session, in plain Python and
without a model: what the worker's compiled loops (`streams.parsing`, `streams.advance`) do to whole batches must come
to the same. Ids, times and offsets are compared bit by bit; an encoder state is compared with what its model makes of
the window, within 1e-4, since a batch's make-up changes the last digits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from encoders.events import EVENT_TRAITS
from encoders.records import Interaction
from encoders.vocabulary import item_hash
from encoders.window import Entry, extend
from streams.decode import ConsumedRecord, DeadLetter, Limits, decode_one
from streams.pipeline import Rules
from streams.popularity import log2_add, log2_count
from streams.serving import EncoderModel, ServingModel
from streams.session import Session, SessionKey, event_hash, state_of, with_recent, with_seen
from streams.waves import known_window

TOLERANCE = 1e-4


@dataclass
class PartitionState:
    """What the log of one partition amounts to."""

    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    popularity: dict[tuple[str, str], float] = field(default_factory=dict)
    event_ids: list[str] = field(default_factory=list)
    """Of every valid event in its right partition, in the order of offsets; repeats included."""
    duplicates: int = 0
    dead: int = 0
    misplaced: int = 0


def fold(
    records: Iterable[ConsumedRecord],
    *,
    partition: int,
    n_partitions: int,
    rules: Rules,
    limits: Limits,
    now_ms: int,
    into: PartitionState | None = None,
) -> PartitionState:
    """Apply the records of one partition, in the order of offsets, as the worker would.

    Args:
        records: What a reader of committed records gets.
        partition: Which partition it is.
        n_partitions: How many the topic has.
        rules: The worker's.
        limits: The worker's.
        now_ms: The clock, for records that claim to be from the future.
        into: What came before, to go on from; changed in place.
    """
    state = PartitionState() if into is None else into
    for record in records:
        found = decode_one(record, partition, n_partitions, limits, now_ms)
        if isinstance(found, Interaction):
            _apply(record.offset, found, state, rules)
        elif isinstance(found, DeadLetter):
            state.dead += 1
        else:
            state.misplaced += 1
    return state


def _apply(offset: int, interaction: Interaction, state: PartitionState, rules: Rules) -> None:
    state.event_ids.append(interaction.event_id)
    session = state.sessions.setdefault(SessionKey(interaction.catalogue, interaction.user_id), Session())
    session.applied_offset = offset
    identity = event_hash(interaction.event_id)
    if identity in session.recent_event_hashes:
        state.duplicates += 1
        return
    session.recent_events = with_recent(session.recent_events, identity, rules.recent_events)
    if interaction.item_id is None:
        return
    traits = EVENT_TRAITS[interaction.event_type]
    entry = Entry(item_hash(interaction.item_id, interaction.catalogue), interaction.timestamp_ms // 1000, traits.code)
    _, dropped = extend(session.window, entry, rules.window)
    if dropped:
        session.seen = with_seen(session.seen, dropped, rules.max_seen)
    if traits.weight:
        count = log2_count(traits.weight, interaction.timestamp_ms / 1000, rules.popularity_half_life)
        key = (interaction.catalogue, interaction.item_id)
        state.popularity[key] = log2_add(state.popularity[key], count) if key in state.popularity else count


def differences(
    expected: Mapping[SessionKey, Session],
    stored: Mapping[SessionKey, Session],
    model: Callable[[str], ServingModel | None] = lambda state_key: None,
) -> list[str]:
    """Where stored sessions are not what the log amounts to, one line for each session.

    Args:
        expected: From `fold`.
        stored: From the store.
        model: The model behind a state's key, `model@version`; None leaves that state unchecked.
    """
    found = []
    for key in sorted(expected.keys() | stored.keys()):
        if key not in stored:
            found.append(f"{key.catalogue}/{key.user_id}: no session is stored")
        elif key not in expected:
            found.append(f"{key.catalogue}/{key.user_id}: a session is stored, but the log has no event")
        elif problem := _difference(expected[key], stored[key], model):
            found.append(f"{key.catalogue}/{key.user_id}: {problem}")
    return found


def _difference(expected: Session, stored: Session, model: Callable[[str], ServingModel | None]) -> str | None:
    for name in ("applied_offset", "window", "seen", "recent_events"):
        wanted, found = getattr(expected, name), getattr(stored, name)
        if wanted != found:
            return f"{name} is {found!r:.200}, the log says {wanted!r:.200}"
    if stored.latest is None:
        return "no list is stored"
    for state_key, state in stored.states.items():
        serving = model(state_key)
        if not isinstance(serving, EncoderModel):
            continue
        states, _ = serving.bundle.encoder.encode(known_window(stored.window, serving))
        distance = float(np.abs(states[0] - state_of(state)).max())
        if not distance <= TOLERANCE:
            return f"the state of {state_key} is {distance:.2g} off what the window gives"
    return None
