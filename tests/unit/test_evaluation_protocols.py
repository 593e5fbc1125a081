"""How logs are split."""

from __future__ import annotations

import numpy as np
import pytest

from tests.logs import make_log
from trainer.errors import DatasetError
from trainer.evaluation.protocols import Exam, Part, global_time, held_out, leave_one_out, periods, sessions
from trainer.evaluation.queries import Crop

CROP = Crop(3)


def asked(exam: Exam, part: Part = "test") -> list[tuple[list[int], int]]:
    """Each query's window without padding, and its target."""
    queries = exam.queries(part)
    windows = queries.windows(np.arange(len(queries))).tolist()
    return [([i for i in window if i], t) for window, t in zip(windows, queries.target_items.tolist(), strict=True)]


def trained(exam: Exam) -> list[int]:
    return (exam.training.item_codes + 1).tolist()


HISTORY = make_log([(0, item, item) for item in range(5)])
"""One user with items 1 to 5."""


def test_leave_one_out_tests_the_last_item_after_train_and_validation() -> None:
    assert asked(leave_one_out(HISTORY, CROP)) == [([2, 3, 4], 5)]


def test_leave_one_out_validates_the_last_but_one_and_trains_on_the_rest() -> None:
    exam = leave_one_out(HISTORY, CROP)
    assert asked(exam, "validation") == [([1, 2, 3], 4)]
    assert trained(exam) == [1, 2, 3]


def test_leave_one_out_asks_users_of_three_events() -> None:
    exam = leave_one_out(make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3)]), CROP)
    assert (trained(exam), asked(exam, "validation"), asked(exam)) == ([1], [([1], 2)], [([1, 2], 3)])


def test_leave_one_out_only_trains_on_users_of_two_events() -> None:
    exam = leave_one_out(make_log([(0, 0, 1), (0, 1, 2)]), CROP)
    assert (trained(exam), asked(exam, "validation"), asked(exam)) == ([1, 2], [], [])


def test_leave_one_out_may_list_an_item_that_nobody_trained_on() -> None:
    assert leave_one_out(HISTORY, CROP).queries().candidates is None


SESSIONS = make_log([(0, 0, 1), (0, 1, 2), (1, 1, 3), (1, 0, 4), (2, 0, 5), (2, 1, 6), (2, 2, 7), (2, 0, 8)])
"""Session 2 has items 1, 2, 3, 1; no other has item 3."""
LABELS = np.array(["train"] * 4 + ["test"] * 4)


def test_sessions_ask_for_every_event_after_the_first_of_a_test_session() -> None:
    known = make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 0, 4), (1, 1, 5), (1, 2, 6)])
    exam = sessions(known, np.array(["train"] * 3 + ["test"] * 3), CROP)
    assert asked(exam) == [([1], 2), ([1, 2], 3)]


def test_sessions_drop_what_was_not_known_from_inputs_and_targets() -> None:
    assert asked(sessions(SESSIONS, LABELS, CROP)) == [([1], 2), ([1, 2], 1)]


def test_sessions_may_ask_for_what_was_not_known() -> None:
    exam = sessions(SESSIONS, LABELS, CROP, drop_unknown=False)
    assert asked(exam) == [([1], 2), ([1, 2], 0), ([1, 2], 1)]


def test_sessions_drop_a_test_session_that_has_one_event_left() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 2, 3), (1, 0, 4)])
    assert asked(sessions(log, np.array(["train", "train", "test", "test"]), CROP)) == []


def test_sessions_know_an_item_of_the_validation_part_when_they_are_tested() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 2, 4), (2, 0, 5), (2, 1, 6)])
    labels = np.array(["train", "train", "valid", "valid", "test", "test"])
    exam = sessions(log, labels, CROP)
    # Item 3 is new to the validation part: dropped there, and hence unknown to the test part.
    assert asked(exam, "validation") == []
    assert exam.queries().candidates is not None
    assert np.flatnonzero(exam.queries().candidates).tolist() == [1, 2]


def test_sessions_that_end_last_validate() -> None:
    exam = sessions(SESSIONS, LABELS, CROP, validation_fraction=0.5)
    assert trained(exam) == [1, 2]
    assert asked(exam, "validation") == [([2], 1)]


def test_sessions_of_their_own_validation_keep_it() -> None:
    labels = np.array(["valid", "valid", "train", "train", *LABELS[4:]])
    assert trained(sessions(SESSIONS, labels, CROP, validation_fraction=0.5)) == [2, 1]


def test_sessions_without_a_test_part_are_refused() -> None:
    with pytest.raises(DatasetError, match="train, valid and test"):
        sessions(SESSIONS, np.array(["train"] * 8), CROP)


def test_sessions_with_another_label_are_refused() -> None:
    with pytest.raises(DatasetError, match="holdout"):
        sessions(SESSIONS, np.array(["train"] * 7 + ["holdout"]), CROP)


def test_each_period_but_the_first_is_tested_after_all_before_it() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 1, 3), (1, 0, 4), (2, 0, 5), (2, 1, 6)])
    first, second = periods(log, np.array(["0", "0", "1", "1", "2", "2"]), CROP)
    assert (first.name, trained(first), asked(first)) == ("period 1", [1, 2], [([2], 1)])
    assert (second.name, trained(second), asked(second)) == ("period 2", [1, 2, 2, 1], [([1], 2)])


def test_a_session_that_crosses_the_end_of_a_period_is_two() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (0, 0, 3), (0, 1, 4)])
    (exam,) = periods(log, np.array(["0", "0", "1", "1"]), CROP)
    assert asked(exam) == [([1], 2)]


def test_periods_drop_what_was_not_known_before_them() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 2, 4), (1, 1, 5), (2, 2, 6), (2, 0, 7)])
    first, second = periods(log, np.array(["0", "0", "1", "1", "1", "2", "2"]), CROP)
    assert asked(first) == [([1], 2)]
    assert asked(second) == [([3], 1)]


def test_periods_may_ask_for_what_was_not_known() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 2, 4), (1, 1, 5)])
    (exam,) = periods(log, np.array(["0", "0", "1", "1", "1"]), CROP, drop_unknown=False)
    assert asked(exam) == [([1], 0), ([1], 2)]


def test_periods_are_ordered_as_numbers() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)])
    (exam,) = periods(log, np.array(["9", "9", "10", "10"]), CROP)
    assert exam.name == "period 10"


def test_periods_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(DatasetError, match="whole numbers"):
        next(periods(HISTORY, np.array(["train"] * 5), CROP))


def test_a_log_of_one_period_is_refused() -> None:
    with pytest.raises(DatasetError, match="at least two"):
        next(periods(HISTORY, np.array(["0"] * 5), CROP))


TWO_USERS = make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3), (1, 0, 4), (1, 1, 5), (0, 0, 6), (1, 2, 7), (1, 0, 8)])
"""The newest quarter: user 1 has items 3 and 1; before it user 0 has item 1."""


def test_global_time_asks_for_every_step_of_the_test_part_from_all_before_it() -> None:
    exam = global_time(TWO_USERS, CROP, validation_fraction=0, test_fraction=0.25)
    assert trained(exam) == [1, 2, 3, 1, 2, 1]
    assert asked(exam) == [([1, 2], 3), ([1, 2, 3], 1)]


def test_global_time_may_ask_for_each_users_last_event_only() -> None:
    exam = global_time(TWO_USERS, CROP, validation_fraction=0, test_fraction=0.375, every_step=False)
    assert asked(exam) == [([1, 2, 3], 1), ([1, 2, 3], 1)]


def test_global_time_drops_unknown_items_or_asks_for_them_and_none_may_be_listed() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3), (0, 0, 4)])
    dropped = global_time(log, CROP, validation_fraction=0, test_fraction=0.5)
    assert asked(dropped) == [([1, 2], 1)]
    kept = global_time(log, CROP, validation_fraction=0, test_fraction=0.5, drop_unknown=False)
    assert asked(kept) == [([1, 2], 0), ([1, 2], 1)]
    assert kept.queries().candidates.tolist() == [False, True, True, False]


def test_counts_are_of_what_was_known_before_the_part() -> None:
    exam = leave_one_out(HISTORY, CROP)
    assert exam.queries("validation").item_counts.tolist() == [0, 1, 1, 1, 0, 0]
    assert exam.queries("test").item_counts.tolist() == [0, 1, 1, 1, 1, 0]


def test_newest_users_of_the_training_part_are_held_out_where_none_validate() -> None:
    """Of two training sessions the later one; what of it the other does not have goes."""
    log = make_log([(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 3, 4), (1, 1, 5), (2, 0, 6), (2, 1, 7)])
    exam = held_out(sessions(log, np.array(["train"] * 5 + ["test"] * 2), CROP), 0.5)
    assert trained(exam) == [1, 2]
    assert asked(exam, "validation") == [([1], 2)]
    assert not exam.split.test.any()


def test_what_is_held_out_keeps_new_items_where_it_is_told_to() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 3, 4), (1, 1, 5), (2, 0, 6), (2, 1, 7)])
    exam = sessions(log, np.array(["train"] * 5 + ["test"] * 2), CROP, drop_unknown=False)
    assert len(held_out(exam, 0.5, drop_unknown=False).queries("validation")) == 2


def test_an_exam_that_validates_is_left_as_it_is() -> None:
    exam = leave_one_out(HISTORY, CROP)
    assert held_out(exam, 0.5) is exam
