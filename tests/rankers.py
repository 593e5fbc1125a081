"""Small models and a report for the tests of evaluation."""

from __future__ import annotations

import numpy as np

from encoders.protocols import FloatArray, IntArray, SequenceEncoder
from trainer.evaluation.run import FullScores


class Silent:
    """A report that keeps what it was told of progress."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int, int]] = []

    def say(self, text: str) -> None:
        raise AssertionError(f"nothing was to be said, but: {text}")

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        self.told.append((label, done, total))


class Telling(Silent):
    """A report that keeps what was said, too."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, text: str) -> None:
        self.said.append(text)


class _Alike(SequenceEncoder):
    """An encoder of one dimension whose query is 1, so that item vectors are scores."""

    def encode(self, windows: IntArray) -> tuple[FloatArray, FloatArray]:
        ones = np.ones((len(windows), 1), dtype=np.float32)
        return ones, ones


def full_scores(values: FloatArray) -> FullScores:
    """A model that scores every item alike for everyone. Shape: ``(n_items + 1,)``."""
    return FullScores(_Alike(), values[:, None])


class Fixed:
    """A retriever that gives everyone the same few items, and then pads."""

    def __init__(self, *items: int) -> None:
        self._items = items

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        n = min(k, len(self._items))
        items = np.zeros((len(windows), k), dtype=np.int64)
        items[:, :n] = self._items[:n]
        return items, np.zeros(items.shape, dtype=np.float32)
