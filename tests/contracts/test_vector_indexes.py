"""What every `VectorIndex` must do, run by each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import faiss
import numpy as np
import pytest

from index.errors import VectorIndexError
from index.flat import FlatIndex
from index.protocol import VectorIndex
from index.recall import recall_at_k


class VectorIndexContract(ABC):
    recall_floor: float
    """What recall@10 must at least be on random vectors."""

    @property
    @abstractmethod
    def index_type(self) -> type[VectorIndex]:
        """The implementation."""

    @pytest.fixture
    def vectors(self) -> np.ndarray:
        vectors = np.random.default_rng(5).standard_normal((501, 16)).astype(np.float32)
        vectors[0] = 0
        return vectors

    @pytest.fixture
    def queries(self) -> np.ndarray:
        return np.random.default_rng(6).standard_normal((64, 16)).astype(np.float32)

    def test_recall_is_above_its_floor(self, vectors: np.ndarray, queries: np.ndarray) -> None:
        assert recall_at_k(self.index_type.build(vectors), vectors, queries, 10) >= self.recall_floor

    def test_scores_are_inner_products_best_first(self, vectors: np.ndarray, queries: np.ndarray) -> None:
        items, scores = self.index_type.build(vectors).search(queries, 10)
        np.testing.assert_allclose(scores, np.einsum("bkd,bd->bk", vectors[items], queries), rtol=1e-4, atol=1e-4)
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_padding_is_never_an_answer_though_it_scores_best(self) -> None:
        vectors = np.array([[0, 0], [-1, 0], [-2, 0]], dtype=np.float32)
        items, scores = self.index_type.build(vectors).search(np.array([[1, 0]], dtype=np.float32), 2)
        assert items.tolist() == [[1, 2]]
        assert scores.tolist() == [[-1, -2]]

    def test_fewer_items_than_k_are_filled_with_padding(self) -> None:
        vectors = np.array([[0, 0], [1, 0]], dtype=np.float32)
        items, scores = self.index_type.build(vectors).search(np.ones((1, 2), dtype=np.float32), 3)
        assert items.tolist() == [[1, 0, 0]]
        assert scores.tolist() == [[1, -np.inf, -np.inf]]

    def test_result_types_are_int64_and_float32(self, vectors: np.ndarray, queries: np.ndarray) -> None:
        items, scores = self.index_type.build(vectors).search(queries, 3)
        assert (items.dtype, scores.dtype) == (np.int64, np.float32)

    def test_no_queries_give_no_answers(self, vectors: np.ndarray) -> None:
        items, scores = self.index_type.build(vectors).search(np.zeros((0, 16), dtype=np.float32), 4)
        assert items.shape == scores.shape == (0, 4)

    def test_saved_and_loaded_it_answers_the_same(
        self, vectors: np.ndarray, queries: np.ndarray, tmp_path: Path
    ) -> None:
        built = self.index_type.build(vectors)
        built.save(tmp_path / "index")
        loaded = self.index_type.load(tmp_path / "index")
        assert (loaded.kind, loaded.params, loaded.n_items, loaded.embedding_dim) == (
            built.kind,
            built.params,
            500,
            16,
        )
        np.testing.assert_array_equal(loaded.search(queries, 10)[0], built.search(queries, 10)[0])

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(VectorIndexError, match="nowhere"):
            self.index_type.load(tmp_path / "nowhere")

    @pytest.mark.parametrize("content", [b"", b"not an index at all"])
    def test_a_file_that_is_no_index_is_named(self, content: bytes, tmp_path: Path) -> None:
        (tmp_path / "broken").write_bytes(content)
        with pytest.raises(VectorIndexError, match="broken"):
            self.index_type.load(tmp_path / "broken")


class TestFlatIndex(VectorIndexContract):
    recall_floor = 1.0
    index_type = FlatIndex

    def test_an_index_by_distance_is_refused(self, tmp_path: Path) -> None:
        faiss.write_index(faiss.IndexFlatL2(4), str(tmp_path / "l2"))
        with pytest.raises(VectorIndexError, match="IndexFlatL2"):
            FlatIndex.load(tmp_path / "l2")
