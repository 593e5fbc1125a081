"""Choosing and tuning an index, and measuring what it finds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from index import build
from index.build import KINDS, build_index, load_index
from index.errors import VectorIndexError
from index.flat import FlatIndex
from index.ivf import n_lists
from index.protocol import TunableIndex
from index.recall import ExactAnswers, recall_at_k
from tests.vectors import catalogue


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return catalogue(10_000, 400, 64)[0]


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return catalogue(10_000, 400, 64)[1]


@pytest.mark.parametrize("n_items", [1, 50, 3416])
def test_a_small_catalogue_is_searched_exactly(n_items: int) -> None:
    built = build_index(*catalogue(n_items, 20, 64))
    assert (built.index.kind, built.index.params, built.recall) == ("flat", {}, 1.0)
    assert built.k == min(10, n_items)


def test_a_large_catalogue_is_searched_by_compressed_lists(vectors: np.ndarray, queries: np.ndarray) -> None:
    built = build_index(vectors, queries)
    assert built.index.kind == "ivf_sq8"
    assert built.index.params == {"nlist": n_lists(10_000), "nprobe": built.index.params["nprobe"]}
    assert built.recall == recall_at_k(built.index, vectors, queries, 10) >= 0.95
    assert built.seconds > 0


@pytest.mark.parametrize(
    ("kind", "least"),
    [("ivf_flat", 1), ("ivf_sq8", 1), ("hnsw", 10)],  # a graph looks at no fewer candidates than it is asked for
)
def test_the_effort_is_the_smallest_that_reaches_the_target(
    kind: str, least: int, vectors: np.ndarray, queries: np.ndarray
) -> None:
    built = build_index(vectors, queries, kind=kind, target_recall=0.9)
    index = built.index
    assert isinstance(index, TunableIndex)
    assert built.recall == recall_at_k(index, vectors, queries, 10) >= 0.9
    assert index.effort > least
    index.effort -= 1
    assert recall_at_k(index, vectors, queries, 10) < 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_that_is_asked_for_is_built(kind: str) -> None:
    vectors, queries = catalogue(500, 50, 16)
    built = build_index(vectors, queries, kind=kind)
    assert built.index.kind == kind
    assert built.recall >= 0.95


def test_a_kind_that_cannot_reach_the_target_says_what_it_reaches(vectors: np.ndarray, queries: np.ndarray) -> None:
    built = build_index(vectors, queries, kind="ivf_sq8", target_recall=1.0)
    assert built.index.params["nprobe"] == built.index.params["nlist"]
    assert 0.9 < built.recall < 1


def test_what_compressed_lists_cannot_reach_whole_vectors_can(vectors: np.ndarray, queries: np.ndarray) -> None:
    best = build_index(vectors, queries, kind="ivf_sq8", target_recall=1.0).recall
    built = build_index(vectors, queries, target_recall=(best + 1) / 2)
    assert built.index.kind == "ivf_flat"
    assert built.recall >= (best + 1) / 2


def test_where_lists_do_not_help_all_items_are_compared() -> None:
    """Random vectors have no clusters: nearly all lists would have to be searched."""
    random = np.random.default_rng(0)
    built = build_index(
        random.standard_normal((10_001, 64)).astype(np.float32), random.standard_normal((50, 64)).astype(np.float32)
    )
    assert (built.index.kind, built.recall) == ("flat", 1.0)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="'annoy'; there are auto, flat, ivf_flat, ivf_sq8, hnsw"):
        build_index(*catalogue(10, 2, 4), kind="annoy")


def test_nothing_to_measure_with_is_refused() -> None:
    vectors, queries = catalogue(10, 2, 4)
    with pytest.raises(ValueError, match="0 queries"):
        build_index(vectors, queries[:0])
    with pytest.raises(ValueError, match="0 items"):
        build_index(vectors[:1], queries)


def test_a_file_of_an_unknown_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VectorIndexError, match="'annoy', this version of streamrec knows flat"):
        load_index(tmp_path / "index", "annoy")


def test_every_item_has_a_list_to_be_in() -> None:
    assert [n_lists(n) for n in (0, 1, 2, 100)] == [1, 1, 1, 8]
    assert 400 < n_lists(43_136) < 600
    assert 3500 < n_lists(1_000_000) < 4500


class Answers:
    """An index that always answers the same."""

    def __init__(self, *items: int) -> None:
        self._items = np.array([items], dtype=np.int64)

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        return np.repeat(self._items, len(queries), axis=0), np.zeros((len(queries), k), dtype=np.float32)


class TestExactAnswers:
    vectors = np.array([[0, 0], [4, 0], [3, 0], [2, 0], [2, 0], [1, 0]], dtype=np.float32)
    query = np.array([[1, 0]], dtype=np.float32)

    @pytest.mark.parametrize(
        ("items", "recall"),
        [
            ((1, 2, 3), 1.0),
            ((3, 2, 1), 1.0),
            ((1, 2, 4), 1.0),  # as good as item 3
            ((1, 2, 5), 2 / 3),
            ((1, 1, 1), 1 / 3),
            ((1, 0, 0), 1 / 3),
            ((0, 0, 0), 0.0),
        ],
    )
    def test_recall_counts_what_is_as_good_as_the_kth(self, items: tuple[int, ...], recall: float) -> None:
        assert ExactAnswers(self.vectors, self.query, 3).recall_of(Answers(*items)) == pytest.approx(recall)

    def test_padding_is_no_answer_where_every_score_is_negative(self) -> None:
        assert ExactAnswers(self.vectors, -self.query, 2).recall_of(Answers(0, 5)) == 0.5

    def test_more_answers_than_items_are_cut(self) -> None:
        exact = ExactAnswers(self.vectors, self.query, 50)
        assert (exact.k, exact.recall_of(FlatIndex.build(self.vectors))) == (5, 1.0)


def test_tuning_stops_at_the_largest_effort(vectors: np.ndarray, queries: np.ndarray) -> None:
    index = build.IVFFlatIndex.build(vectors)
    assert build.tune(index, ExactAnswers(vectors, queries, 10), target_recall=1.01) == 1.0
    assert index.effort == index.max_effort
