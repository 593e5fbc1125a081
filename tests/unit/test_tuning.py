"""The windows that an index is tuned with are those after which nothing was learned."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.events import EVENT_TRAITS, EventType
from encoders.window import WindowRule
from tests.logs import make_log
from trainer.dataset import training_rows
from trainer.interactions import Interactions
from trainer.split import Split, split_by_time
from trainer.tuning import latest_windows

RULE = WindowRule(max_len=4)
N_USERS, N_EVENTS = 20, 180
IMPRESSION = EVENT_TRAITS[EventType.IMPRESSION].code


def windows(log: Interactions, split: Split, n: int = 100, rule: WindowRule = RULE) -> list[list[int]]:
    """Their item numbers without padding."""
    found = latest_windows(log, rule, log.item_codes + 1, split, n)
    return [[number for number in window if number] for window in found.tolist()]


def split_at(log: Interactions, n_train: int) -> Split:
    """The first events train, the others test."""
    trains = np.arange(len(log)) < n_train
    return Split(trains, np.zeros(len(log), dtype=bool), ~trains)


@pytest.mark.parametrize("rule", [RULE, WindowRule(max_len=4, session_gap_s=200)], ids=["no gap", "gap"])
def test_no_window_was_followed_by_anything_that_a_fit_learned(rule: WindowRule) -> None:
    """Of all that a refresh learns from the whole log; each event has its own item, so no two windows are alike."""
    random = np.random.default_rng(0)
    times = np.sort(random.integers(0, 3_000, N_EVENTS))
    users = random.integers(0, N_USERS, N_EVENTS)
    log = make_log(list(zip(users, range(N_EVENTS), times, strict=True)))
    split = split_by_time(log, 0.1, 0.2)
    rows = training_rows(log, rule, log.item_codes + 1, np.ones(len(log), dtype=bool))
    learned = {
        tuple(row[: place + 1][-rule.max_len :].tolist())
        for row, targets in zip(rows.inputs, rows.targets, strict=True)
        for place in np.flatnonzero(targets)
    }
    assert len(learned) > 100
    tuned_with = windows(log, split, rule=rule)
    assert len(tuned_with) > 10
    assert learned.isdisjoint(map(tuple, tuned_with))


def test_each_late_user_has_one_window_that_holds_the_newest_items() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2), (0, 2, 3), (2, 3, 4), (2, 4, 5), (0, 5, 6)])
    assert windows(log, split_at(log, 3)) == [[4, 5], [1, 3, 6]]


def test_where_nobody_came_late_all_users_have_their_part() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2), (0, 2, 3)])
    assert windows(log, split_at(log, 3)) == [[2], [1, 3]]


def test_a_window_that_nothing_has_entered_is_left_out() -> None:
    log = make_log([(0, 0, 1), (1, 1, 2, IMPRESSION), (0, 2, 3, IMPRESSION)])
    assert windows(log, split_at(log, 0)) == [[1]]


def test_no_more_windows_than_asked_for_and_spread_over_the_time() -> None:
    log = make_log([(user, user, user) for user in range(101)])
    assert windows(log, split_at(log, 0), n=3) == [[1], [51], [101]]
