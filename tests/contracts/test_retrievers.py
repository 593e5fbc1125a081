"""What every `Retriever` must do, run by each implementation."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest
import torch

from encoders.gru import GRUConfig, GRUEncoder, GRUModule
from encoders.popularity import PopularityRetriever
from encoders.protocols import Retriever
from encoders.retrieval import EncoderRetriever
from index.flat import FlatIndex

N_ITEMS = 30


class RetrieverContract(ABC):
    @pytest.fixture
    @abstractmethod
    def retriever(self) -> Retriever:
        """A retriever over items 1 … N_ITEMS."""

    @pytest.fixture
    def windows(self) -> np.ndarray:
        return np.array([[0, 0, 4], [1, 2, 3], [0, 0, 0], [7, 0, 9]])

    def test_answers_are_k_distinct_items_best_first(self, retriever: Retriever, windows: np.ndarray) -> None:
        items, scores = retriever.retrieve(windows, 5)
        assert items.shape == scores.shape == (4, 5)
        assert all(len(set(row)) == 5 for row in items.tolist())
        assert ((items >= 1) & (items <= N_ITEMS)).all()
        assert (np.diff(scores, axis=1) <= 0).all()

    def test_a_smaller_k_is_the_beginning_of_a_larger_one(self, retriever: Retriever, windows: np.ndarray) -> None:
        np.testing.assert_array_equal(retriever.retrieve(windows, 3)[0], retriever.retrieve(windows, 8)[0][:, :3])

    def test_more_than_there_are_items_is_filled_with_padding(self, retriever: Retriever, windows: np.ndarray) -> None:
        items, scores = retriever.retrieve(windows, N_ITEMS + 2)
        assert sorted(items[0].tolist()) == [0, 0, *range(1, N_ITEMS + 1)]
        assert (items[:, -2:] == 0).all()
        assert (scores[:, -2:] == -np.inf).all()

    def test_no_windows_give_no_answers(self, retriever: Retriever) -> None:
        items, scores = retriever.retrieve(np.zeros((0, 3), dtype=np.int64), 5)
        assert items.shape == scores.shape == (0, 5)

    def test_padding_in_a_window_changes_nothing(self, retriever: Retriever) -> None:
        items, scores = retriever.retrieve(np.array([[0, 0, 7, 9], [7, 0, 0, 9]]), N_ITEMS)
        np.testing.assert_array_equal(items[0], items[1])
        np.testing.assert_allclose(scores[0], scores[1], atol=1e-4)


class TestPopularity(RetrieverContract):
    @pytest.fixture
    def retriever(self) -> PopularityRetriever:
        return PopularityRetriever(np.random.default_rng(1).random(N_ITEMS + 1, dtype=np.float32))


class TestEncoderWithIndex(RetrieverContract):
    @pytest.fixture
    def retriever(self) -> EncoderRetriever:
        torch.manual_seed(3)
        encoder = GRUEncoder(GRUModule(N_ITEMS, GRUConfig(embedding_dim=8, hidden_dim=12)))
        return EncoderRetriever(encoder, FlatIndex.build(encoder.item_vectors))
