"""The offline fold, and what it finds in stored sessions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import nan

import numpy as np
import pytest

from encoders.vocabulary import item_hash
from encoders.window import WindowRule
from streams.decode import Limits
from streams.fold import TOLERANCE, PartitionState, differences, fold
from streams.pipeline import Rules, Serving
from streams.session import NO_LIST, Session, SessionKey, pack, state_of, unpack
from streams.settings import TopicNames
from streams.store import MemoryStore
from streams.worker import WorkerRules
from tests.inmemory import NOW_MS, Bench, Record, batch, click, model, record, records, users_of

RULES = Rules(window=WindowRule(max_len=4))
U = SessionKey("default", "u")


def folded(log: Sequence[Record], into: PartitionState | None = None, n_partitions: int = 1) -> PartitionState:
    return fold(log, partition=0, n_partitions=n_partitions, rules=RULES, limits=Limits(), now_ms=NOW_MS, into=into)


def test_it_counts_what_it_reads() -> None:
    here, there = users_of(0, 2, 1)[0], users_of(1, 2, 1)[0]
    given = [click(here, event_id="e"), click(there), click(here, event_id="e")]
    state = folded([*records(given), Record(3, b"bad")], n_partitions=2)
    assert (state.event_ids, state.misplaced, state.dead) == (["e", "e"], 1, 1)
    assert state.sessions[SessionKey("default", here)].applied_offset == 2
    assert len(state.popularity) == 1


def test_it_can_go_on_from_what_came_before() -> None:
    log = records([click(item=str(i)) for i in range(20)])
    at_once, in_parts = folded(log), folded(log[7:], folded(log[:7]))
    assert at_once.sessions[U].window == in_parts.sessions[U].window
    assert (at_once.popularity, at_once.event_ids) == (in_parts.popularity, in_parts.event_ids)


@pytest.fixture
async def stored() -> dict[SessionKey, Session]:
    """What a worker with a model makes of `LOG`."""
    bench = Bench(WorkerRules(TopicNames(), "cluster", 1, RULES), serving=Serving(model()))
    await bench.acquire()
    await bench.worker.handle(batch(LOG))
    assert isinstance(bench.store, MemoryStore)
    partition = bench.store.partitions[0]
    return {key: unpack(blob, partition.seen.get(key, b"")) for key, blob in partition.sessions.items()}


LOG = records([click(user, str(item)) for item in range(1, 8) for user in "uv"])


def found(stored: dict[SessionKey, Session]) -> list[str]:
    models = {model().state_key: model()}
    return differences(folded(LOG).sessions, stored, models.get)


def test_a_worker_and_the_fold_agree(stored: dict[SessionKey, Session]) -> None:
    assert found(stored) == []
    assert stored[U].seen
    assert stored[U].states


def test_a_missing_and_a_surplus_session_are_found(stored: dict[SessionKey, Session]) -> None:
    stored[SessionKey("default", "w")] = stored.pop(U)
    assert found(stored) == [
        "default/u: no session is stored",
        "default/w: a session is stored, but the log has no event",
    ]


def _offset(session: Session) -> None:
    session.applied_offset -= 1


def _time(session: Session) -> None:
    column = session.window.time_column
    session.window.time_column = bytes([column[0] ^ 1]) + column[1:]


def _order(session: Session) -> None:
    column = session.window.item_column
    session.window.item_column = column[8:] + column[:8]


def _seen(session: Session) -> None:
    session.seen += bytes(4)


def _recent(session: Session) -> None:
    session.recent_events = session.recent_events[:-8]


def _list(session: Session) -> None:
    session.packed_latest = NO_LIST


def shifted(session: Session, by: float) -> bytes:
    return (state_of(session.states[model().state_key]) + np.float32(by)).tobytes()


def _state(session: Session) -> None:
    session.states = {model().state_key: shifted(session, 2 * TOLERANCE)}


def _nan(session: Session) -> None:
    session.states = {model().state_key: shifted(session, nan)}


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_offset, "applied_offset is"),
        (_time, "window is"),
        (_order, "window is"),
        (_seen, "seen is"),
        (_recent, "recent_events is"),
        (_list, "no list is stored"),
        (_state, "off what the window gives"),
        (_nan, "off what the window gives"),
    ],
)
def test_every_difference_is_found(
    stored: dict[SessionKey, Session], change: Callable[[Session], None], named: str
) -> None:
    change(stored[U])
    (line,) = found(stored)
    assert line.startswith("default/u: ")
    assert named in line


def test_a_state_within_the_tolerance_is_none(stored: dict[SessionKey, Session]) -> None:
    stored[U].states = {model().state_key: shifted(stored[U], TOLERANCE / 2)}
    assert found(stored) == []


def test_a_state_of_an_unknown_model_is_left_unchecked(stored: dict[SessionKey, Session]) -> None:
    stored[U].states = {"gru@another": bytes(12)}
    assert found(stored) == []


def test_what_is_stored_and_read_again_is_no_difference(stored: dict[SessionKey, Session]) -> None:
    assert found({key: unpack(pack(session), session.seen) for key, session in stored.items()}) == []


def test_the_fold_keeps_no_model_state() -> None:
    session = folded([record(0, click(item="1"))]).sessions[U]
    assert session.states == {}
    assert session.window.item_hashes == [item_hash("1")]
