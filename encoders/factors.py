"""Matrix factorisation: fitted item vectors, and a user vector folded in from the window, event by event.

The user vector ``x`` of a window is the one that least squares would give to a user who did nothing else, with an event
counting half as much for every half-life of later ones:

    minimise   sum_t w_t (1 - x . y_t)^2  +  (1 / alpha) (sum_i (x . y_i)^2 + regularization |x|^2)

where ``y_t`` are the vectors of the window's items, ``w_t`` what they count and ``y_i`` those of all items. Without
decay that is the user's step of alternating least squares. Item vectors are kept whitened, so that the second sum with
its regularization is ``|x|^2``: then ``x = alpha (I + alpha M)^-1 b`` with ``M = sum_t w_t y_t y_t^T`` and
``b = sum_t w_t y_t``, which one event more changes in one place each. Inner products are what they were.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``S`` state size.

References:
    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008.
    Rendle, Krichene, Zhang and Koren, "Revisiting the performance of iALS on item recommendation benchmarks",
    RecSys 2022.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from encoders.compiled import compiled
from encoders.protocols import DoubleArray, FloatArray, IntArray, SequenceEncoder
from encoders.vocabulary import PADDING_ITEM


class FactorsConfig(BaseModel):
    """How user vectors are folded in. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=2)
    """``D``, of item vectors and user vectors."""
    alpha: float = Field(default=3.0, gt=0)
    """How much more a pair of user and item counts for each event than one without any."""
    half_life: float | None = Field(default=5.0, gt=0)
    """An event counts half as much for every so many later ones of the window; None for no decay."""


class FactorsEncoder(SequenceEncoder):
    """Fitted item vectors as a `SequenceEncoder`; the state is the sums that the user vector is solved from.

    It holds ``b`` and the lower triangle of ``M``, row by row: ``S = D + D (D + 1) / 2`` numbers.

    Args:
        config: How user vectors are folded in.
        item_vectors: Whitened, see `whitened`; row 0 is padding and zero.

    Shape:
        - item_vectors: ``(n_items + 1, D)``

    Raises:
        ValueError: If the vectors are of another dimension than the configuration says.
    """

    kind: ClassVar[str] = "mf"
    Config: ClassVar[type[FactorsConfig]] = FactorsConfig

    def __init__(self, config: FactorsConfig, item_vectors: FloatArray) -> None:
        if item_vectors.shape[1] != config.embedding_dim:
            raise ValueError(f"item vectors of {item_vectors.shape[1]} dimensions, not {config.embedding_dim}")
        self._config, self._vectors = config, item_vectors
        self._keep = np.float32(0.5 ** (1 / config.half_life)) if config.half_life else np.float32(1)
        """What an event counts after one more, relative to what it did."""

    @classmethod
    def load(cls, config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]], item_vectors: FloatArray) -> Self:
        """Rebuild an encoder from what `config`, `weights` and `item_vectors` gave.

        Raises:
            ValueError: If the configuration is not one of this kind, or of other item vectors, or there are weights.
        """
        if weights:
            raise ValueError(f"unknown weight {min(weights)!r}: there are none beside the item vectors")
        return cls(FactorsConfig.model_validate(config), item_vectors)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as the manifest holds it."""
        return self._config.model_dump(mode="json")

    @property
    def weights(self) -> dict[str, FloatArray]:
        """None: the item vectors are all there is."""
        return {}

    @property
    def item_vectors(self) -> FloatArray:
        """What the index searches; row 0 is padding and zero. Shape: ``(n_items + 1, D)``."""
        return self._vectors

    @property
    def embedding_dim(self) -> int:
        """``D``: length of a user vector, and of an item vector."""
        return self._config.embedding_dim

    @property
    def state_size(self) -> int:
        """``S = D + D (D + 1) / 2``."""
        D = self.embedding_dim
        return D + D * (D + 1) // 2

    def place(self, items: IntArray, vectors: FloatArray) -> None:
        """Let some items have other vectors from now on, in place. Shape: ``(B,)`` and ``(B, D)``."""
        self._vectors[items] = vectors

    def initial_states(self, n: int) -> FloatArray:
        """States of ``n`` empty windows. Shape: ``(n, S)``."""
        return np.zeros((n, self.state_size), dtype=np.float32)

    def encode(self, windows: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and user vectors of whole windows; see `SequenceEncoder.encode`."""
        is_item = windows != PADDING_ITEM
        n_later = np.cumsum(is_item[:, ::-1], axis=1)[:, ::-1] - 1
        counts_BT = np.where(is_item, self._keep ** np.maximum(n_later, 0), 0).astype(np.float32)
        vectors_BTD = self._vectors[windows]
        weighed_BDT = (vectors_BTD * counts_BT[..., None]).transpose(0, 2, 1)
        states = np.empty((len(windows), self.state_size), dtype=np.float32)
        states[:, : self.embedding_dim] = weighed_BDT.sum(axis=2)
        rows, columns = np.tril_indices(self.embedding_dim)
        states[:, self.embedding_dim :] = (weighed_BDT @ vectors_BTD)[:, rows, columns]
        return states, self.vectors(states)

    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and user vectors after one more item each; see `SequenceEncoder.step`."""
        after = states * self._keep
        _add(after, self._vectors[items])
        return after, self.vectors(after)

    def vectors(self, states: FloatArray) -> FloatArray:
        """User vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""
        D, alpha = self.embedding_dim, self._config.alpha
        systems_BDD, sides_BD1 = np.empty((len(states), D, D)), alpha * states[:, :D, None].astype(np.float64)
        _lay_out(states, alpha, systems_BDD)
        solved: FloatArray = np.linalg.solve(systems_BDD, sides_BD1)[..., 0].astype(np.float32)
        return solved


def whitened(item_vectors: FloatArray, regularization: float) -> FloatArray:
    """Vectors with the same inner products between items and users, for users of whom little is known.

    Where ``G = sum_i y_i y_i^T + regularization I`` is ``L L^T``, an item's vector ``y`` becomes ``L^-1 y``. A user
    vector ``x`` would become ``L^T x``, and ``x^T G x`` its square.

    Shape:
        - item_vectors: ``(n_items, D)``
        - Output: ``(n_items, D)``

    Example:
        >>> whitened(np.array([[3.0, 0.0], [0.0, 1.0]], dtype=np.float32), regularization=0.0)
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """
    exact = item_vectors.astype(np.float64)
    lower = np.linalg.cholesky(exact.T @ exact + regularization * np.eye(exact.shape[1]))
    result: FloatArray = np.linalg.solve(lower, exact.T).T.astype(np.float32)
    return np.ascontiguousarray(result)


@compiled
def _add(states: FloatArray, vectors_BD: FloatArray) -> None:
    """Add an event that counts 1 to each state."""
    D = vectors_BD.shape[1]
    for b in range(len(states)):
        state, vector, at = states[b], vectors_BD[b], D
        for row in range(D):
            state[row] += vector[row]
            for column in range(row + 1):
                state[at + column] += vector[row] * vector[column]
            at += row + 1


@compiled
def _lay_out(states: FloatArray, alpha: float, systems_BDD: DoubleArray) -> None:
    """Write ``I + alpha M`` for each state."""
    D = systems_BDD.shape[1]
    for b in range(len(states)):
        system, at = systems_BDD[b], D
        for row in range(D):
            for column in range(row + 1):
                value = alpha * states[b, at + column]
                system[row, column] = value
                system[column, row] = value
            system[row, row] += 1
            at += row + 1
