"""What every `SequenceEncoder` must do. A test class per implementation inherits this and sets `encoder`."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import pytest

from encoders.protocols import SequenceEncoder

TOLERANCE = 1e-4
N_ITEMS = 40


def left_padded(rows: list[list[int]], width: int) -> np.ndarray:
    """The rows as one matrix, padded on the left with 0."""
    return np.array([[0] * (width - len(row)) + row for row in rows], dtype=np.int64)


class SequenceEncoderContract(ABC):
    """Runs against any encoder over items 1 … N_ITEMS."""

    @pytest.fixture
    @abstractmethod
    def encoder(self) -> SequenceEncoder:
        """An encoder with weights that are not all equal."""

    @pytest.fixture
    def rows(self) -> list[list[int]]:
        rng = np.random.default_rng(7)
        return [rng.integers(1, N_ITEMS + 1, size=n).tolist() for n in (1, 2, 5, 9, 12, 12)]

    def test_shapes_are_those_of_the_protocol(self, encoder: SequenceEncoder) -> None:
        states, vectors = encoder.encode(left_padded([[1, 2], [3]], 4))
        assert states.shape == (2, encoder.state_size)
        assert vectors.shape == (2, encoder.embedding_dim)
        assert states.dtype == vectors.dtype == np.float32

    def test_step_by_step_equals_encode(self, encoder: SequenceEncoder, rows: list[list[int]]) -> None:
        for row in rows:
            states, vectors = encoder.initial_states(1), np.empty((1, 0))
            for item in row:
                states, vectors = encoder.step(states, np.array([item]))
            whole_states, whole_vectors = encoder.encode(left_padded([row], len(row)))
            np.testing.assert_allclose(states, whole_states, atol=TOLERANCE)
            np.testing.assert_allclose(vectors, whole_vectors, atol=TOLERANCE)

    def test_stepping_a_batch_equals_stepping_each_row(self, encoder: SequenceEncoder, rows: list[list[int]]) -> None:
        states, _ = encoder.encode(left_padded(rows, 12))
        items = np.arange(1, len(rows) + 1)
        together = encoder.step(states, items)
        for i in range(len(rows)):
            alone = encoder.step(states[i : i + 1], items[i : i + 1])
            np.testing.assert_allclose(together[0][i], alone[0][0], atol=TOLERANCE)
            np.testing.assert_allclose(together[1][i], alone[1][0], atol=TOLERANCE)

    def test_a_row_alone_equals_its_row_in_a_batch(self, encoder: SequenceEncoder, rows: list[list[int]]) -> None:
        states, vectors = encoder.encode(left_padded(rows, 12))
        for i, row in enumerate(rows):
            alone_states, alone_vectors = encoder.encode(left_padded([row], len(row)))
            np.testing.assert_allclose(states[i], alone_states[0], atol=TOLERANCE)
            np.testing.assert_allclose(vectors[i], alone_vectors[0], atol=TOLERANCE)

    @pytest.mark.parametrize("padded", [[0, 0, 0, 4, 8, 2], [4, 8, 2, 0, 0, 0], [4, 0, 8, 0, 0, 2], [0, 4, 0, 8, 2, 0]])
    def test_padding_changes_nothing_wherever_it_stands(self, encoder: SequenceEncoder, padded: list[int]) -> None:
        states, vectors = encoder.encode(np.array([padded, [1, 2, 3, 4, 5, 6]]))
        bare_states, bare_vectors = encoder.encode(np.array([[4, 8, 2]]))
        np.testing.assert_allclose(states[0], bare_states[0], atol=TOLERANCE)
        np.testing.assert_allclose(vectors[0], bare_vectors[0], atol=TOLERANCE)

    @pytest.mark.parametrize("width", [0, 1, 5])
    def test_an_empty_window_has_the_initial_state(self, encoder: SequenceEncoder, width: int) -> None:
        states, vectors = encoder.encode(np.zeros((2, width), dtype=np.int64))
        np.testing.assert_array_equal(states, encoder.initial_states(2))
        np.testing.assert_allclose(vectors, encoder.vectors(encoder.initial_states(2)), atol=TOLERANCE)

    def test_an_empty_window_beside_a_full_one_has_the_initial_state(self, encoder: SequenceEncoder) -> None:
        states, _ = encoder.encode(np.array([[0, 0, 0], [1, 2, 3]]))
        np.testing.assert_array_equal(states[:1], encoder.initial_states(1))

    def test_no_rows_give_no_rows(self, encoder: SequenceEncoder) -> None:
        states, vectors = encoder.encode(np.zeros((0, 3), dtype=np.int64))
        assert states.shape == (0, encoder.state_size)
        assert vectors.shape == (0, encoder.embedding_dim)
        stepped, _ = encoder.step(encoder.initial_states(0), np.zeros(0, dtype=np.int64))
        assert stepped.shape == (0, encoder.state_size)

    def test_vectors_of_states_are_those_that_step_and_encode_give(self, encoder: SequenceEncoder) -> None:
        states, vectors = encoder.encode(np.array([[3, 1, 2]]))
        np.testing.assert_allclose(encoder.vectors(states), vectors, atol=TOLERANCE)

    def test_step_leaves_the_given_states_alone(self, encoder: SequenceEncoder) -> None:
        states, _ = encoder.encode(np.array([[3, 1, 2]]))
        before = states.copy()
        encoder.step(states, np.array([5]))
        np.testing.assert_array_equal(states, before)

    def test_states_may_come_from_read_only_memory(self, encoder: SequenceEncoder) -> None:
        states, _ = encoder.encode(np.array([[3, 1, 2]]))
        stored = np.frombuffer(states.tobytes(), dtype=np.float32).reshape(1, -1)
        np.testing.assert_array_equal(encoder.step(stored, np.array([5]))[0], encoder.step(states, np.array([5]))[0])

    def test_order_of_items_matters(self, encoder: SequenceEncoder) -> None:
        _, vectors = encoder.encode(np.array([[1, 2, 3], [3, 2, 1]]))
        assert np.abs(vectors[0] - vectors[1]).max() > TOLERANCE

    def test_repeated_calls_give_the_same(self, encoder: SequenceEncoder) -> None:
        windows = np.array([[1, 2, 3]])
        np.testing.assert_array_equal(encoder.encode(windows)[1], encoder.encode(windows)[1])
