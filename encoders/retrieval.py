"""A sequence encoder and an index, together a `Retriever`."""

from __future__ import annotations

from typing import Protocol

from encoders.protocols import FloatArray, IntArray, SequenceEncoder


class ItemSearch(Protocol):
    """The part of a vector index that retrieval needs."""

    def search(self, queries: FloatArray, k: int) -> tuple[IntArray, FloatArray]:
        """Item numbers and scores, best first. Shape: ``(B, D)`` to ``(B, k)`` and ``(B, k)``."""


class EncoderRetriever:
    """Encodes whole windows and asks the index for the items nearest to them.

    Args:
        encoder: Turns windows into query vectors.
        index: Holds the item vectors of the same model.
    """

    def __init__(self, encoder: SequenceEncoder, index: ItemSearch) -> None:
        self._encoder = encoder
        self._index = index

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` items for each window, best first; see `Retriever.retrieve`."""
        _, queries = self._encoder.encode(windows)
        return self._index.search(queries, k)
