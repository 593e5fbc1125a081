"""Items added and removed since an index was built, for every kind of index."""

from __future__ import annotations

import time

import numpy as np
import pytest

from index.build import KINDS, build_index
from index.overlay import Overlay
from index.protocol import Excluded, VectorIndex, excluding
from index.recall import ExactAnswers
from tests.vectors import catalogue

N_BASE, N_ADDED, DIM = 3000, 500, 16


class Compacted:
    """An overlay as a rebuild would number its items."""

    def __init__(self, overlay: Overlay, removed: np.ndarray) -> None:
        self._overlay = overlay
        self._new_numbers = np.cumsum(~removed) - 1
        self._removed = removed

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        numbers, scores = self._overlay.search(queries, k)
        assert (numbers > 0).all(), "every list is full"
        assert not self._removed[numbers].any()
        return self._new_numbers[numbers], scores


def recall(overlay: Overlay, vectors: np.ndarray, removed: np.ndarray, queries: np.ndarray, k: int = 10) -> float:
    """Against exact search over what a rebuild would hold."""
    return ExactAnswers(vectors[~removed], queries, k).recall_of(Compacted(overlay, removed))


def best_scoring(vectors: np.ndarray, queries: np.ndarray, n: int) -> np.ndarray:
    """The ``n`` items that score best with any of the queries."""
    removed = np.zeros(len(vectors), dtype=bool)
    removed[1 + np.argsort(-(vectors[1:] @ queries.T).max(axis=1))[:n]] = True
    return removed


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return catalogue(N_BASE + N_ADDED, 200, DIM)[0]


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return catalogue(N_BASE + N_ADDED, 200, DIM)[1]


@pytest.fixture(scope="module", params=KINDS)
def base(request: pytest.FixtureRequest, vectors: np.ndarray, queries: np.ndarray) -> VectorIndex:
    return build_index(vectors[: N_BASE + 1], queries, kind=request.param).index


def nothing(n: int = N_BASE + N_ADDED) -> np.ndarray:
    return np.zeros(n + 1, dtype=bool)


def test_without_changes_it_answers_as_its_base(base: VectorIndex, queries: np.ndarray) -> None:
    for overlay in (Overlay(base), Overlay(base, nothing(N_BASE), np.zeros((0, DIM), dtype=np.float32))):
        for found, expected in zip(overlay.search(queries, 10), base.search(queries, 10), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_additions_are_found_under_the_numbers_after_the_base(
    base: VectorIndex, vectors: np.ndarray, queries: np.ndarray
) -> None:
    overlay = Overlay(base, added=vectors[N_BASE + 1 :])
    assert overlay.n_items == N_BASE + N_ADDED
    assert recall(overlay, vectors, nothing(), queries) >= 0.95
    unbeatable = 100 * queries[:3] / np.linalg.norm(queries[:3], axis=1, keepdims=True)
    assert (Overlay(base, added=unbeatable).search(queries[:3], 10)[0][:, 0] > N_BASE).all()


def test_the_best_scoring_items_may_go(base: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    removed = best_scoring(vectors, queries, 500)
    assert recall(Overlay(base, removed, vectors[N_BASE + 1 :]), vectors, removed, queries) >= 0.95


def test_scores_are_inner_products_best_first(base: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    items, scores = Overlay(base, best_scoring(vectors, queries, 50), vectors[N_BASE + 1 :]).search(queries, 20)
    lengths = np.linalg.norm(vectors[items], axis=2) * np.linalg.norm(queries, axis=1)[:, None]
    assert (np.abs(scores - np.einsum("bkd,bd->bk", vectors[items], queries)) <= 0.01 * lengths).all()
    assert (np.diff(scores, axis=1) <= 0).all()


def test_lists_are_full_as_long_as_there_are_items(base: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    removed = ~nothing()
    removed[[7, 70, N_BASE + 1, N_BASE + N_ADDED]] = False
    items, scores = Overlay(base, removed, vectors[N_BASE + 1 :]).search(queries, 6)
    assert (np.sort(items[:, :4]) == [7, 70, N_BASE + 1, N_BASE + N_ADDED]).all()
    assert (items[:, 4:] == 0).all()
    assert (scores[:, 4:] == -np.inf).all()


def test_all_items_may_go(base: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
    assert (Overlay(base, ~nothing(), vectors[N_BASE + 1 :]).search(queries, 6)[0] == 0).all()


def test_what_was_removed_later_changes_no_earlier_overlay(
    base: VectorIndex, vectors: np.ndarray, queries: np.ndarray
) -> None:
    removed = best_scoring(vectors, queries, 50)
    overlay = Overlay(base, removed, vectors[N_BASE + 1 :])
    before = overlay.search(queries, 10)[0]
    removed[before] = True
    np.testing.assert_array_equal(overlay.search(queries, 10)[0], before)


def test_padding_cannot_be_removed(base: VectorIndex, queries: np.ndarray) -> None:
    removed = nothing(N_BASE)
    removed[0] = True
    np.testing.assert_array_equal(Overlay(base, removed).search(queries, 10)[0], base.search(queries, 10)[0])


def test_it_excludes_where_its_base_does_and_nothing_was_added(base: VectorIndex, vectors: np.ndarray) -> None:
    base_excludes = excluding(base) is not None
    for overlay in (Overlay(base), Overlay(base, best_scoring(vectors[: N_BASE + 1], vectors[1:3], 5))):
        assert overlay.excludes == base_excludes
    all_additions_gone = np.arange(N_BASE + N_ADDED + 1) > N_BASE
    assert Overlay(base, all_additions_gone, vectors[N_BASE + 1 :]).excludes == base_excludes
    with_additions = Overlay(base, added=vectors[N_BASE + 1 :])
    assert not with_additions.excludes
    with pytest.raises(TypeError, match="additions"):
        with_additions.search_without(vectors[1:2], 3, Excluded(np.zeros(0, "i4"), np.zeros((1, 1, 2), "i8")))


def test_what_does_not_fit_the_base_is_refused(base: VectorIndex) -> None:
    with pytest.raises(ValueError, match="16 dimensions"):
        Overlay(base, added=np.zeros((3, DIM + 1), dtype=np.float32))
    with pytest.raises(ValueError, match="3001 items"):
        Overlay(base, nothing(N_BASE), np.zeros((1, DIM), dtype=np.float32))


@pytest.mark.parametrize(
    ("kind", "n_base"),
    [("flat", 200_000), ("ivf_sq8", 200_000), ("ivf_flat", 200_000), ("hnsw", 4_000)],  # a graph takes long
)
def test_a_hundred_thousand_additions_and_the_ten_thousand_best_removed(kind: str, n_base: int) -> None:
    """As good as a rebuild, without one."""
    n_added = 100_000
    vectors, queries = catalogue(n_base + n_added, 1200, 32)
    queries, held_out = queries[:200], queries[200:]
    base = build_index(vectors[: n_base + 1], held_out, kind=kind).index
    removed = best_scoring(vectors, queries, 10_000)
    assert removed[: n_base + 1].sum() > 10_000 * n_base / (n_base + n_added) * 0.75
    began_s = time.process_time()
    overlay = Overlay(base, removed, vectors[n_base + 1 :])
    assert time.process_time() - began_s < 0.2
    assert recall(overlay, vectors, removed, queries) >= 0.95


def test_the_best_of_one_query_may_go_where_vectors_are_whole() -> None:
    """Its next best are everywhere; a byte a dimension could not tell them apart."""
    vectors, queries = catalogue(30_000, 1000, 32)
    base = build_index(vectors, queries[1:], kind="ivf_flat").index
    removed = best_scoring(vectors, queries[:1], 3000)
    assert recall(Overlay(base, removed), vectors, removed, queries[:1]) >= 0.9
