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


def test_items_are_known_by_their_hash_in_the_catalogue() -> None:
    """An item of another catalogue with the same id is another item."""
    popular = most_popular([{str(i): -float(i) for i in range(5)}], "films", 10)
    assert popular.item_ids == list("01234")
    assert popular.item_hashes == [item_hash(i, "films") for i in "01234"]
