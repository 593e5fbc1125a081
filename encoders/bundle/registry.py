"""The encoders that a bundle may hold."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, Self

import numpy.typing as npt

from encoders.gru import GRUEncoder
from encoders.lru import LRUEncoder
from encoders.neural import ModuleEncoder
from encoders.protocols import FloatArray, SequenceEncoder
from encoders.sasrec import SASRecEncoder


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


ENCODERS: dict[str, type[ModuleEncoder[Any]]] = {
    encoder.kind: encoder for encoder in (GRUEncoder, LRUEncoder, SASRecEncoder)
}
"""The encoders that a bundle may hold, and that may be trained, by the manifest's `kind`."""
