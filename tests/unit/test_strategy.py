"""Filters over a batch of candidates."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from streams.strategy import Width, first_allowed, seen_mask

NOTHING: frozenset[int] = frozenset()


def window(*hashes: int) -> bytes:
    return struct.pack(f"<{len(hashes)}Q", *hashes)


def test_each_row_is_compared_with_its_own_user() -> None:
    candidates = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]], dtype=np.uint32)
    mask = seen_mask(candidates, [window(1), window(9), window(3, 2, 9)], [NOTHING, NOTHING, frozenset({1})])
    np.testing.assert_array_equal(mask, [[True, False, False], [False] * 3, [True] * 3])


def test_all_32_bits_count_and_no_more() -> None:
    top = 2**32 - 1
    candidates = np.array([[top, 0, 2**31]], dtype=np.uint32)
    np.testing.assert_array_equal(seen_mask(candidates, [window(2**64 - 1)], [NOTHING]), [[True, False, False]])
    np.testing.assert_array_equal(seen_mask(candidates, [window(7)], [frozenset({2**31})]), [[False, False, True]])


def test_an_item_whose_fingerprint_is_zero_is_like_any_other() -> None:
    """The rows of shorter windows are filled up with nothing of the kind."""
    mask = seen_mask(np.zeros((3, 1), dtype=np.uint32), [window(5), window(5, 6, 7), window(2**32)], [NOTHING] * 3)
    assert mask.ravel().tolist() == [False, False, True]


def test_no_rows_are_no_answer() -> None:
    assert seen_mask(np.ones((0, 3), dtype=np.uint32), [], []).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = rng.integers(0, 50, (150, 12), dtype=np.uint32)
    windows = [rng.integers(0, 50, rng.integers(1, 30)).tolist() for _ in candidates]
    seen = [frozenset(rng.integers(0, 50, rng.integers(0, 10)).tolist()) for _ in candidates]
    expected = [
        [value in held or value in left for value in line]
        for line, held, left in zip(candidates.tolist(), windows, seen, strict=True)
    ]
    np.testing.assert_array_equal(seen_mask(candidates, [window(*held) for held in windows], seen), expected)


def test_the_first_allowed_keep_their_order() -> None:
    allowed = np.array([[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    rows, columns = first_allowed(allowed, 2)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0)]


def test_nothing_is_kept_of_nothing() -> None:
    rows, columns = first_allowed(np.zeros((0, 4), dtype=bool), 3)
    assert len(rows) == len(columns) == 0


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
