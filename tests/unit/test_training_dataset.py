"""Training rows, by hand. That windows are those of a worker is in `property/`."""

from __future__ import annotations

import numpy as np

from encoders.window import WindowRule
from tests.logs import make_log
from trainer.dataset import TrainingRows, cut_windows, training_rows

RULE = WindowRule(max_len=4)


def test_a_short_history_is_one_row() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3)])
    rows = training_rows(log, RULE, log.item_codes + 1, np.ones(3, dtype=bool))
    assert rows.inputs.tolist() == [[1, 2, 3, 0]]
    assert rows.targets.tolist() == [[2, 3, 0, 0]]
    assert rows.n_targets == 2


def test_a_restarted_window_is_a_row_of_its_own_without_the_targets_before() -> None:
    log = make_log([(0, i, i) for i in range(6)])
    rows = training_rows(log, RULE, log.item_codes + 1, np.ones(6, dtype=bool))
    assert rows.inputs.tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]
    assert rows.targets.tolist() == [[2, 3, 4, 5], [0, 0, 6, 0]]


def test_nothing_follows_from_one_user_to_the_next() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2), (0, 2, 3), (1, 3, 4)])
    rows = training_rows(log, RULE, log.item_codes + 1, np.ones(4, dtype=bool))
    assert rows.inputs.tolist() == [[1, 3, 0, 0], [2, 4, 0, 0]]
    assert rows.targets.tolist() == [[3, 0, 0, 0], [4, 0, 0, 0]]


def test_only_marked_events_are_targets_and_the_others_still_inputs() -> None:
    log = make_log([(0, i, i) for i in range(4)])
    rows = training_rows(log, RULE, log.item_codes + 1, np.array([False, False, False, True]))
    assert rows.inputs.tolist() == [[1, 2, 3, 4]]
    assert rows.targets.tolist() == [[0, 0, 4, 0]]


def test_rows_of_a_part_are_those_of_a_copy_of_it() -> None:
    random = np.random.default_rng(0)
    log = make_log([(*random.integers(0, (9, 20)).tolist(), time_s) for time_s in range(300)])
    numbers, is_target, among = log.item_codes + 1, random.random(300) < 0.8, random.random(300) < 0.7
    numbers[::13] = 0
    rows = training_rows(log, RULE, numbers, is_target, among)
    copied = training_rows(log.where(among), RULE, numbers[among], is_target[among])
    assert len(rows) > 50
    assert np.array_equal(rows.inputs, copied.inputs)
    assert np.array_equal(rows.targets, copied.targets)


def test_a_row_reaches_to_its_last_target_and_one_without_targets_nowhere() -> None:
    targets = np.array([[0, 3, 0, 2, 0], [0, 0, 0, 0, 0], [1, 0, 0, 0, 4]], dtype=np.int32)
    assert TrainingRows(np.ones_like(targets), targets).lengths.tolist() == [4, 0, 5]


def test_targets_are_counted_by_item() -> None:
    targets = np.array([[0, 3, 1], [3, 3, 0]], dtype=np.int32)
    assert TrainingRows(np.ones_like(targets), targets).counts(n_items=4).tolist() == [2, 1, 0, 3, 0]


def test_a_gap_begins_a_new_row_and_its_first_item_is_the_last_target_of_the_old_one() -> None:
    log = make_log([(0, 0, 0), (0, 1, 10), (0, 2, 21), (0, 3, 22)])
    rows = training_rows(log, WindowRule(max_len=4, session_gap_s=10), log.item_codes + 1, np.ones(4, dtype=bool))
    assert rows.inputs.tolist() == [[1, 2, 0, 0], [3, 4, 0, 0]]
    assert rows.targets.tolist() == [[2, 3, 0, 0], [4, 0, 0, 0]]


def test_users_of_one_event_give_no_rows() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2)])
    assert len(training_rows(log, RULE, log.item_codes + 1, np.ones(2, dtype=bool))) == 0


def test_an_empty_log_gives_no_rows_and_no_windows() -> None:
    log = make_log([])
    assert len(training_rows(log, RULE, log.item_codes, np.ones(0, dtype=bool))) == 0
    assert cut_windows(log, RULE).windows(np.zeros(0, dtype=np.int64), log.item_codes, 4).shape == (0, 4)


def test_previous_is_the_same_users_event_before() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2), (0, 2, 3), (1, 3, 4), (0, 1, 5)])
    assert cut_windows(log, RULE).previous.tolist() == [-1, -1, 0, 1, 2]
