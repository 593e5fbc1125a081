"""How a training run measures itself, against numbers worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.popularity import PopularityRetriever, decayed_counts
from encoders.window import WindowRule
from tests.logs import make_log
from trainer.evaluate import answer, ask, metrics
from trainer.evaluation.metrics import NOT_FOUND
from trainer.evaluation.queries import Queries
from trainer.interactions import Interactions

RULE = WindowRule(max_len=4)
POPULAR = PopularityRetriever(np.array([0, 5, 4, 3, 2, 1], dtype=np.float32))
"""Ranks items 1 to 5 in their order."""


class Recorder:
    """A retriever that answers as popularity does and keeps the windows it was asked."""

    def __init__(self) -> None:
        self.windows: list[list[int]] = []

    def retrieve(self, windows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        self.windows += windows.tolist()
        return POPULAR.retrieve(windows, k)


def questions(log: Interactions, is_target: list[bool] | None = None) -> Queries:
    marked = np.ones(len(log), dtype=bool) if is_target is None else np.array(is_target)
    return ask(log, RULE, log.item_codes + 1, marked)


def test_a_users_first_event_is_no_question() -> None:
    assert questions(make_log([(0, 0, 1), (1, 1, 2), (0, 2, 3)])).targets.tolist() == [2]


def test_an_item_that_the_user_had_before_is_no_question() -> None:
    assert questions(make_log([(0, 0, 1), (0, 1, 2), (0, 0, 3)])).targets.tolist() == [1]


def test_another_users_item_is_a_question() -> None:
    assert questions(make_log([(0, 0, 1), (1, 1, 2), (1, 0, 3)])).targets.tolist() == [2]


def test_the_window_is_the_one_before_the_event_and_holds_events_of_the_test_part() -> None:
    recorder = Recorder()
    log = make_log([(0, 0, 1), (0, 1, 2), (0, 2, 3)])
    answer(questions(log, [False, True, True]), recorder, n_items=5, k=2)
    assert recorder.windows == [[0, 0, 0, 1], [0, 0, 1, 2]]


def test_seen_items_are_left_out_of_the_list() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2), (0, 4, 3)])
    answers = answer(questions(log), POPULAR, n_items=5, k=3)
    # After item 1 the list is 2, 3, 4; after 1 and 2 it is 3, 4, 5.
    assert answers.ranks.tolist() == [0, 2]
    assert answers.coverage == pytest.approx(4 / 5)


def test_an_item_seen_only_later_is_not_left_out() -> None:
    log = make_log([(0, 4, 1), (0, 0, 2), (0, 1, 3)])
    assert answer(questions(log), POPULAR, n_items=5, k=1).ranks.tolist() == [0, 0]


def test_what_another_user_saw_is_not_left_out() -> None:
    log = make_log([(1, 0, 1), (1, 1, 2), (0, 4, 3), (0, 0, 4)])
    assert answer(questions(log, [False, False, False, True]), POPULAR, n_items=5, k=1).ranks.tolist() == [0]


def test_an_item_that_the_model_does_not_know_stays_a_question_and_is_missed() -> None:
    log = make_log([(0, 0, 1), (0, 1, 2)])
    asked = ask(log, RULE, np.array([1, 0]), np.ones(2, dtype=bool))
    assert answer(asked, POPULAR, n_items=5, k=5).ranks.tolist() == [NOT_FOUND]


def test_many_questions_are_answered_as_each_alone() -> None:
    rng = np.random.default_rng(0)
    log = make_log([(int(u), int(i), t) for t, (u, i) in enumerate(rng.integers(0, [6, 300], size=(1500, 2)))])
    popular = PopularityRetriever(rng.random(301, dtype=np.float32))
    ranked = popular.retrieve(np.zeros((1, 4), dtype=np.int64), 300)[0][0].tolist()
    asked = questions(log)
    seen: dict[int, set[int]] = {}
    expected = []
    for user, item in zip(log.user_codes.tolist(), log.item_codes.tolist(), strict=True):
        had = seen.setdefault(user, set())
        if had and item + 1 not in had:
            place = [i for i in ranked if i not in had].index(item + 1)
            expected.append(place if place < 10 else NOT_FOUND)
        had.add(item + 1)
    assert answer(asked, popular, n_items=300, k=10).ranks.tolist() == expected


def test_users_the_model_had_not_seen_are_reported_apart() -> None:
    log = make_log([(0, 0, 1), (1, 0, 2), (0, 1, 3), (1, 4, 4)])
    asked = questions(log)
    answers = answer(asked, POPULAR, n_items=5, k=1)
    figures = metrics(asked, answers, np.array([True, False]), 1)
    assert figures["recall@1"] == 0.5
    assert figures["recall@1_new_users"] == 0.0
    assert "recall@1_new_users" not in metrics(asked, answers, np.array([True, True]), 1)


def test_without_questions_there_are_no_figures() -> None:
    asked = questions(make_log([(0, 0, 1)]))
    assert metrics(asked, answer(asked, POPULAR, 5, 10), np.array([True]), 10) == {}


def test_decayed_counts_halve_with_each_half_life() -> None:
    times_s, weights = np.array([0.0, 60.0, 120.0, 120.0]), np.array([4.0, 1.0, 1.0, 1.0])
    counts = decayed_counts(np.array([1, 2, 2, 0]), times_s, weights, n_items=3, half_life_s=60.0)
    assert counts.tolist() == [0.0, 1.0, 1.5, 0.0]


def test_decayed_counts_of_nothing_are_zero() -> None:
    assert decayed_counts(np.zeros(0, dtype=np.int64), np.zeros(0), np.zeros(0), 2, 60.0).tolist() == [0, 0, 0]
