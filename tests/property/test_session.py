"""Sessions survive the store, whatever they hold; and memories against a plain reading."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.window import Entry, Window
from streams.advance import _see
from streams.errors import StateFormatError
from streams.lists import SOURCES
from streams.session import NO_LIST, LatestList, Session, fingerprints_of, pack, pack_list, unpack, with_seen

u8, u32, u64 = (st.integers(0, 2**bits - 1) for bits in (8, 32, 64))
float32 = st.floats(width=32)
short = st.text(max_size=60)


@st.composite
def windows(draw: st.DrawFn) -> Window:
    rows = draw(st.lists(st.tuples(u64, u32, u8), max_size=20))
    return Window.of(Entry(*row) for row in rows)


lists = st.builds(
    LatestList,
    st.integers(-(2**63), 2**63 - 1),
    st.none() | st.text(min_size=1, max_size=60),
    st.just([]),
    st.just([]),
    st.just([]),
)


@st.composite
def filled_lists(draw: st.DrawFn) -> LatestList:
    items = draw(st.lists(st.tuples(st.text(max_size=256), float32, st.sampled_from(SOURCES)), max_size=12))
    return draw(lists)._replace(
        item_ids=[item_id for item_id, _, _ in items],
        scores=[score for _, score, _ in items],
        sources=[source for _, _, source in items],
    )


sessions = st.builds(
    Session,
    applied_offset=st.integers(-1, 2**63 - 1),
    window=windows(),
    seen=st.lists(u32, max_size=20).map(lambda values: np.array(values, dtype="<u4").tobytes()),
    recent_events=st.integers(0, 16).flatmap(lambda n: st.binary(min_size=8 * n, max_size=8 * n)),
    states=st.dictionaries(
        short, st.lists(float32, max_size=8).map(lambda v: np.array(v, dtype="<f4").tobytes()), max_size=3
    ),
    packed_latest=st.just(NO_LIST) | filled_lists().map(pack_list),
)


@given(sessions)
def test_what_is_stored_reads_back(session: Session) -> None:
    again = unpack(pack(session), session.seen)
    assert repr(again) == repr(session)  # NaN is not equal to itself
    assert pack(again) == pack(session)
    assert pack_list(again.latest) == session.packed_latest if again.latest else session.packed_latest == NO_LIST


@given(sessions, st.data())
def test_damage_is_never_another_error(session: Session, data: st.DataObject) -> None:
    blob = bytearray(pack(session))
    blob[data.draw(st.integers(0, len(blob) - 1))] = data.draw(u8)
    with suppress(StateFormatError):
        _ = unpack(bytes(blob)).latest


@given(st.lists(st.integers(0, 9), max_size=40), st.integers(0, 6))
def test_a_memory_holds_the_newest_distinct_values_newest_last(values: list[int], limit: int) -> None:
    memory = b""
    for value in values:
        memory = with_seen(memory, [value], limit)
    newest = list(dict.fromkeys(reversed(values)))[:limit]
    assert fingerprints_of(memory) == newest[::-1]


@given(st.lists(st.lists(st.integers(0, 30), max_size=5), max_size=20), st.integers(0, 12))
def test_the_compiled_memory_of_what_left_a_window_is_the_plain_one(departures: list[list[int]], limit: int) -> None:
    """It is written anew behind those of other users, which stay as they are."""
    seen, others = np.arange(1000, 2000, dtype=np.uint32), 7
    first = end = others
    plain = b""
    for left in departures:
        first, end = _see(seen, end, first, end, np.array(left, dtype=np.uint64) + np.uint64(2**32), limit)
        plain = with_seen(plain, left, limit)
        assert seen[first:end].tobytes() == plain
    assert seen[:others].tolist() == list(range(1000, 1000 + others))
