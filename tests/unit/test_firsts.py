"""First rows of a user and an id, by hand and against sets."""

from __future__ import annotations

import numpy as np

from trainer.firsts import first_of_each


def test_an_item_is_new_until_the_users_second_event_of_it() -> None:
    users, items = np.array([0, 1, 0, 0, 0]), np.array([1, 1, 0, 1, 1])
    assert first_of_each(users, items).tolist() == [True, True, True, False, False]


def test_what_comes_first_is_what_the_order_says_and_rows_outside_of_it_do_not_count() -> None:
    users, ids = np.zeros(4, dtype=np.int32), np.array([9, 9, 9, 5])
    assert first_of_each(users, ids, np.array([3, 2, 1])).tolist() == [True, True, False]


def test_ids_of_64_bits_are_told_apart() -> None:
    ids = np.array([2**64 - 1, 2**63 - 1, 2**64 - 1], dtype=np.uint64)
    assert first_of_each(np.zeros(3, dtype=np.int32), ids).tolist() == [True, True, False]


def test_users_and_items_of_all_sizes_are_as_in_a_set() -> None:
    random, seen, expected = np.random.default_rng(0), set[tuple[int, int]](), []
    users, items = random.integers(0, 2 ** random.integers(1, 31, 5000)), random.integers(0, 30, 5000)
    for pair in zip(users.tolist(), items.tolist(), strict=True):
        expected.append(pair not in seen)
        seen.add(pair)
    found = first_of_each(users, items)
    assert not found.all()
    assert found.tolist() == expected


def test_nothing_has_no_first() -> None:
    assert len(first_of_each(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))) == 0
