"""Brings the encoder states of a whole batch up to date, in waves.

Whole windows depend on nothing that comes before, so all of them are encoded at once. Wave ``i`` then holds the
``i``-th step of every session of the batch: each wave is one call of the encoder, and events of one user are
applied one after the other.

Shape letters: ``M`` states of a batch, ``S`` state size, ``D`` embedding dimension, ``W`` sessions of a wave,
``T`` window length.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from encoders.protocols import FloatArray, IntArray
from encoders.window import Window
from streams.serving import ServingModel


class Waves:
    """All states that the sessions of a batch go through, each in a place of its own.

    First every event says what it changes (`given`, `encode`, `step`), which only takes places; then `run`
    works all of them out.

    Args:
        model: Whose states these are.
    """

    def __init__(self, model: ServingModel) -> None:
        self.model = model
        self._size = 0
        self._blank: list[int] = []
        self._given: list[int] = []
        self._given_states: list[bytes] = []
        self._encoded: list[int] = []
        self._windows: list[Window] = []
        self._stepped: list[tuple[list[int], list[int]]] = []
        self._items: list[list[bytes]] = []
        self.states: FloatArray
        """After `run`. Shape: ``(M, S)``."""
        self._vectors: FloatArray
        """Query vector of each state, after `run`, where it has one."""
        self._has_vector: npt.NDArray[np.bool_]
        """Not so of states that were given or blank, and of those that no known item has changed since."""
        self.answers: npt.NDArray[np.bool_]
        """Whether the model knows an item of the window that a state stands for, after `run`. Shape: ``(M,)``."""

    def given(self, state: bytes) -> int:
        """The place of a state that a session comes with."""
        self._given.append(self._size)
        self._given_states.append(state)
        return self._take()

    def blank(self) -> int:
        """The place of the state of an empty window."""
        self._blank.append(self._size)
        return self._take()

    def encode(self, window: Window) -> int:
        """The place of the state of a whole window, as it is now; the caller may let further events in afterwards."""
        self._encoded.append(self._size)
        self._windows.append(window.copy())
        return self._take()

    def step(self, before: int, item: bytes, depth: int) -> int:
        """The place of the state after one more item.

        Args:
            before: Place of the state before.
            item: 64-bit hash of the item, as the window stores it.
            depth: How many steps of this session come before, in this batch.
        """
        if depth == len(self._items):
            self._stepped.append(([], []))
            self._items.append([])
        places, befores = self._stepped[depth]
        places.append(self._size)
        befores.append(before)
        self._items[depth].append(item)
        return self._take()

    def _take(self) -> int:
        self._size += 1
        return self._size - 1

    def run(self) -> None:
        """Work out all states and their query vectors."""
        encoder, vocabulary = self.model.bundle.encoder, self.model.bundle.vocabulary
        self.states = np.empty((self._size, encoder.state_size), dtype=np.float32)
        self._vectors = np.empty((self._size, encoder.embedding_dim), dtype=np.float32)
        self.answers = np.zeros(self._size, dtype=np.bool_)
        self._has_vector = np.ones(self._size, dtype=np.bool_)
        if self._blank:
            self.states[self._blank], self._has_vector[self._blank] = encoder.initial_states(len(self._blank)), False
        if self._given:
            given = np.frombuffer(b"".join(self._given_states), dtype="<f4").reshape(len(self._given), -1)
            self.states[self._given] = given
            self.answers[self._given], self._has_vector[self._given] = True, False
        hashes = np.frombuffer(b"".join([item for wave in self._items for item in wave]), dtype="<u8")
        numbers, start = vocabulary.item_numbers(hashes), 0
        if self._encoded:
            self._encode(self._encoded, self._windows)
        for places, befores in self._stepped:
            self._step(np.array(places), np.array(befores), numbers[start : start + len(places)])
            start += len(places)

    def _encode(self, places: list[int], windows: list[Window]) -> None:
        encoder = self.model.bundle.encoder
        windows_WT = known_windows(windows, self.model)
        self.states[places] = encoder.initial_states(len(places))
        self.answers[places] = is_known = windows_WT.any(axis=1)
        if is_known.any():
            known = np.array(places)[is_known]
            self.states[known], self._vectors[known] = encoder.encode(windows_WT[is_known])

    def _step(self, places: IntArray, befores: IntArray, numbers: IntArray) -> None:
        is_known = numbers > 0
        if not is_known.all():  # an item that the model does not know changes nothing
            same, old = places[~is_known], befores[~is_known]
            self.states[same], self._vectors[same] = self.states[old], self._vectors[old]
            self.answers[same], self._has_vector[same] = self.answers[old], self._has_vector[old]
            places, befores, numbers = places[is_known], befores[is_known], numbers[is_known]
        if len(places):
            self.states[places], self._vectors[places] = self.model.bundle.encoder.step(self.states[befores], numbers)
            self.answers[places] = True

    def vectors(self, places: IntArray) -> FloatArray:
        """Query vectors of states. Shape: ``(B,)`` to ``(B, D)``."""
        vectors = self._vectors[places]
        lacking = ~self._has_vector[places]
        if lacking.any():
            vectors[lacking] = self.model.bundle.encoder.vectors(self.states[places[lacking]])
        return vectors

    def stored_states(self, places: list[int]) -> list[dict[str, bytes]]:
        """States as sessions keep them, by the model's key; empty where the model knows no item."""
        states, size = self.states[places].tobytes(), self.states.itemsize * self.states.shape[1]
        key = self.model.state_key
        return [
            {key: states[n * size : (n + 1) * size]} if answers else {}
            for n, answers in enumerate(self.answers[places].tolist())
        ]


def known_windows(windows: Sequence[Window], model: ServingModel) -> IntArray:
    """Windows as the model's item numbers, unknown items left out, padded on the left with 0.

    Shape:
        - Output: ``(W, T)``, ``T`` the longest of them, at least 1
    """
    hashes = np.frombuffer(b"".join([window.item_column for window in windows]), dtype="<u8")
    numbers = model.bundle.vocabulary.item_numbers(hashes)
    rows = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    rows, numbers = rows[numbers > 0], numbers[numbers > 0]
    lengths = np.bincount(rows, minlength=len(windows))
    longest = max(1, int(lengths.max(initial=0)))
    windows_WT = np.zeros((len(windows), longest), dtype=np.int64)
    from_start = np.arange(len(rows)) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    windows_WT[rows, from_start + longest - lengths[rows]] = numbers
    return windows_WT
