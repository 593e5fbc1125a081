"""Filters over a batch of candidates, and what is popular behind them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from streams.columns import ends_of
from streams.lists import Lists
from streams.strategy import WIDEST, Passed, Popular, Width, choose, fill

FINGERPRINTS = np.array([0, 10, 20, 30, 40, 50], dtype=np.uint32)
"""Of item numbers 0 to 5."""


def passed(windows: Sequence[Sequence[int]], seen: Sequence[Sequence[int]] | None = None) -> Passed:
    """What the users have in their windows, and what has left them."""
    columns: list[np.ndarray] = []
    for held in (windows, seen or [()] * len(windows)):
        ends = ends_of([len(each) for each in held])
        columns += [np.array([f for each in held for f in each], dtype=np.uint32), ends[:-1], ends[1:]]
    return Passed(*columns)


def chosen(
    candidates: Sequence[Sequence[int]],
    come_by: Passed,
    top_n: int = 3,
    fingerprints: np.ndarray = FINGERPRINTS,
    rows: Sequence[int] | None = None,
) -> list[list[int]]:
    """The item numbers that are listed; scores fall from 0 by 1."""
    numbers = np.array(candidates, dtype=np.int64).reshape(len(candidates), len(candidates[0]) if candidates else 3)
    scores = np.tile(-np.arange(numbers.shape[1], dtype=np.float32), (len(numbers), 1))
    lists = Lists.empty(len(come_by.window_first_B), top_n)
    places = np.array(range(len(numbers)) if rows is None else rows, dtype=np.int64)
    choose(places, numbers, scores, fingerprints, come_by, lists)
    return read(lists)


def read(lists: Lists) -> list[list[int]]:
    return [items[:n].tolist() for items, n in zip(lists.items_BN, lists.lengths_B, strict=True)]


# --- what the model finds


def test_each_row_is_compared_with_its_own_user() -> None:
    come_by = passed([[10], [99], [30, 20, 99]], [[], [], [10]])
    assert chosen([[1, 2, 3]] * 3, come_by) == [[2, 3], [1, 2, 3], []]


def test_all_32_bits_count_and_no_more() -> None:
    top = 2**32 - 1
    fingerprints = np.array([0, top, 0, 2**31], dtype=np.uint32)
    assert chosen([[1, 2, 3]], passed([[top]]), fingerprints=fingerprints) == [[2, 3]]
    assert chosen([[1, 2, 3]], passed([[7]], [[2**31]]), fingerprints=fingerprints) == [[1, 2]]


def test_an_item_whose_fingerprint_is_zero_is_like_any_other() -> None:
    fingerprints = np.zeros(2, dtype=np.uint32)
    assert chosen([[1]] * 3, passed([[5], [5, 6, 7], [0]]), fingerprints=fingerprints) == [[1], [1], []]


def test_no_rows_are_no_answer() -> None:
    assert chosen([], passed([])) == []


def test_padding_is_no_candidate_even_where_its_fingerprint_is_new() -> None:
    assert chosen([[2, 0, 0]], passed([[10]])) == [[2]]


def test_the_first_allowed_keep_their_order_and_their_scores() -> None:
    lists = Lists.empty(1, 2)
    scores = np.array([[0.5, 0.25, 0.125, -1]], dtype=np.float32)
    choose(np.array([0]), np.array([[4, 1, 3, 2]]), scores, FINGERPRINTS, passed([[40]]), lists)
    assert read(lists) == [[1, 3]]
    assert lists.scores_BN.tolist() == [[0.25, 0.125]]


def test_rows_that_were_not_looked_for_stay_as_they_are() -> None:
    assert chosen([[1, 2]], passed([[], [10], []]), rows=[1]) == [[], [2], []]


def test_a_row_that_is_looked_for_again_is_chosen_anew() -> None:
    lists, come_by = Lists.empty(1, 3), passed([[10]])
    for candidates in ([[1, 2]], [[1, 2, 3, 4, 5]]):
        numbers = np.array(candidates)
        choose(np.array([0]), numbers, np.zeros(numbers.shape, dtype=np.float32), FINGERPRINTS, come_by, lists)
    assert read(lists) == [[2, 3, 4]]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    fingerprints = rng.permutation(60).astype(np.uint32)
    candidates = [rng.permutation(np.arange(1, 50))[:12].tolist() for _ in range(150)]
    windows = [rng.integers(0, 50, rng.integers(1, 30)).tolist() for _ in candidates]
    seen = [rng.integers(0, 50, rng.integers(0, 10)).tolist() for _ in candidates]
    expected = [
        [number for number in line if fingerprints[number] not in held and fingerprints[number] not in left][:5]
        for line, held, left in zip(candidates, windows, seen, strict=True)
    ]
    assert chosen(candidates, passed(windows, seen), 5, fingerprints) == expected


# --- what is popular


def filled(
    popular: Sequence[int],
    come_by: Passed,
    top_n: int,
    withheld: Sequence[int] = (),
    lists: Lists | None = None,
    catalogues: Sequence[tuple[int, int]] | None = None,
) -> list[list[int]]:
    """Lists after they were completed; popular items have the given fingerprints, and scores 1, 1/2, 1/3, …"""
    n_lists = len(come_by.window_first_B)
    lists = lists or Lists.empty(n_lists, top_n)
    items = Popular(
        np.array(popular, dtype=np.uint32),
        1 / np.arange(1, len(popular) + 1),
        np.array([item not in withheld for item in popular], dtype=np.bool_),
    )
    ends = np.array(catalogues or [(0, len(popular))] * n_lists, dtype=np.int64).reshape(-1, 2)
    fill(items, ends[:, 0].copy(), ends[:, 1].copy(), FINGERPRINTS, come_by, lists)
    return read(lists)


def test_what_is_popular_comes_in_its_order_and_is_no_longer_than_asked() -> None:
    """A popular item is listed as ``-1 - place``."""
    lists = Lists.empty(1, 2)
    assert filled([10, 20, 30, 40, 50], passed([[]]), 2, lists=lists) == [[-1, -2]]
    assert lists.scores_BN.tolist() == [[1.0, 0.5]]


def test_items_that_may_not_be_listed_are_passed_over() -> None:
    assert filled([10, 20, 30, 40, 50], passed([[]]), 3, withheld=[10, 30]) == [[-2, -4, -5]]


def test_items_that_a_user_has_come_by_are_passed_over() -> None:
    assert filled([10, 20, 30, 40], passed([[10], []], [[], [30, 20]]), 3) == [[-2, -3, -4], [-1, -4]]


def test_a_list_is_short_where_there_are_no_more() -> None:
    assert filled([10, 20], passed([[]]), 9) == [[-1, -2]]
    assert filled([], passed([[]]), 9) == [[]]


def test_each_list_is_completed_from_its_own_catalogue() -> None:
    """One whose catalogue has nothing popular begins behind its end."""
    come_by = passed([[], [], []])
    assert filled([10, 20, 30], come_by, 3, catalogues=[(0, 1), (1, 3), (3, 0)]) == [[-1], [-2, -3], []]


def test_what_the_model_has_listed_stays_and_is_not_listed_again() -> None:
    lists = Lists.empty(2, 3)
    lists.items_BN[0, 0], lists.scores_BN[0, 0], lists.lengths_B[0] = 2, 0.75, 1
    lists.items_BN[1], lists.lengths_B[1] = [1, 2, 3], 3
    assert filled([20, 10, 30, 40], passed([[10], []]), 3, lists=lists) == [[2, -3, -4], [1, 2, 3]]
    assert lists.scores_BN[0, 0] == 0.75


# --- how wide the first search is


def test_the_first_search_widens_while_many_lists_come_out_short_and_narrows_while_few_do() -> None:
    width = Width()
    first = width.candidates(10)
    assert first >= 10
    for _ in range(20):
        width.learn(100, 20)
    wide = width.candidates(10)
    assert first < wide
    width.learn(100, 5)
    assert width.candidates(10) == wide
    for _ in range(500):
        width.learn(100, 0)
    assert 10 <= width.candidates(10) < first
    for _ in range(500):
        width.learn(100, 100)
    assert width.candidates(10) <= 170


def test_the_first_search_of_who_is_better_asked_once_is_wide_from_the_beginning_and_stays_so() -> None:
    width = Width(least=WIDEST)
    first = width.candidates(10)
    assert first >= 160
    for n_short in (0, 100):
        for _ in range(50):
            width.learn(100, n_short)
        assert width.candidates(10) == first
