"""The models that a bundle may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy.typing as npt
from pydantic import BaseModel

from encoders.factors import FactorsEncoder
from encoders.gru import GRUEncoder
from encoders.lru import LRUEncoder
from encoders.lstm import LSTMEncoder
from encoders.markov import Markov
from encoders.neural import ModuleEncoder
from encoders.popularity import LivePopularity
from encoders.protocols import FloatArray, IntArray, LiveRetriever, SequenceEncoder
from encoders.sasrec import SASRecEncoder
from encoders.saved import Arrays
from encoders.session_knn import SessionKNN


class BundledEncoder(SequenceEncoder, Protocol):
    """A sequence encoder that can be written to a bundle and read back."""

    kind: ClassVar[str]

    @classmethod
    def load(cls, config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]], item_vectors: FloatArray) -> Self:
        """Rebuild an encoder; ValueError or RuntimeError where the parts do not fit together."""

    @property
    def config(self) -> dict[str, Any]:
        """Configuration, as JSON can hold it."""

    @property
    def weights(self) -> dict[str, FloatArray]:
        """All parameters that are not item vectors."""

    @property
    def item_vectors(self) -> FloatArray:
        """What the index searches; row 0 is zero. Shape: ``(n_items + 1, D)``."""

    def place(self, items: IntArray, vectors: FloatArray) -> None:
        """Let some items have other vectors from now on, in place. Shape: ``(B,)`` and ``(B, D)``."""


class BundledRetriever(LiveRetriever, Protocol):
    """A retriever that can be written to a bundle and read back, as often as one likes: it goes on learning."""

    kind: ClassVar[str]
    Config: ClassVar[type[BaseModel]]

    def __init__(self, config: Any = None) -> None:
        """One that has learned nothing, with a configuration of the type `Config`."""

    @property
    def config(self) -> BaseModel:
        """Configuration."""

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """All that was learned, in arrays of one dimension and finite numbers, which the retriever does not share."""

    @classmethod
    def restored(cls, config: Mapping[str, Any], arrays: Arrays, n_items: int) -> Self:
        """One that answers and goes on learning exactly as the one whose `config` and `arrays` these are.

        Args:
            config: Configuration, as JSON can hold it.
            arrays: What was learned, which may come from anywhere: nothing is believed unchecked.
            n_items: Highest item number.

        Raises:
            ValueError: If it cannot have been learned under this configuration, of so many items.
        """


NETWORKS: dict[str, type[ModuleEncoder[Any]]] = {
    encoder.kind: encoder for encoder in (GRUEncoder, LSTMEncoder, LRUEncoder, SASRecEncoder)
}
"""The encoders that are fitted by gradient descent, by the manifest's `kind`."""

ENCODERS: dict[str, type[BundledEncoder]] = {**NETWORKS, FactorsEncoder.kind: FactorsEncoder}
"""All encoders that a bundle may hold, and that may be trained."""

_ALL_RETRIEVERS: tuple[type[BundledRetriever], ...] = (LivePopularity, Markov, SessionKNN)
RETRIEVERS: dict[str, type[BundledRetriever]] = {retriever.kind: retriever for retriever in _ALL_RETRIEVERS}
"""The same of retrievers."""
