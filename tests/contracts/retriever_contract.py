"""What every `Retriever` must do, and every `LiveRetriever`. A test class per implementation inherits one of these."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod

import numpy as np
import pytest

from encoders.bundle import RETRIEVERS, BundledRetriever
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


class BundledRetrieverContract(LiveRetrieverContract):
    """For one that a bundle may hold."""

    @abstractmethod
    def new(self) -> BundledRetriever:
        """A retriever that has learned nothing."""

    def restored(self, retriever: BundledRetriever, n_items: int = N_ITEMS) -> BundledRetriever:
        """One made of what a retriever gives to a bundle, as a file would hold it."""
        arrays = {name: array.copy() for name, array in retriever.arrays().items()}
        assert all(array.ndim == 1 for array in arrays.values())
        config = json.loads(retriever.config.model_dump_json())
        return RETRIEVERS[retriever.kind].restored(config, arrays, n_items)

    def test_it_is_known_by_its_kind(self) -> None:
        assert RETRIEVERS[self.new().kind] is type(self.new())

    def test_one_that_was_restored_answers_as_the_one_that_was_saved(self, retriever: BundledRetriever) -> None:
        self.assert_same(self.restored(retriever), retriever)

    def test_one_that_was_restored_goes_on_learning_as_the_one_that_was_saved(
        self, retriever: BundledRetriever
    ) -> None:
        restored = self.restored(retriever)
        for seed in range(6, 12):
            sessions, items, times_s = random_events(150, seed)
            for each in (retriever, restored):
                each.learn(sessions, items, times_s + 1_000 * seed)
            self.assert_same(restored, retriever)

    def test_one_that_was_restored_shares_nothing_with_the_one_that_was_saved(
        self, retriever: BundledRetriever
    ) -> None:
        restored = self.restored(retriever)
        before = self.restored(retriever)
        retriever.learn(*random_events(seed=8))
        self.assert_same(restored, before)

    def test_one_that_has_learned_nothing_may_be_restored(self) -> None:
        learned = self.restored(self.new())
        learned.learn(*random_events())
        self.assert_same(learned, self.learned(random_events()))

    def test_what_is_saved_is_finite(self, retriever: BundledRetriever) -> None:
        for learned in (retriever, self.new()):
            assert all(np.isfinite(array).all() for array in learned.arrays().values())

    def test_every_array_is_needed(self, retriever: BundledRetriever) -> None:
        arrays, config = retriever.arrays(), retriever.config.model_dump(mode="json")
        for name in arrays:
            others = {other: array for other, array in arrays.items() if other != name}
            with pytest.raises(ValueError, match=f"no '{name}'"):
                type(retriever).restored(config, others, N_ITEMS)

    def test_every_array_has_its_type_and_one_dimension(self, retriever: BundledRetriever) -> None:
        arrays, config = retriever.arrays(), retriever.config.model_dump(mode="json")
        for name, array in arrays.items():
            for changed in (array.astype(np.bool_), array[:, None]):
                with pytest.raises(ValueError, match=f"'{name}' is"):
                    type(retriever).restored(config, {**arrays, name: changed}, N_ITEMS)

    def test_what_is_said_of_items_that_there_are_not_is_refused(self, retriever: BundledRetriever) -> None:
        with pytest.raises(ValueError, match="items"):
            type(retriever).restored(retriever.config.model_dump(mode="json"), retriever.arrays(), N_ITEMS - 1)

    def test_arrays_of_other_lengths_are_refused(self, retriever: BundledRetriever) -> None:
        """One entry too many: that is noticed wherever there are others to compare with."""
        arrays, config = retriever.arrays(), retriever.config.model_dump(mode="json")
        for name in arrays.keys() - {"counts"}:
            longer = {**arrays, name: np.append(arrays[name], arrays[name][-1:])}
            with pytest.raises(ValueError, match=f"'n_rules'|'{name}'"):
                type(retriever).restored(config, longer, N_ITEMS)

    def test_a_configuration_of_another_kind_is_refused(self, retriever: BundledRetriever) -> None:
        with pytest.raises(ValueError, match="layers"):
            type(retriever).restored({"layers": 3}, retriever.arrays(), N_ITEMS)
