"""What every `Retriever` must do, and every `LiveRetriever`. A test class per implementation inherits one of these."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest

from encoders.protocols import LiveRetriever, Retriever

N_ITEMS = 30
Events = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Sessions, items, times."""


class RetrieverContract(ABC):
    """For one that may answer with fewer than all items."""

    @pytest.fixture
    @abstractmethod
    def retriever(self) -> Retriever:
        """A retriever over items 1 … N_ITEMS."""

    @pytest.fixture
    def windows(self) -> np.ndarray:
        return np.array([[0, 0, 4], [1, 2, 3], [0, 0, 0], [7, 0, 9], [5, 5, 5]])

    @pytest.mark.parametrize("k", [1, 5, N_ITEMS, N_ITEMS + 2])
    def test_answers_are_distinct_items_best_first(self, retriever: Retriever, windows: np.ndarray, k: int) -> None:
        items, scores = retriever.retrieve(windows, k)
        assert items.shape == scores.shape == (len(windows), k)
        assert (items.dtype, scores.dtype) == (np.int64, np.float32)
        for row, row_scores in zip(items.tolist(), scores, strict=True):
            found = [item for item in row if item]
            assert len(set(found)) == len(found)
            assert all(1 <= item <= N_ITEMS for item in found)
            assert (row_scores[1:] <= row_scores[:-1]).all()

    def test_what_is_missing_is_padding_at_the_end(self, retriever: Retriever, windows: np.ndarray) -> None:
        items, scores = retriever.retrieve(windows, N_ITEMS + 2)
        np.testing.assert_array_equal(items == 0, scores == -np.inf)
        assert (np.diff((items == 0).astype(int), axis=1) >= 0).all()
        assert (items[:, -2:] == 0).all()

    def test_there_are_answers(self, retriever: Retriever) -> None:
        assert (retriever.retrieve(np.array([[1, 2, 3]]), 3)[0] > 0).all()

    def test_a_smaller_k_is_the_beginning_of_a_larger_one(self, retriever: Retriever, windows: np.ndarray) -> None:
        np.testing.assert_array_equal(retriever.retrieve(windows, 3)[0], retriever.retrieve(windows, 8)[0][:, :3])

    def test_no_windows_give_no_answers(self, retriever: Retriever) -> None:
        items, scores = retriever.retrieve(np.zeros((0, 3), dtype=np.int64), 5)
        assert items.shape == scores.shape == (0, 5)

    def test_padding_in_a_window_changes_nothing(self, retriever: Retriever) -> None:
        items, scores = retriever.retrieve(np.array([[0, 0, 7, 9], [7, 0, 0, 9], [7, 9, 0, 0]]), N_ITEMS)
        for row in (1, 2):
            np.testing.assert_array_equal(items[0], items[row])
            np.testing.assert_allclose(scores[0], scores[row], atol=1e-4)

    def test_a_row_alone_equals_its_row_in_a_batch(self, retriever: Retriever, windows: np.ndarray) -> None:
        items, scores = retriever.retrieve(windows, N_ITEMS)
        for row in range(len(windows)):
            alone_items, alone_scores = retriever.retrieve(windows[row : row + 1], N_ITEMS)
            np.testing.assert_array_equal(alone_items[0], items[row])
            np.testing.assert_allclose(alone_scores[0], scores[row], atol=1e-4)

    def test_asking_changes_no_answer(self, retriever: Retriever, windows: np.ndarray) -> None:
        before = retriever.retrieve(windows, 8)
        retriever.retrieve(windows[::-1].copy(), N_ITEMS)
        for one, other in zip(before, retriever.retrieve(windows, 8), strict=True):
            np.testing.assert_array_equal(one, other)

    def test_windows_are_left_alone(self, retriever: Retriever, windows: np.ndarray) -> None:
        given = windows.copy()
        retriever.retrieve(given, 5)
        np.testing.assert_array_equal(given, windows)


class FullRetrieverContract(RetrieverContract):
    """For one that ranks all items for every window."""

    def test_more_than_there_are_items_is_filled_with_padding(self, retriever: Retriever, windows: np.ndarray) -> None:
        items, _ = retriever.retrieve(windows, N_ITEMS + 2)
        for row in items.tolist():
            assert sorted(row) == [0, 0, *range(1, N_ITEMS + 1)]


def random_events(n: int = 400, seed: int = 5) -> Events:
    """Events of some sessions, mixed, in which item ``i`` tends to come before ``i + 1``."""
    rng = np.random.default_rng(seed)
    sessions = rng.integers(0, n // 8, n)
    items = (np.arange(n) + rng.integers(0, 5, n)) % N_ITEMS + 1
    return sessions, items, np.cumsum(rng.random(n)) * 10


class LiveRetrieverContract(RetrieverContract):
    """For one that learns every event."""

    @abstractmethod
    def new(self) -> LiveRetriever:
        """A retriever that has learned nothing."""

    def learned(self, *batches: Events) -> LiveRetriever:
        """One that has learned events, batch by batch."""
        retriever = self.new()
        for batch in batches:
            retriever.learn(*batch)
        return retriever

    @pytest.fixture
    def retriever(self) -> LiveRetriever:
        return self.learned(random_events())

    def assert_same(self, one: Retriever, other: Retriever, n_items: int = N_ITEMS) -> None:
        windows = np.array([[a, b, c] for a in range(0, n_items + 1, 3) for b in (0, 2, 7) for c in range(n_items + 1)])
        for found, expected in zip(one.retrieve(windows, n_items), other.retrieve(windows, n_items), strict=True):
            np.testing.assert_array_equal(found, expected)

    def test_it_is_a_live_retriever(self) -> None:
        assert isinstance(self.new(), LiveRetriever)

    def test_who_has_learned_nothing_has_no_answers(self) -> None:
        items, scores = self.new().retrieve(np.array([[0, 0, 0], [1, 2, 3]]), 4)
        assert (items == 0).all()
        assert (scores == -np.inf).all()

    def test_learning_nothing_changes_nothing(self, retriever: LiveRetriever) -> None:
        retriever.learn(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros(0))
        self.assert_same(retriever, self.learned(random_events()))

    @pytest.mark.parametrize("size", [1, 7, 128])
    def test_learning_in_batches_equals_learning_at_once(self, retriever: LiveRetriever, size: int) -> None:
        columns = random_events()
        cuts = range(0, len(columns[0]), size)
        sessions, items, times_s = ([column[cut : cut + size] for cut in cuts] for column in columns)
        self.assert_same(self.learned(*zip(sessions, items, times_s, strict=True)), retriever)

    def test_questions_between_events_change_nothing(self, retriever: LiveRetriever) -> None:
        asked = self.new()
        for session, item, time_s in zip(*random_events(), strict=True):
            asked.learn(np.array([session]), np.array([item]), np.array([time_s]))
            asked.retrieve(np.array([[0, item]]), 5)
        self.assert_same(asked, retriever)

    def test_the_next_question_knows_what_was_just_learned(self, retriever: LiveRetriever) -> None:
        """Two sessions went from 3 to 4711; the item was unknown, and is far above those that were known."""
        window = np.array([[0, 0, 3]])
        assert 4711 not in retriever.retrieve(window, 50)[0]
        retriever.learn(np.array([900, 900, 901, 901]), np.array([3, 4711, 3, 4711]), np.full(4, 1e4))
        assert 4711 in retriever.retrieve(window, 50)[0]

    def test_an_unknown_item_in_a_window_is_no_error(self, retriever: LiveRetriever) -> None:
        items, _ = retriever.retrieve(np.array([[0, 0, 99_999], [1, 99_999, 2]]), 5)
        assert (items <= N_ITEMS).all()

    def test_item_number_0_is_not_learned(self, retriever: LiveRetriever) -> None:
        sessions, items, times_s = random_events()
        places = np.arange(0, len(items), 3)
        zeros = np.insert(sessions, places, 1), np.insert(items, places, 0), np.insert(times_s, places, times_s[places])
        self.assert_same(self.learned(zeros), retriever)

    def test_session_codes_may_be_any_int64(self, retriever: LiveRetriever) -> None:
        sessions, items, times_s = random_events()
        codes = np.random.default_rng(2).integers(-(2**63), 2**63 - 1, sessions.max() + 1)
        self.assert_same(self.learned((codes[sessions], items, times_s)), retriever)

    def test_times_may_go_backwards(self) -> None:
        sessions, items, times_s = random_events()
        retriever = self.learned((sessions, items, times_s[::-1].copy()))
        assert (retriever.retrieve(np.array([[1, 2, 3]]), 3)[0] > 0).all()

    def test_what_is_learned_may_lie_in_read_only_memory(self, retriever: LiveRetriever) -> None:
        events = random_events()
        for column in events:
            column.setflags(write=False)
        self.assert_same(self.learned(events), retriever)
