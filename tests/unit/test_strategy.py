"""Filters over a batch of candidates."""

from __future__ import annotations

import numpy as np
import pytest

from streams.strategy import first_allowed, seen_mask


def test_each_row_is_compared_with_its_own_user() -> None:
    candidates = np.array([[1, 2, 3], [1, 2, 3], [1, 2, 3]], dtype=np.uint32)
    mask = seen_mask(candidates, [[1], [], [3, 2, 9]])
    np.testing.assert_array_equal(mask, [[True, False, False], [False] * 3, [False, True, True]])


def test_all_32_bits_count() -> None:
    top = 2**32 - 1
    candidates = np.array([[top, 0, 2**31]], dtype=np.uint32)
    np.testing.assert_array_equal(seen_mask(candidates, [[top]]), [[True, False, False]])


def test_a_fingerprint_of_the_next_row_is_no_neighbour() -> None:
    """Row and fingerprint share one 64-bit number; neither may spill into the other."""
    candidates = np.array([[0], [2**32 - 1], [0]], dtype=np.uint32)
    assert not seen_mask(candidates, [[2**32 - 1], [0], [1]]).any()


def test_nobody_has_seen_anything() -> None:
    assert not seen_mask(np.ones((2, 3), dtype=np.uint32), [[], []]).any()
    assert seen_mask(np.ones((0, 3), dtype=np.uint32), []).shape == (0, 3)


@pytest.mark.parametrize("seed", range(3))
def test_it_is_what_a_loop_finds(seed: int) -> None:
    rng = np.random.default_rng(seed)
    candidates = rng.integers(0, 50, (20, 12), dtype=np.uint32)
    seen = [rng.integers(0, 50, rng.integers(0, 30)).tolist() for _ in range(20)]
    expected = [[value in row for value in line] for line, row in zip(candidates.tolist(), seen, strict=True)]
    np.testing.assert_array_equal(seen_mask(candidates, seen), expected)


def test_the_first_allowed_keep_their_order() -> None:
    allowed = np.array([[0, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], dtype=bool)
    rows, columns = first_allowed(allowed, 2)
    assert list(zip(rows.tolist(), columns.tolist(), strict=True)) == [(0, 1), (0, 2), (1, 0)]


def test_nothing_is_kept_of_nothing() -> None:
    rows, columns = first_allowed(np.zeros((0, 4), dtype=bool), 3)
    assert len(rows) == len(columns) == 0
