"""What every `VectorIndex` must do, run by each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import faiss
import numpy as np
import pytest

from index.build import INDEXES, load_index
from index.errors import VectorIndexError
from index.flat import FlatIndex
from index.hnsw import HNSWIndex
from index.ivf import IVFFlatIndex, IVFSQ8Index
from index.protocol import TunableIndex, VectorIndex
from index.recall import ExactAnswers, recall_at_k
from tests.vectors import catalogue

N_ITEMS, DIM = 2000, 16


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    return catalogue(N_ITEMS, 64, DIM)[0]


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return catalogue(N_ITEMS, 64, DIM)[1]


class VectorIndexContract(ABC):
    recall_floor: float
    """What recall@10 must at least be at the effort below."""
    effort: int | None = None
    """Lists or candidates looked at; None for a kind that has nothing to tune."""
    score_error: float = 1e-4
    """How far a score may be off, as a part of the lengths of query and item."""

    @property
    @abstractmethod
    def index_type(self) -> type[VectorIndex]:
        """The implementation."""

    def built(self, vectors: np.ndarray) -> VectorIndex:
        index = self.index_type.build(vectors)
        if self.effort is not None:
            assert isinstance(index, TunableIndex)
            index.effort = min(self.effort, index.max_effort)
        return index

    @pytest.fixture
    def index(self, vectors: np.ndarray) -> VectorIndex:
        return self.built(vectors)

    def test_recall_is_above_its_floor(self, index: VectorIndex, vectors: np.ndarray, queries: np.ndarray) -> None:
        assert recall_at_k(index, vectors, queries, 10) >= self.recall_floor

    def test_recall_of_random_vectors_is_above_a_half(self) -> None:
        """No clusters, so the worst there is; still far from what chance would find."""
        random = np.random.default_rng(5)
        vectors = random.standard_normal((501, 16)).astype(np.float32)
        queries = random.standard_normal((64, 16)).astype(np.float32)
        assert recall_at_k(self.built(vectors), vectors, queries, 10) >= 0.5

    def test_scores_are_inner_products_best_first(
        self, index: VectorIndex, vectors: np.ndarray, queries: np.ndarray
    ) -> None:
        items, scores = index.search(queries, 10)
        exact = np.einsum("bkd,bd->bk", vectors[items], queries)
        lengths = np.linalg.norm(vectors[items], axis=2) * np.linalg.norm(queries, axis=1)[:, None]
        assert (np.abs(scores - exact) <= self.score_error * lengths).all()
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_a_query_of_another_length_finds_the_same(self, index: VectorIndex, queries: np.ndarray) -> None:
        items, scores = index.search(queries, 10)
        longer_items, longer_scores = index.search(queries * 64, 10)
        np.testing.assert_array_equal(longer_items, items)
        np.testing.assert_allclose(longer_scores, 64 * scores, rtol=1e-3, atol=1e-3)

    def test_a_query_of_zeros_scores_zero(self, index: VectorIndex) -> None:
        items, scores = index.search(np.zeros((1, DIM), dtype=np.float32), 5)
        assert (items > 0).all()
        np.testing.assert_allclose(scores, 0, atol=1e-6)

    def test_no_item_is_an_answer_twice(self, index: VectorIndex, queries: np.ndarray) -> None:
        for row in index.search(queries, 200)[0]:
            assert len(set(row.tolist())) == 200

    def test_padding_is_never_an_answer_though_it_scores_best(self) -> None:
        vectors = np.array([[0, 0], [-1, 0], [-2, 0]], dtype=np.float32)
        items, scores = self.built(vectors).search(np.array([[1, 0]], dtype=np.float32), 2)
        assert items.tolist() == [[1, 2]]
        np.testing.assert_allclose(scores, [[-1, -2]], atol=0.02)

    @pytest.mark.parametrize("n_items", [0, 1, 2, 3, 9])
    def test_fewer_items_than_k_are_filled_with_padding(self, n_items: int) -> None:
        vectors = np.zeros((n_items + 1, 4), dtype=np.float32)
        vectors[1:] = np.arange(n_items, 0, -1)[:, None]
        index = self.built(vectors)
        items, scores = index.search(np.ones((2, 4), dtype=np.float32), 12)
        assert index.n_items == n_items
        assert items.tolist() == [[*range(1, n_items + 1), *[0] * (12 - n_items)]] * 2
        np.testing.assert_allclose(scores[0, :n_items], 4 * vectors[1:, 0], rtol=0.02)
        assert (scores[:, n_items:] == -np.inf).all()

    def test_items_that_are_all_the_same_are_all_found(self) -> None:
        vectors = np.ones((101, 8), dtype=np.float32)
        items, scores = self.built(vectors).search(np.ones((1, 8), dtype=np.float32), 100)
        assert sorted(items[0].tolist()) == list(range(1, 101))
        np.testing.assert_allclose(scores, 8, rtol=0.02)

    def test_items_without_length_are_found(self) -> None:
        items, scores = self.built(np.zeros((4, 8), dtype=np.float32)).search(np.ones((1, 8), dtype=np.float32), 3)
        assert sorted(items[0].tolist()) == [1, 2, 3]
        np.testing.assert_allclose(scores, 0, atol=1e-6)

    def test_a_list_as_long_as_the_catalogue_is_full(self, index: VectorIndex, queries: np.ndarray) -> None:
        assert (index.search(queries[:2], N_ITEMS)[0] > 0).all()

    def test_result_types_are_int64_and_float32(self, index: VectorIndex, queries: np.ndarray) -> None:
        items, scores = index.search(queries, 3)
        assert (items.dtype, scores.dtype) == (np.int64, np.float32)

    def test_no_queries_give_no_answers(self, index: VectorIndex) -> None:
        items, scores = index.search(np.zeros((0, DIM), dtype=np.float32), 4)
        assert items.shape == scores.shape == (0, 4)

    def test_a_batch_answers_as_each_query_alone(self, index: VectorIndex, queries: np.ndarray) -> None:
        together = index.search(queries, 10)[1]
        alone = np.concatenate([index.search(query[None], 10)[1] for query in queries])
        np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)

    def test_threads_search_at_once(self, index: VectorIndex, queries: np.ndarray) -> None:
        expected = index.search(queries, 10)[0]
        with ThreadPoolExecutor(4) as pool:
            for items, _ in pool.map(lambda _: index.search(queries, 10), range(32)):
                np.testing.assert_array_equal(items, expected)

    def test_built_twice_it_answers_the_same(
        self, index: VectorIndex, vectors: np.ndarray, queries: np.ndarray
    ) -> None:
        np.testing.assert_array_equal(self.built(vectors).search(queries, 10)[0], index.search(queries, 10)[0])

    def test_removed_items_are_no_answers_and_lists_stay_full(
        self, index: VectorIndex, vectors: np.ndarray, queries: np.ndarray
    ) -> None:
        removed = np.zeros(N_ITEMS + 1, dtype=bool)
        removed[index.search(queries, 20)[0]] = True
        items, scores = index.without(removed).search(queries, 10)
        assert (items > 0).all()
        assert not removed[items].any()
        assert (np.diff(scores, axis=1) <= 0).all()
        kept = np.sort(np.where(removed, -np.inf, queries @ vectors.T), axis=1)[:, -10]
        assert (np.einsum("bkd,bd->bk", vectors[items], queries) >= kept[:, None] - 1e-4).mean() >= 0.8

    def test_removing_leaves_the_index_as_it_is(self, index: VectorIndex, queries: np.ndarray) -> None:
        before = index.search(queries, 10)[0]
        index.without(np.ones(N_ITEMS + 1, dtype=bool)).search(queries, 10)
        np.testing.assert_array_equal(index.search(queries, 10)[0], before)

    def test_without_its_last_item_nothing_is_found(self, index: VectorIndex, queries: np.ndarray) -> None:
        items, scores = index.without(np.ones(N_ITEMS + 1, dtype=bool)).search(queries, 10)
        assert (items == 0).all()
        assert (scores == -np.inf).all()

    def test_a_single_item_that_is_left_is_found(self, index: VectorIndex, queries: np.ndarray) -> None:
        removed = np.ones(N_ITEMS + 1, dtype=bool)
        removed[77] = False
        assert (index.without(removed).search(queries, 3)[0] == [77, 0, 0]).all()

    def test_saved_and_loaded_it_answers_the_same(
        self, index: VectorIndex, queries: np.ndarray, tmp_path: Path
    ) -> None:
        index.save(tmp_path / "index")
        loaded = load_index(tmp_path / "index", index.kind)
        assert type(loaded) is type(index)
        assert (loaded.kind, loaded.params, loaded.n_items, loaded.embedding_dim) == (
            index.kind,
            index.params,
            N_ITEMS,
            DIM,
        )
        np.testing.assert_array_equal(loaded.search(queries, 10)[0], index.search(queries, 10)[0])

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(VectorIndexError, match="nowhere"):
            self.index_type.load(tmp_path / "nowhere")

    @pytest.mark.parametrize("content", [b"", b"not an index at all"])
    def test_a_file_that_is_no_index_is_named(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(VectorIndexError, match="broken"):
            self.index_type.load(tmp_path / "broken")

    @pytest.mark.parametrize("part", [0.01, 0.5, 0.99])
    def test_a_file_that_was_cut_off_is_named(self, index: VectorIndex, part: float, tmp_path: Path) -> None:
        index.save(tmp_path / "whole")
        content = (tmp_path / "whole").read_bytes()
        (tmp_path / "cut").write_bytes(content[: int(part * len(content))])
        with pytest.raises(VectorIndexError, match="cut"):
            self.index_type.load(tmp_path / "cut")

    @pytest.mark.parametrize("kind", INDEXES)
    def test_an_index_of_another_kind_is_refused(self, kind: str, vectors: np.ndarray, tmp_path: Path) -> None:
        INDEXES[kind].build(vectors[:100]).save(tmp_path / "other")
        if INDEXES[kind] is self.index_type:
            assert self.index_type.load(tmp_path / "other").n_items == 99
        else:
            with pytest.raises(VectorIndexError, match="other"):
                self.index_type.load(tmp_path / "other")


class TestFlatIndex(VectorIndexContract):
    recall_floor = 1.0
    index_type = FlatIndex

    def test_an_index_by_distance_is_refused(self, tmp_path: Path) -> None:
        faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "l2"))
        with pytest.raises(VectorIndexError, match="IndexFlatL2"):
            FlatIndex.load(tmp_path / "l2")


class _Rows:
    """Plain FAISS, whose row 0 is item number 1."""

    def __init__(self, plain: faiss.Index) -> None:
        self._plain = plain

    def search(self, queries: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        scores, rows = self._plain.search(queries, k)
        return rows + 1, scores


class TestIVFFlatIndex(VectorIndexContract):
    recall_floor = 0.95
    effort = 16
    index_type = IVFFlatIndex

    def test_all_lists_together_are_exact(self, vectors: np.ndarray, queries: np.ndarray) -> None:
        index = IVFFlatIndex.build(vectors)
        index.effort = index.max_effort
        assert recall_at_k(index, vectors, queries, 10) == 1.0

    def test_more_is_found_than_in_as_many_lists_of_plain_faiss(self) -> None:
        vectors, queries = catalogue(30_000, 200, 16)
        index = IVFFlatIndex.build(vectors)
        plain = faiss.index_factory(16, f"IVF{index.max_effort},Flat", faiss.METRIC_INNER_PRODUCT)
        plain.train(vectors[1:])
        plain.add(vectors[1:])
        index.effort = plain.nprobe = 8
        exact = ExactAnswers(vectors, queries, 10)
        missed, missed_by_plain = 1 - exact.recall_of(index), 1 - exact.recall_of(_Rows(plain))
        assert missed < 0.7 * missed_by_plain

    def test_lists_of_plain_faiss_are_refused(self, vectors: np.ndarray, tmp_path: Path) -> None:
        plain = faiss.index_factory(DIM, "IVF8,Flat", faiss.METRIC_INNER_PRODUCT)
        plain.train(vectors[1:])
        faiss.write_index(plain, str(tmp_path / "plain"))
        with pytest.raises(VectorIndexError, match="how far their items spread"):
            IVFFlatIndex.load(tmp_path / "plain")

    def test_an_index_by_distance_is_refused(self, tmp_path: Path) -> None:
        ivf = faiss.IndexIVFFlat(faiss.IndexFlatL2(2), 2, 1)
        faiss.write_index(ivf, str(tmp_path / "l2"))
        with pytest.raises(VectorIndexError, match="by distance"):
            IVFFlatIndex.load(tmp_path / "l2")


class TestIVFSQ8Index(VectorIndexContract):
    recall_floor = 0.93
    effort = 16
    score_error = 0.01
    index_type = IVFSQ8Index

    def test_a_byte_holds_a_dimension(self, vectors: np.ndarray, tmp_path: Path) -> None:
        for kind in (IVFSQ8Index, IVFFlatIndex):
            kind.build(vectors).save(tmp_path / kind.kind)
        # Beside the codes a file has the centres and 8 bytes for each item's number.
        saved = (tmp_path / "ivf_flat").stat().st_size - (tmp_path / "ivf_sq8").stat().st_size
        assert saved == pytest.approx(N_ITEMS * DIM * 3, rel=0.01)

    def test_the_longest_item_is_not_cut_off(self) -> None:
        """The range of a byte is that of all items, not of a sample."""
        vectors = np.random.default_rng(0).standard_normal((120_001, 4)).astype(np.float32)
        vectors[60_000] = 50
        index = IVFSQ8Index.build(vectors)
        assert index.search(np.ones((1, 4), dtype=np.float32), 1)[1][0, 0] == pytest.approx(200, rel=0.01)


class TestHNSWIndex(VectorIndexContract):
    recall_floor = 0.95
    effort = 128
    index_type = HNSWIndex

    def test_raw_inner_product_is_refused(self, tmp_path: Path) -> None:
        faiss.write_index(faiss.IndexHNSWFlat(5, 8, faiss.METRIC_INNER_PRODUCT), str(tmp_path / "raw"))
        with pytest.raises(VectorIndexError, match="by inner product, not an hnsw index by distance"):
            HNSWIndex.load(tmp_path / "raw")

    def test_a_graph_without_the_added_coordinate_is_refused(self, vectors: np.ndarray, tmp_path: Path) -> None:
        graph = faiss.IndexHNSWFlat(DIM, 8)
        graph.add(vectors[1:])
        faiss.write_index(graph, str(tmp_path / "plain"))
        with pytest.raises(VectorIndexError, match="many lengths"):
            HNSWIndex.load(tmp_path / "plain")


def test_every_kind_runs_the_contract() -> None:
    assert {case.index_type for case in VectorIndexContract.__subclasses__()} == set(INDEXES.values())
