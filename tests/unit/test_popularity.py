"""Decayed counts in logarithms, and the most popular items."""

from __future__ import annotations

from datetime import timedelta
from math import exp2, log2

import pytest

from encoders.vocabulary import item_hash
from streams.popularity import PopularItems, log2_add, log2_count, most_popular

DAY = timedelta(days=1)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (1.0, 3.5), (-4.0, 2.0), (10.0, -10.0)])
def test_the_sum_of_two_logarithms(a: float, b: float) -> None:
    assert log2_add(a, b) == pytest.approx(log2(exp2(a) + exp2(b)))
    assert log2_add(a, b) == log2_add(b, a)


@pytest.mark.parametrize(("a", "b"), [(20_000.0, 20_000.0), (1e9, 1e9), (-20_000.0, -20_000.0)])
def test_it_neither_overflows_nor_underflows(a: float, b: float) -> None:
    assert log2_add(a, b) == pytest.approx(a + 1)


def test_a_count_so_much_smaller_adds_nothing() -> None:
    assert log2_add(5000.0, 0.0) == 5000.0


def test_one_half_life_later_an_event_counts_twice_as_much() -> None:
    assert log2_count(1.0, 86_400.0, DAY) - log2_count(1.0, 0.0, DAY) == 1.0
    assert log2_count(2.0, 0.0, DAY) == 1.0


def test_recent_beats_old_exactly_when_the_decayed_sum_is_larger() -> None:
    """Three clicks two half-lives ago weigh 3/4 of one click now."""
    old = log2_add(log2_add(log2_count(1, 0, DAY), log2_count(1, 0, DAY)), log2_count(1, 0, DAY))
    popular = most_popular([{"old": old, "new": log2_count(1, 2 * 86_400, DAY)}], "default", 10)
    assert popular.item_ids == ["new", "old"]
    assert popular.scores == pytest.approx([1.0, 0.75])


def test_counts_of_partitions_add_up() -> None:
    popular = most_popular([{"a": 1.0, "b": 1.5}, {"a": 1.0}], "default", 10)
    assert popular.item_ids == ["a", "b"]
    assert popular.scores[0] == 1.0


def test_ties_are_broken_by_id_whatever_the_order_of_partitions() -> None:
    one, other = {"c": 1.0, "a": 1.0}, {"b": 1.0}
    assert most_popular([one, other], "x", 3) == most_popular([other, one], "x", 3)
    assert most_popular([one, other], "x", 3).item_ids == ["a", "b", "c"]


def test_only_so_many_are_kept() -> None:
    assert most_popular([{str(i): float(i) for i in range(9)}], "default", 2).item_ids == ["8", "7"]


def test_where_nothing_was_counted_nothing_is_popular() -> None:
    assert most_popular([], "default", 5) == most_popular([{}], "default", 5) == PopularItems()
    assert PopularItems().top(5, all_of_them) == []


def all_of_them(identity: int) -> bool:
    return True


@pytest.fixture
def popular() -> PopularItems:
    return most_popular([{str(i): -float(i) for i in range(5)}], "films", 10)


def test_the_top_is_in_order_and_no_longer_than_asked(popular: PopularItems) -> None:
    assert [i for i, _ in popular.top(2, all_of_them)] == ["0", "1"]
    assert popular.top(0, all_of_them) == []


def test_items_that_may_not_be_listed_are_passed_over(popular: PopularItems) -> None:
    withheld = {item_hash("0", "films"), item_hash("2", "films")}
    assert [i for i, _ in popular.top(3, lambda identity: identity not in withheld)] == ["1", "3", "4"]


def test_an_item_of_another_catalogue_with_the_same_id_is_another_item(popular: PopularItems) -> None:
    assert popular.top(1, lambda identity: identity != item_hash("0", "books"))[0][0] == "0"


def test_a_list_is_short_where_there_are_no_more(popular: PopularItems) -> None:
    assert len(popular.top(9, all_of_them)) == 5
