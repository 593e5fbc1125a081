"""The window rule against a plain reading of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from encoders.events import EVENT_BY_CODE
from encoders.window import Entry, Step, Window, WindowRule, extend

rules = st.builds(
    WindowRule,
    max_len=st.integers(2, 9),
    repeats=st.sampled_from(["collapse", "keep"]),
    session_gap_s=st.none() | st.integers(1, 5),
)
entries = st.lists(
    st.builds(Entry, st.integers(0, 4), st.integers(0, 30), st.sampled_from(sorted(EVENT_BY_CODE))), max_size=60
)


def run(log: list[Entry], rule: WindowRule) -> tuple[Window, list[tuple[Step, list[int]]]]:
    window = Window()
    return window, [extend(window, entry, rule) for entry in log]


@given(entries, rules)
def test_it_does_what_the_rule_says(log: list[Entry], rule: WindowRule) -> None:
    expected: list[Entry] = []
    for entry in log:
        if EVENT_BY_CODE[entry.type_code] not in rule.event_types:
            continue
        gap = expected and rule.session_gap_s is not None and entry.time_s - expected[-1].time_s > rule.session_gap_s
        if gap:
            expected = []
        elif expected and rule.repeats == "collapse" and expected[-1].item_hash == entry.item_hash:
            continue
        elif len(expected) == rule.max_len:
            expected = expected[-(rule.max_len // 2) :]
        expected.append(entry)
    window, _ = run(log, rule)
    assert list(map(Entry, window.item_hashes, window.times_s, window.type_codes)) == expected


@given(entries, rules)
def test_nothing_is_lost_between_the_window_and_what_left_it(log: list[Entry], rule: WindowRule) -> None:
    window, steps = run(log, rule)
    left = [item for _, dropped in steps for item in dropped]
    entered = [entry.item_hash for entry, (step, _) in zip(log, steps, strict=True) if step is not Step.IGNORED]
    assert left + window.item_hashes == entered


@given(entries, rules)
def test_a_window_is_never_longer_than_allowed_and_restarts_exactly_when_something_leaves(
    log: list[Entry], rule: WindowRule
) -> None:
    window = Window()
    for entry in log:
        before = window.copy()
        step, dropped = extend(window, entry, rule)
        assert 0 <= len(window) <= rule.max_len
        assert (step is Step.RESTARTED) == bool(dropped)
        assert step is not Step.IGNORED or window == before
        assert step is not Step.APPENDED or window.item_hashes == [*before.item_hashes, entry.item_hash]


@given(entries, rules, st.integers(0, 60))
def test_a_window_that_was_stored_goes_on_as_if_it_had_not(log: list[Entry], rule: WindowRule, cut: int) -> None:
    at_once, _ = run(log, rule)
    resumed = run(log[:cut], rule)[0].copy()
    for entry in log[cut:]:
        extend(resumed, entry, rule)
    assert resumed == at_once
