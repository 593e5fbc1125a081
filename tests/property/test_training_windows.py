"""The windows that the trainer cuts are those that a worker keeps, whatever the log."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.window import Entry, Step, Window, WindowRule, extend
from tests.histories import logs, rules
from trainer.dataset import cut_windows, training_rows


def windows_of_a_worker(log, rule: WindowRule) -> list[list[int]]:
    """Item codes in the user's window after each event, kept event by event."""
    windows: dict[int, Window] = {}
    after = []
    for user, item, time_ms, code in zip(log.user_codes, log.item_codes, log.times_ms, log.type_codes, strict=True):
        window = windows.setdefault(int(user), Window())
        extend(window, Entry(int(item), int(time_ms) // 1000, int(code)), rule)
        after.append(window.item_hashes.copy())
    return after


@given(logs, rules)
def test_windows_are_those_that_extend_keeps(log, rule: WindowRule) -> None:
    cut = cut_windows(log, rule).windows(np.arange(len(log)), log.item_codes + 1, rule.max_len)
    kept = [[0] * (rule.max_len - len(w)) + [item + 1 for item in w] for w in windows_of_a_worker(log, rule)]
    assert cut.tolist() == kept


@given(logs, rules)
def test_every_target_is_trained_on_once_after_the_window_a_worker_held(log, rule: WindowRule) -> None:
    rows = training_rows(log, rule, log.item_codes + 1, np.ones(len(log), dtype=bool))
    trained = sorted(
        (tuple(inputs[: place + 1]), int(targets[place]))
        for inputs, targets in zip(rows.inputs.tolist(), rows.targets.tolist(), strict=True)
        for place in np.flatnonzero(targets)
    )
    windows: dict[int, Window] = {}
    served = []
    for user, item, time_ms, code in zip(log.user_codes, log.item_codes, log.times_ms, log.type_codes, strict=True):
        window = windows.setdefault(int(user), Window())
        before = window.copy()
        step, _ = extend(window, Entry(int(item), int(time_ms) // 1000, int(code)), rule)
        if len(before) and step is not Step.IGNORED:
            served.append((tuple(i + 1 for i in before.item_hashes), int(item) + 1))
    assert trained == sorted(served)


@given(logs, rules, st.sets(st.integers(0, 5)))
def test_an_unknown_item_is_neither_input_nor_target(log, rule: WindowRule, unknown: set[int]) -> None:
    numbers = np.where(np.isin(log.item_codes, list(unknown)), 0, log.item_codes + 1)
    rows = training_rows(log, rule, numbers, np.ones(len(log), dtype=bool))
    for inputs, targets in zip(rows.inputs, rows.targets, strict=True):
        n = np.count_nonzero(inputs)
        assert inputs[:n].all()
        assert not inputs[n:].any()
        assert not targets[n:].any()
        assert not {int(i) - 1 for i in (*inputs[:n], *targets[targets > 0])} & unknown
