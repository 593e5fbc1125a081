"""What a model must be able to do, for the worker and for evaluation.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``S`` state size.
"""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt

DoubleArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
FloatArray = npt.NDArray[np.float32]


class SequenceEncoder(Protocol):
    """Turns a window of item numbers into a query vector, at once or one item at a time.

    Stepping item by item must give what encoding the whole window gives, within 1e-4. Item number 0
    is padding: `encode` skips it wherever it stands, `step` is never given it. Neither blocks on I/O.
    """

    @property
    def embedding_dim(self) -> int:
        """``D``: length of a query vector, and of an item vector."""

    @property
    def state_size(self) -> int:
        """``S``: how many float32 numbers carry the encoder's state of one window."""

    def initial_states(self, n: int) -> FloatArray:
        """States of ``n`` empty windows. Shape: ``(n, S)``."""

    def encode(self, windows: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors of whole windows.

        Args:
            windows: Item numbers, oldest first, padded on the left with 0.

        Shape:
            - windows: ``(B, T)``
            - Output: ``(B, S)`` and ``(B, D)``
        """

    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; the given states are left alone.

        Shape:
            - states: ``(B, S)``
            - items: ``(B,)``, each at least 1
            - Output: ``(B, S)`` and ``(B, D)``
        """

    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""


class Retriever(Protocol):
    """Answers a window with the best items. Evaluation and candidate sources know only this."""

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` items for each window, best first.

        Args:
            windows: Item numbers, oldest first, padded on the left with 0.
            k: How many, at least 1. Where there are fewer items, the rest is item number 0 with
                score minus infinity.

        Shape:
            - windows: ``(B, T)``
            - Output: item numbers ``(B, k)`` and scores ``(B, k)``
        """


@runtime_checkable
class LiveRetriever(Retriever, Protocol):
    """A `Retriever` that learns every event; learning all events once is its training.

    The next `retrieve` knows all that was learned before it. Learning events in one batch or in several, however they
    are cut, comes to the same, and asking changes no answer. What is held is bounded; each implementation says by
    what, and what goes first. One thread at a time may learn or ask.
    """

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Let in the next events, in the order of their arrival; events of all sessions are mixed as they came.

        Args:
            sessions: Code of the session of each event, any int64. Whoever calls decides what a session is: all events
                of a user, or those without a long gap.
            items: Item numbers. One above all that came before is a new item, and arrays over all item numbers grow by
                doubling. 0, which stands for every unknown item, is not learned.
            times_s: When the events happened, in seconds since any one moment; may go backwards.

        Shape:
            - sessions, items, times_s: ``(B,)``
        """
