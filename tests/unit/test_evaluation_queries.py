"""What models are asked."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.window import WindowRule
from tests.logs import make_log
from trainer.evaluation.queries import Crop, Excluded, Queries, UserOrder
from trainer.interactions import Interactions

LOG = make_log([(0, 0, 1), (1, 4, 2), (0, 1, 3), (0, 2, 4), (1, 0, 5), (0, 3, 6)])
"""User 0 has items 1, 2, 3, 4 (by number), user 1 has items 5 and 1."""
CROP = Crop(2)


def ask(
    log: Interactions = LOG, windows: Crop | WindowRule = CROP, excluded: Excluded = "none", unknown: int = -1
) -> Queries:
    numbers = np.where(log.item_codes + 1 == unknown, 0, log.item_codes + 1)
    counts = np.zeros(len(log.item_ids) + 1, dtype=np.int64)
    return Queries.of(log, numbers, np.ones(len(log), dtype=bool), counts, windows, excluded)


def excluded(queries: Queries) -> list[list[int]]:
    """For each query the items that may not be listed."""
    every = np.arange(len(queries))
    rows, items = queries.excluded_items(every, queries.windows(every))
    return [sorted(set(items[rows == row].tolist())) for row in every]


def test_a_users_first_event_is_no_query() -> None:
    assert ask().targets.tolist() == [2, 3, 4, 5]
    assert ask().users.tolist() == [0, 0, 1, 0]
    assert ask().target_items.tolist() == [2, 3, 1, 4]


def test_a_crop_holds_the_newest_events_before_the_target() -> None:
    assert ask().windows(np.arange(4)).tolist() == [[0, 1], [1, 2], [0, 5], [2, 3]]


def test_a_crop_as_long_as_the_history_holds_all_of_it() -> None:
    assert ask(windows=Crop(3)).windows(np.array([3])).tolist() == [[1, 2, 3]]


def test_windows_come_in_the_order_asked_for() -> None:
    assert ask().windows(np.array([3, 0])).tolist() == [[2, 3], [0, 1]]


def test_a_serving_window_restarts_where_a_crop_slides() -> None:
    log = make_log([(0, item, item) for item in range(6)])
    rule = WindowRule(max_len=4)
    assert ask(log, Crop(4)).windows(np.array([4])).tolist() == [[2, 3, 4, 5]]
    assert ask(log, rule).windows(np.array([4])).tolist() == [[0, 3, 4, 5]]


def test_an_unknown_item_is_a_hole_in_the_window_and_a_target_without_number() -> None:
    queries = ask(unknown=2)
    assert queries.windows(np.array([1])).tolist() == [[1, 0]]
    assert queries.target_items.tolist() == [0, 3, 1, 4]


@pytest.mark.parametrize(
    ("choice", "expected"),
    [
        ("none", [[], [], [], []]),
        ("last", [[1], [2], [5], [3]]),
        ("fed", [[1], [1, 2], [5], [2, 3]]),
        ("seen", [[1], [1, 2], [5], [1, 2, 3]]),
    ],
)
def test_what_may_not_be_listed(choice: Excluded, expected: list[list[int]]) -> None:
    assert excluded(ask(excluded=choice)) == expected


def test_an_unknown_item_is_not_excluded() -> None:
    assert excluded(ask(excluded="seen", unknown=1)) == [[], [2], [5], [2, 3]]


def test_the_last_of_a_part_is_the_users_newest_event_in_it() -> None:
    mask = np.array([True, True, True, True, False, False])
    assert np.flatnonzero(UserOrder.of(LOG.user_codes).is_last(mask)).tolist() == [1, 3]


def test_the_order_of_a_log_is_user_by_user() -> None:
    order = UserOrder.of(np.array([2, 0, 2, 0, 5]))
    assert order.by_user.tolist() == [1, 3, 0, 2, 4]
    assert order.place.tolist() == [2, 0, 3, 1, 4]
    assert order.first.tolist() == [2, 0, 2, 0, 4]
    assert order.n_before.tolist() == [0, 0, 1, 1, 0]


def test_a_log_without_events_has_no_queries() -> None:
    assert len(ask(make_log([]))) == 0
