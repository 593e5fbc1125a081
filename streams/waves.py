"""Brings the encoder states of a whole batch up to date, in waves.

Whole windows depend on nothing that comes before, so all of them are encoded at once. Wave ``i`` then holds the
``i``-th step of every session of the batch: each wave is one call of the encoder, and events of one user are
applied one after the other.

Shape letters: ``M`` states of a batch, ``S`` state size, ``D`` embedding dimension, ``W`` sessions of a wave,
``T`` window length.
"""

from __future__ import annotations

import numpy as np

from encoders.compiled import Bytes, as_bytes, compiled, copy_bytes
from encoders.protocols import FloatArray, IntArray
from encoders.window import Window
from streams.advance import BLANK, ENCODED, GIVEN, STEPPED, Advanced, Events, HashArray, Stored
from streams.serving import EncoderModel, ServingModel


class Waves:
    """All states that the sessions of a batch go through, each in the place that `advance` gave it.

    Args:
        model: Whose states these are.
        events: The events of the batch.
        stored: The sessions before it.
        advanced: What it did to them.
    """

    def __init__(self, model: EncoderModel, events: Events, stored: Stored, advanced: Advanced) -> None:
        self.model, encoder, places = model, model.bundle.encoder, advanced.places
        n_states = len(places.origin_M)
        self.states = np.empty((n_states, encoder.state_size), dtype=np.float32)
        """Shape: ``(M, S)``."""
        self.answers = np.zeros(n_states, dtype=np.bool_)
        """Whether the model knows an item of the window that a state stands for. Shape: ``(M,)``."""
        self._vectors = np.empty((n_states, encoder.embedding_dim), dtype=np.float32)
        """Query vector of each state, where it has one."""
        self._has_vector = np.ones(n_states, dtype=np.bool_)
        """Not so of states that were given or blank, and of those that no known item has changed since."""
        given, blank, encoded, stepped = (
            np.flatnonzero(places.origin_M == origin) for origin in (GIVEN, BLANK, ENCODED, STEPPED)
        )
        _take_given(self.states, given, places.source_M, stored.data)
        self.answers[given] = True
        self.states[blank] = encoder.initial_states(len(blank))
        self._has_vector[given] = self._has_vector[blank] = False
        if len(encoded):
            windows, of = advanced.windows, places.event_M[encoded]
            self._encode(encoded, _slices(windows.item_T, windows.first_B[of], windows.end_B[of]))
        numbers = model.bundle.vocabulary.item_numbers(events.item_B[places.event_M[stepped]])
        depths = places.depth_M[stepped]
        order = np.argsort(depths, kind="stable")
        for wave in np.split(order, np.cumsum(np.bincount(depths))[:-1]) if len(order) else ():
            self._step(stepped[wave], places.source_M[stepped[wave]], numbers[wave])

    def _encode(self, places: IntArray, windows: tuple[HashArray, IntArray]) -> None:
        encoder = self.model.bundle.encoder
        windows_WT = known_windows(*windows, self.model)
        self.states[places] = encoder.initial_states(len(places))
        self.answers[places] = is_known = windows_WT.any(axis=1)
        if is_known.any():
            known = places[is_known]
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


@compiled
def _take_given(states: FloatArray, places: IntArray, starts: IntArray, data: Bytes) -> None:
    """Copy states out of the sessions that hold them."""
    into = states.view(np.uint8)
    for place in places:
        copy_bytes(into[place], 0, data, starts[place], into.shape[1])


def compile_waves() -> None:
    """Compile what it takes to read states, see `streams.pipeline.compile_loops`."""
    nothing = np.zeros(0, dtype=np.int64)
    _take_given(np.zeros((0, 1), dtype=np.float32), nothing, nothing, as_bytes(b""))


def _slices(items_T: HashArray, first_W: IntArray, end_W: IntArray) -> tuple[HashArray, IntArray]:
    """The items of several windows one after the other, and how many each has."""
    lengths = end_W - first_W
    starts = first_W - (np.cumsum(lengths) - lengths)
    return items_T[np.arange(lengths.sum()) + np.repeat(starts, lengths)], lengths


def known_window(window: Window, model: ServingModel) -> IntArray:
    """One window as the model's item numbers, unknown items left out. Shape: ``(1, T)``, ``T`` at least 1."""
    return known_windows(np.frombuffer(window.item_column, dtype="<u8"), np.array([len(window)]), model)


def known_windows(items: HashArray, lengths: IntArray, model: ServingModel) -> IntArray:
    """Windows as the model's item numbers, unknown items left out, padded on the left with 0.

    Args:
        items: Items of all windows, one window after the other.
        lengths: How many each has. Shape: ``(W,)``.
        model: Whose numbers.

    Shape:
        - Output: ``(W, T)``, ``T`` the longest of them, at least 1
    """
    numbers = model.bundle.vocabulary.item_numbers(items)
    rows = np.repeat(np.arange(len(lengths)), lengths)
    rows, numbers = rows[numbers > 0], numbers[numbers > 0]
    n_known = np.bincount(rows, minlength=len(lengths))
    longest = max(1, int(n_known.max(initial=0)))
    windows_WT = np.zeros((len(lengths), longest), dtype=np.int64)
    from_start = np.arange(len(rows)) - np.repeat(np.cumsum(n_known) - n_known, n_known)
    windows_WT[rows, from_start + longest - n_known[rows]] = numbers
    return windows_WT
