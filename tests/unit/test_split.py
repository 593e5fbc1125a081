"""The split by global time."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tests.logs import make_log
from trainer.split import Split, split_by_time


def parts(split: Split) -> str:
    """One letter an event: t for train, v for validation, T for test."""
    columns = zip(split.train, split.validation, split.test, strict=True)
    return "".join("tvT"[list(column).index(True)] for column in columns)


def test_the_newest_test_and_those_before_them_validate() -> None:
    log = make_log([(i % 3, 0, i) for i in range(10)])
    assert parts(split_by_time(log, 0.2, 0.3)) == "tttttvvTTT"


def test_events_of_one_moment_are_not_torn_apart() -> None:
    log = make_log([(i, 0, t) for i, t in enumerate([1, 2, 3, 4, 5, 9, 9, 9, 9, 9])])
    assert parts(split_by_time(log, 0.1, 0.2)) == "tttttTTTTT"


def test_nothing_is_left_to_train_on_where_all_happens_at_once() -> None:
    assert parts(split_by_time(make_log([(i, 0, 7) for i in range(4)]), 0.25, 0.25)) == "TTTT"


def test_a_time_that_runs_backwards_counts_as_the_latest_before_it() -> None:
    log = make_log([(0, 0, 1), (0, 1, 100), (0, 2, 2), *((1, 0, t) for t in range(1, 8))])
    assert parts(split_by_time(log, 0.0, 0.2))[:3] == "tTT"


def test_zero_fractions_leave_everything_to_training() -> None:
    assert parts(split_by_time(make_log([(0, 0, t) for t in range(5)]), 0.0, 0.0)) == "ttttt"


def test_an_empty_log_splits_into_empty_parts() -> None:
    assert parts(split_by_time(make_log([]), 0.1, 0.1)) == ""


ROWS = st.lists(st.tuples(st.integers(0, 3), st.just(0), st.integers(0, 30)), min_size=1)


@given(ROWS, st.floats(0, 0.4), st.floats(0, 0.4))
def test_each_event_is_in_one_part_and_no_user_goes_back(rows, validation: float, test: float) -> None:
    log = make_log(rows)
    split = split_by_time(log, validation, test)
    assert (split.train.astype(int) + split.validation + split.test == 1).all()
    order = split.validation + 2 * split.test.astype(int)
    for user in range(4):
        assert (np.diff(order[log.user_codes == user]) >= 0).all()
