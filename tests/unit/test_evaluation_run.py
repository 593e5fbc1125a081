"""Models asked the same queries."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.blend import Blend
from encoders.popularity import PopularityRetriever
from encoders.protocols import FloatArray, IntArray
from tests.logs import make_log
from tests.rankers import Fixed, Silent, full_scores
from trainer.evaluation.metrics import NOT_FOUND
from trainer.evaluation.queries import Crop, Excluded, Queries
from trainer.evaluation.run import (
    ANSWERS_AT_ONCE,
    QUERIES_AT_ONCE,
    Answers,
    Evaluation,
    Watch,
    allowed_lists,
    evaluate,
    exact_ranks,
    rank_all,
    rank_listed,
    ranks_in,
    timed,
)
from trainer.interactions import Interactions

N_ITEMS = 5
FALLING = np.array([0, 5, 4, 3, 2, 1], dtype=np.float32)
"""Scores that rank items 1 to 5 in their order."""


class Counting:
    """Popularity that keeps how many items it was asked for, and by how many at once."""

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.n_windows: list[int] = []

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        self.asked.append(k)
        self.n_windows.append(len(windows))
        return PopularityRetriever(FALLING).retrieve(windows, k)


class Scored:
    """The same scored items for every window."""

    def __init__(self, scores: dict[int, float]) -> None:
        self._scores = np.zeros(N_ITEMS + 1, dtype=np.float32)
        self._items = np.array(sorted(scores, key=lambda item: -scores[item]))
        self._scores[list(scores)] = list(scores.values())

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        items, scores = np.zeros((len(windows), k), dtype=np.int64), np.full((len(windows), k), -np.inf, np.float32)
        best = self._items[:k]
        items[:, : len(best)], scores[:, : len(best)] = best, self._scores[best]
        return items, scores


def ask(log: Interactions, excluded: Excluded = "seen", candidates: list[int] | None = None) -> Queries:
    may = None if candidates is None else np.isin(np.arange(N_ITEMS + 1), candidates)
    is_target, counts = np.ones(len(log), dtype=bool), np.zeros(N_ITEMS + 1, dtype=np.int64)
    return Queries.of(log, log.item_codes + 1, is_target, counts, Crop(4), excluded, may)


LOG = make_log([(0, 0, 1), (0, 2, 2), (0, 4, 3)])
"""Item 1, then 3 is asked for, then 5."""


def test_the_stopwatch_leaves_a_blend_what_its_members_scores_are() -> None:
    mixed = Blend([Counting(), Counting()], [1, 2], "probability", 7, logits=(True, False))
    under_watch = timed(mixed, Watch())
    assert isinstance(under_watch, Blend)
    assert (under_watch.fusion, under_watch.depth, under_watch.logits) == ("probability", 7, (True, False))
    assert under_watch.weights.tolist() == [1, 2]


def test_the_rank_counts_the_items_that_score_more() -> None:
    assert rank_all(ask(LOG, "none"), full_scores(FALLING), k=2).ranks.tolist() == [2, 4]


def test_items_that_may_not_be_listed_do_not_count() -> None:
    assert rank_all(ask(LOG, "seen"), full_scores(FALLING), k=2).ranks.tolist() == [1, 2]


def test_items_that_are_no_candidates_do_not_count_either() -> None:
    assert rank_all(ask(LOG, "seen", [1, 3, 5]), full_scores(FALLING), k=2).ranks.tolist() == [0, 0]


def test_of_equal_scores_the_lower_number_comes_first() -> None:
    assert rank_all(ask(LOG, "none"), full_scores(np.ones(6, dtype=np.float32)), k=2).ranks.tolist() == [2, 4]


def test_a_target_that_may_not_be_listed_is_not_found() -> None:
    again = make_log([(0, 0, 1), (0, 1, 2), (0, 0, 3)])
    for model in (full_scores(FALLING), PopularityRetriever(FALLING)):
        ranks = evaluate({"model": model}, ask(again), Silent(), k=5).answers["model"].ranks
        assert ranks.tolist() == [0, NOT_FOUND]


def test_a_target_without_a_number_is_not_found() -> None:
    assert exact_ranks(np.array([[-np.inf, 1, 2]]), np.array([0])).tolist() == [NOT_FOUND]
    assert ranks_in(np.array([[1, 0]]), np.array([0])).tolist() == [NOT_FOUND]


def test_padding_is_never_listed_however_it_scores() -> None:
    highest_padding = np.array([9, 5, 4, 3, 2, 1], dtype=np.float32)
    assert rank_all(ask(LOG, "none"), full_scores(highest_padding), k=3).lists.tolist() == [[1, 2, 3], [1, 2, 3]]


def test_lists_hold_the_best_that_may_be_listed_and_then_padding() -> None:
    for model in (full_scores(FALLING), PopularityRetriever(FALLING)):
        lists = evaluate({"model": model}, ask(LOG), Silent(), k=5).answers["model"].lists
        assert lists.tolist() == [[2, 3, 4, 5, 0], [2, 4, 5, 0, 0]]


def test_lists_longer_than_the_catalogue_end_in_padding() -> None:
    assert rank_all(ask(LOG, "none"), full_scores(FALLING), k=7).lists[0].tolist() == [1, 2, 3, 4, 5, 0, 0]


def test_scores_that_are_no_numbers_are_refused() -> None:
    """Nothing is greater than NaN, so its target would be ranked first."""
    broken = FALLING.copy()
    broken[3] = np.nan
    with pytest.raises(ValueError, match="no numbers"):
        rank_all(ask(LOG), full_scores(broken), k=2)


def test_item_vectors_of_another_catalogue_are_refused() -> None:
    with pytest.raises(ValueError, match="4 item vectors for 5 items"):
        rank_all(ask(LOG), full_scores(FALLING[:-1]), k=2)


def test_a_retriever_is_asked_for_more_until_the_list_is_full() -> None:
    model = Counting()
    lists, scores = allowed_lists(ask(LOG, "none", candidates=[4, 5]), np.array([0]), model, N_ITEMS, k=2)
    assert (lists.tolist(), scores.tolist()) == ([[4, 5]], [[2, 1]])
    assert model.asked == [2, 4, 5]


def test_a_retriever_is_asked_once_where_what_is_left_out_is_known() -> None:
    model = Counting()
    allowed_lists(ask(LOG, "seen"), np.array([0, 1]), model, N_ITEMS, k=2)
    assert model.asked == [4]


def test_users_of_long_histories_are_asked_about_a_few_at_a_time() -> None:
    """Each is asked about once, and what a batch leaves out stays within bounds."""
    n_events, model = 6_000, Counting()
    log = make_log([(0, event % N_ITEMS, event) for event in range(n_events)])
    answers = rank_listed(ask(log, "last"), model, N_ITEMS, k=1)
    assert model.n_windows[0] == QUERIES_AT_ONCE
    assert model.n_windows[-2] <= ANSWERS_AT_ONCE // (n_events - QUERIES_AT_ONCE) < QUERIES_AT_ONCE / 2
    assert sum(model.n_windows) == n_events - 1
    assert answers.lists[:, 0].tolist() == [2 if event % N_ITEMS == 0 else 1 for event in range(n_events - 1)]


def test_a_retriever_that_has_no_more_is_not_asked_again() -> None:
    answers = rank_listed(ask(LOG), Fixed(2, 1), N_ITEMS, k=3)
    assert answers.lists.tolist() == [[2, 0, 0], [2, 0, 0]]
    assert answers.ranks.tolist() == [NOT_FOUND, NOT_FOUND]


def test_each_model_gets_the_same_queries_and_says_how_far_it_is() -> None:
    report = Silent()
    evaluation = evaluate({"a": full_scores(FALLING), "b": Fixed(2, 1)}, ask(LOG), report)
    assert list(evaluation.answers) == ["a", "b"]
    assert evaluation.users.tolist() == [0, 0]
    assert report.told == [("evaluating a", 2, 2), ("evaluating b", 2, 2)]


def test_some_of_the_queries_cost_their_share() -> None:
    whole = Evaluation(
        np.array([3, 4, 5, 6]), np.zeros(2), {"m": Answers(np.arange(4), np.arange(8).reshape(4, 2), 2.0, 1.0)}
    )
    some = whole.where(np.array([True, False, False, True]))
    answers = some.answers["m"]
    assert (some.users.tolist(), answers.ranks.tolist(), answers.lists.tolist()) == ([3, 6], [0, 3], [[0, 1], [6, 7]])
    assert (answers.seconds, answers.learning_seconds) == (1.0, 0.5)


def test_what_may_not_be_listed_is_struck_out_of_a_blend_s_members_before_they_are_fused() -> None:
    """Item 1 was seen. Left in, its 100 would make 2 and 3 of the first member worth next to nothing."""
    first, second = Scored({1: 100, 2: 2, 3: 1, 4: 0}), Scored({3: 4, 5: 3, 4: 2})
    both = Blend([first, second], weights=[0.6, 0.4], fusion="score")
    lists, scores = allowed_lists(ask(LOG, "seen"), np.array([0]), both, N_ITEMS, k=3)
    # Of the first, what is left is worth 1, .5 and 0 times .6; of the second 1, .5 and 0 times .4.
    assert lists.tolist() == [[3, 2, 5]]
    np.testing.assert_allclose(scores, [[0.7, 0.6, 0.2]], rtol=1e-6)


def test_a_blend_s_lists_do_not_depend_on_who_is_asked_beside() -> None:
    both = Blend([Scored({1: 100, 2: 2, 3: 1, 4: 0}), Scored({3: 4, 5: 3, 4: 2})], fusion="score", depth=3)
    alone, _ = allowed_lists(ask(LOG, "seen"), np.array([0]), both, N_ITEMS, k=2)
    beside, _ = allowed_lists(ask(LOG, "seen"), np.array([0, 1]), both, N_ITEMS, k=2)
    assert alone[0].tolist() == beside[0].tolist()
