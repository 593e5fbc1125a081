"""The window rule, at its boundaries."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from encoders.events import EVENT_TRAITS, EventType
from encoders.window import Entry, Step, Window, WindowRule, extend

CLICK = EVENT_TRAITS[EventType.CLICK].code
REQUEST = EVENT_TRAITS[EventType.REQUEST].code


def window_of(*items: int, time_s: int = 0) -> Window:
    return Window.of(Entry(item, time_s, CLICK) for item in items)


def test_a_gap_exactly_reached_keeps_the_window() -> None:
    window = window_of(1, 2, time_s=100)
    assert extend(window, Entry(3, 160, CLICK), WindowRule(session_gap_s=60)) == (Step.APPENDED, [])
    assert window.item_hashes == [1, 2, 3]


def test_a_gap_one_second_longer_empties_the_window_first() -> None:
    window = window_of(1, 2, time_s=100)
    assert extend(window, Entry(3, 161, CLICK), WindowRule(session_gap_s=60)) == (Step.RESTARTED, [1, 2])
    assert (window.item_hashes, window.times_s, window.type_codes) == ([3], [161], [CLICK])


def test_the_same_item_after_a_gap_enters_again() -> None:
    window = window_of(1, time_s=0)
    assert extend(window, Entry(1, 61, CLICK), WindowRule(session_gap_s=60)) == (Step.RESTARTED, [1])
    assert window.item_hashes == [1]


def test_a_gap_counts_from_the_newest_entry_not_the_latest_time() -> None:
    rule, window = WindowRule(session_gap_s=60), Window()
    for time_s in (100, 20, 90):
        extend(window, Entry(time_s, time_s, CLICK), rule)
    assert extend(window, Entry(1, 150, CLICK), rule)[0] is Step.APPENDED


def test_an_event_time_that_runs_backwards_is_kept_as_it_is() -> None:
    window = window_of(1, time_s=100)
    assert extend(window, Entry(2, 5, CLICK), WindowRule(session_gap_s=60)) == (Step.APPENDED, [])
    assert window.times_s == [100, 5]


def test_without_a_gap_in_the_rule_no_pause_empties_the_window() -> None:
    window = window_of(1)
    assert extend(window, Entry(2, 2**31, CLICK), WindowRule())[0] is Step.APPENDED


def test_the_first_entry_of_an_empty_window_restarts_nothing() -> None:
    assert extend(Window(), Entry(1, 10**9, CLICK), WindowRule(session_gap_s=1)) == (Step.APPENDED, [])


def test_an_entry_that_fills_the_window_keeps_all() -> None:
    window = window_of(1, 2, 3)
    assert extend(window, Entry(4, 0, CLICK), WindowRule(max_len=4)) == (Step.APPENDED, [])
    assert len(window) == 4


@pytest.mark.parametrize(("max_len", "kept"), [(2, [2]), (3, [3]), (4, [3, 4]), (5, [4, 5])])
def test_an_entry_that_finds_a_full_window_keeps_the_newest_half(max_len: int, kept: list[int]) -> None:
    items = list(range(1, max_len + 1))
    window = window_of(*items)
    step, dropped = extend(window, Entry(99, 0, CLICK), WindowRule(max_len=max_len))
    assert (step, dropped, window.item_hashes) == (Step.RESTARTED, items[: -len(kept)], [*kept, 99])


def test_a_window_kept_under_a_longer_rule_shrinks_at_once() -> None:
    window = window_of(*range(50))
    assert extend(window, Entry(99, 0, CLICK), WindowRule(max_len=4)) == (Step.RESTARTED, list(range(48)))


def test_the_newest_item_again_does_not_enter() -> None:
    window = window_of(1, 2)
    assert extend(window, Entry(2, 7, CLICK), WindowRule()) == (Step.IGNORED, [])
    assert (window.item_hashes, window.times_s) == ([1, 2], [0, 0])


def test_an_older_item_again_enters_again() -> None:
    window = window_of(1, 2)
    assert extend(window, Entry(1, 7, CLICK), WindowRule())[0] is Step.APPENDED


def test_a_repeat_does_not_restart_a_full_window() -> None:
    window = window_of(1, 2)
    assert extend(window, Entry(2, 0, CLICK), WindowRule(max_len=2)) == (Step.IGNORED, [])


def test_repeats_are_kept_if_the_rule_says_so() -> None:
    window = window_of(1)
    assert extend(window, Entry(1, 0, CLICK), WindowRule(repeats="keep"))[0] is Step.APPENDED
    assert window.item_hashes == [1, 1]


@pytest.mark.parametrize("code", [REQUEST, EVENT_TRAITS[EventType.SKIP].code, 0, 200])
def test_a_type_that_the_rule_does_not_admit_changes_nothing(code: int) -> None:
    """Not even after a gap."""
    window = window_of(1)
    assert extend(window, Entry(2, 10**6, code), WindowRule(session_gap_s=1)) == (Step.IGNORED, [])
    assert window == window_of(1)


def test_only_the_rules_event_types_enter() -> None:
    rule = WindowRule(event_types=(EventType.PURCHASE,))
    assert rule.codes == {EVENT_TRAITS[EventType.PURCHASE].code}


def test_a_copy_is_independent() -> None:
    window = window_of(1)
    extend(window.copy(), Entry(2, 0, CLICK), WindowRule())
    assert window == window_of(1)


@pytest.mark.parametrize(
    "wrong", [{"max_len": 1}, {"max_len": 65_536}, {"session_gap_s": 0}, {"repeats": "drop"}, {"gap": 1}]
)
def test_a_rule_that_cannot_be_is_refused(wrong: dict[str, object]) -> None:
    """A stored window has at most 65,535 entries."""
    with pytest.raises(ValidationError):
        WindowRule.model_validate(wrong)


def test_a_rule_survives_json() -> None:
    rule = WindowRule(max_len=7, session_gap_s=9, repeats="keep", event_types=(EventType.CART,))
    assert WindowRule.model_validate_json(rule.model_dump_json()) == rule


def test_where_a_window_of_odd_length_begins_by_hand() -> None:
    rule, window, starts, left = WindowRule(max_len=5), Window(), [], 0
    for item in range(12):
        left += len(extend(window, Entry(item, 0, 2), rule)[1])
        starts.append(left)
    assert starts == [0, 0, 0, 0, 0, 3, 3, 3, 6, 6, 6, 9]
