"""The exact index against all scores, sorted."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from hypothesis import example, given, settings
from hypothesis import strategies as st

from index.flat import FlatIndex
from index.overlay import Overlay
from index.protocol import Excluded, excluding

BLOCK_SCORES = 1 << 18
"""Scores that the index looks at together."""


class Asked(NamedTuple):
    """A catalogue and questions to it, in few numbers."""

    n_items: int
    n_queries: int
    k: int
    spread: int
    """Coordinates are whole numbers up to this, so that scores are exact, and the fewer the more of them equal."""
    seed: int

    @property
    def vectors(self) -> npt.NDArray[np.float32]:
        """Shape: ``(n_items + 1, 4)``."""
        return (
            np.random.default_rng(self.seed).integers(-self.spread, self.spread + 1, (self.n_items + 1, 4)).astype("f4")
        )

    @property
    def queries(self) -> npt.NDArray[np.float32]:
        """Shape: ``(n_queries, 4)``."""
        return np.random.default_rng(self.seed + 1).integers(-9, 10, (self.n_queries, 4)).astype("f4")


@st.composite
def asked(draw: st.DrawFn) -> Asked:
    """Few questions, or as many as fill a block and some more."""
    n_items = draw(st.integers(1, 300) | st.sampled_from([31, 32, 33, 63, 64, 65, 288, 289]))
    n_block = BLOCK_SCORES // n_items
    n_queries = draw(st.integers(0, 9) | st.sampled_from([n_block - 1, n_block, n_block + 1, 2 * n_block + 1]))
    k = draw(st.integers(1, 12) | st.integers(1, n_items + 5))
    return Asked(n_items, min(n_queries, 2000), k, draw(st.integers(0, 1000)), draw(st.integers(0, 2**30)))


def assert_best(
    scores: npt.NDArray[np.float32], allowed: npt.NDArray[np.bool_], found: tuple[np.ndarray, np.ndarray]
) -> None:
    """The answers are the best that are allowed; of equal scores any.

    Args:
        scores: Of all items. Shape: ``(B, n_items)``.
        allowed: Which of them may be found. Shape: ``(B, n_items)``.
        found: Item numbers and scores.
    """
    numbers, best = found
    n_queries, k = numbers.shape
    assert (len(scores), numbers.dtype, best.dtype) == (n_queries, np.int64, np.float32)
    expected = np.full((n_queries, k), -np.inf, dtype=np.float32)
    in_order = -np.sort(-np.where(allowed, scores, -np.inf), axis=1)[:, :k]
    expected[:, : in_order.shape[1]] = in_order
    np.testing.assert_array_equal(best, expected)
    np.testing.assert_array_equal(numbers == 0, expected == -np.inf)
    rows, places = np.nonzero(numbers)
    np.testing.assert_array_equal(scores[rows, numbers[rows, places] - 1], best[rows, places])
    assert allowed[rows, numbers[rows, places] - 1].all()
    assert len(np.unique(rows * (scores.shape[1] + 1) + numbers[rows, places])) == len(rows), "an item comes twice"


@given(asked())
@example(Asked(3, 2, 5, 9, 0))
@settings(max_examples=200)
def test_the_best_are_found_and_in_order(given_asked: Asked) -> None:
    vectors, queries = given_asked.vectors, given_asked.queries
    scores = queries @ vectors[1:].T
    found = FlatIndex.build(vectors).search(queries, given_asked.k)
    assert_best(scores, np.ones(scores.shape, dtype=np.bool_), found)


@given(asked(), st.floats(0, 1))
@settings(max_examples=100)
def test_the_best_of_what_is_left_are_found(given_asked: Asked, share: float) -> None:
    vectors, queries = given_asked.vectors, given_asked.queries
    removed = np.random.default_rng(given_asked.seed).random(given_asked.n_items + 1) < share
    scores = queries @ vectors[1:].T
    found = FlatIndex.build(vectors).without(removed).search(queries, given_asked.k)
    assert_best(scores, np.broadcast_to(~removed[1:], scores.shape), found)


@given(asked(), st.floats(0, 1), st.sampled_from([0.0, 0.0, 0.3, 1.0]))
@settings(max_examples=200)
def test_the_best_of_what_a_query_leaves_are_found(given_asked: Asked, share: float, removed_share: float) -> None:
    """Ranges may overlap, be empty, and hold 0 or an item twice; and items may have gone for all queries."""
    vectors, queries, n_items = given_asked.vectors, given_asked.queries, given_asked.n_items
    random = np.random.default_rng(given_asked.seed)
    removed = random.random(n_items + 1) < removed_share
    items = random.integers(0, n_items + 1, 2 * n_items + 1, dtype=np.int32)
    ranges = np.sort(random.integers(0, int(share * len(items)) + 1, (len(queries), 3, 2)), axis=2)
    allowed = np.tile(~removed[1:], (len(queries), 1))
    for b, places in enumerate(ranges):
        for first, end in places:
            gone = items[first:end]
            allowed[b, gone[gone > 0] - 1] = False
    index = FlatIndex.build(vectors)
    view = Overlay(index, removed)  # passes the question on, to what is left of the index where items have gone
    assert excluding(view) is view
    found = view.search_without(queries, given_asked.k, Excluded(items, ranges))
    assert_best(queries @ vectors[1:].T, allowed, found)
