"""The log of clicks against a list that is cut to its end."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.click_log import (
    ITEM,
    N_SESSIONS,
    SESSION,
    SINCE_ITEM,
    SINCE_SESSION,
    ClickLog,
    append,
    click_before,
    empty_log,
    oldest_click,
    row_of,
    session_slot,
    with_room,
)

CODES = st.integers(0, 30) | st.sampled_from([-(2**63), 2**63 - 1, -1]) | st.integers(-(2**63), 2**63 - 1)
BATCHES = st.lists(st.lists(st.tuples(CODES, st.integers(1, 20)), max_size=60), max_size=8)


def chain(log: ClickLog, click: int, column: int) -> list[int]:
    """Numbers of the clicks from one backwards."""
    found = []
    while click:
        found.append(click)
        click = click_before(log, click, column)
    return found


@given(BATCHES, st.sampled_from([1, 2, 16, 64, 4096]))
@settings(max_examples=200)
def test_clicks_sessions_and_items_are_those_of_the_newest_clicks(
    batches: list[list[tuple[int, int]]], max_clicks: int
) -> None:
    log, clicks = empty_log(), list[tuple[int, int]]()
    for batch in batches:
        log = with_room(log, len(batch), max((item for _, item in batch), default=0), max_clicks)
        for code, item in batch:
            append(log, code, item)
        clicks += batch
        left = dict(list(enumerate(clicks, 1))[-max_clicks:])
        assert oldest_click(log) == min(left, default=1)
        sessions, items = {code for code, _ in left.values()}, {item for _, item in left.values()}
        assert log.totals[N_SESSIONS] == len(sessions)
        slots = {code: session_slot(log, code) for code in sessions}
        assert len(set(slots.values())) == len(sessions)
        for code, slot in slots.items():
            own = [click for click, (other, _) in left.items() if other == code]
            assert chain(log, int(log.newest_S[slot]), SINCE_SESSION) == own[::-1]
            assert {int(row_of(log, click)[SESSION]) for click in own} == {slot}
        for item in items:
            own = [click for click, (_, other) in left.items() if other == item]
            assert chain(log, int(log.newest_I[item]), SINCE_ITEM) == own[::-1]
            assert {int(row_of(log, click)[ITEM]) for click in own} == {item}
            assert log.count_I[item] == len(own)
        assert all(session_slot(log, code) == -1 for code, _ in clicks if code not in sessions)


def test_codes_that_come_and_go_do_not_fill_the_table() -> None:
    log = empty_log()
    for start in range(0, 50_000, 1000):
        log = with_room(log, 1000, 1, 16)
        for code in range(start, start + 1000):
            append(log, code, 1)
    assert [session_slot(log, code) >= 0 for code in (0, 49_983, 49_984, 49_999)] == [False, False, True, True]
    assert len(log.slot_H) <= 16_384
    assert np.count_nonzero(log.slot_H) <= len(log.slot_H) // 2
