"""The recommender that the one-event peers share: one session and one item in, a new session and a list out.

Written as one would who has a model and reads one event at a time: a dictionary from item id to number, a
session of the newest items and the encoder's state, one step of the encoder, one search, and a filter for
what the user has just seen.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch

from encoders.bundle import read_encoder_bundle
from encoders.gru import GRUEncoder
from encoders.protocols import FloatArray
from index.build import load_index

Step = Callable[[FloatArray, int], tuple[FloatArray, FloatArray]]
"""A state and an item number to the new state and the query vector. Shapes: ``(S,)`` to ``(S,)`` and ``(D,)``."""


class PeerSession(NamedTuple):
    """A user's newest items, oldest first, and the state of the encoder after them."""

    items: list[int]
    state: FloatArray

    def pack(self) -> bytes:
        """The stored form: 4 bytes of each number, the state first."""
        return self.state.tobytes() + np.array(self.items, dtype=np.int32).tobytes()

    @classmethod
    def unpack(cls, stored: bytes, state_size: int) -> PeerSession:
        """What `pack` stored."""
        state = np.frombuffer(stored, dtype=np.float32, count=state_size)
        return cls(np.frombuffer(stored, dtype=np.int32, offset=4 * state_size).tolist(), state)


class Recommender:
    """Answers one event at a time.

    Args:
        bundle: Folder of the bundle.
        top_n: Length of a list.

    Raises:
        BundleError: If the bundle cannot be read.
        VectorIndexError: If its index cannot.
    """

    def __init__(self, bundle: Path, top_n: int) -> None:
        torch.set_num_threads(1)
        faiss.omp_set_num_threads(1)
        read = read_encoder_bundle(bundle)
        encoder = read.encoder
        assert isinstance(encoder, GRUEncoder), "the bundles of the benchmark hold nothing else"
        self._index = load_index(read.index_path, read.manifest.index.kind)
        self._ids = ["", *read.vocabulary.item_ids]
        self._numbers = {item_id: number for number, item_id in enumerate(self._ids) if number}
        self._rule = read.manifest.window_rule
        self._top_n, self._encoder = top_n, encoder
        self._step = numpy_step(encoder)

    def answer(self, stored: bytes | None, item_id: str) -> tuple[bytes, list[dict[str, Any]]]:
        """The session after one more item, and the list for it, best first."""
        known = PeerSession.unpack(stored, self._encoder.state_size) if stored else None
        session, query = self._after(known, self._numbers.get(item_id, 0))
        seen = set(session.items)
        found, scores = self._index.search(query[None], self._top_n + len(seen))
        best = zip(found[0].tolist(), scores[0].tolist(), strict=True)
        unseen = [(number, score) for number, score in best if number and number not in seen][: self._top_n]
        return session.pack(), [{"item_id": self._ids[number], "score": score} for number, score in unseen]

    def _after(self, session: PeerSession | None, number: int) -> tuple[PeerSession, FloatArray]:
        """One more item; a full window restarts from its newest half, as ours does, and is read anew."""
        items, state = session or PeerSession([], self._encoder.initial_states(1)[0])
        if not number or items[-1:] == [number]:
            return PeerSession(items, state), self._encoder.vectors(state[None])[0]
        if len(items) < self._rule.max_len:
            state, query = self._step(state, number)
            return PeerSession([*items, number], state), query
        items = [*items[-(self._rule.max_len // 2) :], number]
        states, queries = self._encoder.encode(np.array([items]))
        return PeerSession(items, states[0]), queries[0]


def numpy_step(encoder: GRUEncoder) -> Step:
    """The encoder's step for one row, with its weights in numpy: for one event, torch's own overhead is twice the work.

    Reset and update gate, candidate and projection as `torch.nn.GRU` defines them.
    """
    weights, vectors, n = encoder.weights, encoder.item_vectors, encoder.state_size
    from_item, item_bias = weights["gru.weight_ih_l0"], weights["gru.bias_ih_l0"]
    from_state, state_bias = weights["gru.weight_hh_l0"], weights["gru.bias_hh_l0"]
    project, project_bias = weights["project.weight"], weights["project.bias"]

    def step(state: FloatArray, number: int) -> tuple[FloatArray, FloatArray]:
        x, h = from_item @ vectors[number] + item_bias, from_state @ state + state_bias
        gates = 1 / (1 + np.exp(-(x[: 2 * n] + h[: 2 * n])))
        new = np.tanh(x[2 * n :] + gates[:n] * h[2 * n :])
        after: FloatArray = new + gates[n:] * (state - new)
        return after, project @ after + project_bias

    return step
