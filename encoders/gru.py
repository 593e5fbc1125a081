"""GRU4Rec with tied item embeddings: the trainable module and its encoder for serving, on CPU in float32.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` hidden dimension.

References:
    Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from encoders.gru_step import GRUSteps
from encoders.neural import Dropout, ModuleEncoder, SequenceModule
from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM


class GRUConfig(BaseModel):
    """What a GRU encoder is made of. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=1)
    """``D``, of item vectors and query vectors."""
    hidden_dim: int = Field(default=128, ge=1)
    """``H``, of the recurrent state."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of each item embedding that training blanks out; serving blanks nothing."""


class GRUModule(SequenceModule):
    """Item embeddings, one GRU layer, and a projection back into the space of the embeddings."""

    config: GRUConfig

    def __init__(self, n_items: int, config: GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embeddings = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=PADDING_ITEM)
        self.dropout = Dropout(config.dropout)
        self.gru = nn.GRU(config.embedding_dim, config.hidden_dim, batch_first=True)
        self.project = nn.Linear(config.hidden_dim, config.embedding_dim)

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item; see `SequenceModule.forward`."""
        hidden_BTH, _ = self.gru(self.dropout(self.item_embeddings(windows_BT)))
        projected: Tensor = self.project(self.dropout(hidden_BTH))
        return projected


class GRUEncoder(ModuleEncoder[GRUModule]):
    """A trained `GRUModule` as a `SequenceEncoder`; the state is the GRU's hidden vector."""

    kind: ClassVar[str] = "gru"
    Config = GRUConfig
    Module = GRUModule

    def __init__(self, module: GRUModule) -> None:
        super().__init__(module)
        of_input, of_state, input_bias, state_bias = (w.detach().numpy() for w in module.gru.all_weights[0])
        self._steps = GRUSteps(self.item_vectors, of_input, of_state, input_bias, state_bias)
        self._project_HD = np.ascontiguousarray(module.project.weight.detach().numpy().T)
        self._bias_D = module.project.bias.detach().numpy()

    @property
    def state_size(self) -> int:
        """``S``, here ``H``."""
        return self.module.config.hidden_dim

    def place(self, items: IntArray, vectors: FloatArray) -> None:
        """Let some items have other vectors; see `ModuleEncoder.place`."""
        super().place(items, vectors)
        self._steps.renew(items)

    def _states_after(self, windows_BT: IntArray, last_B: IntArray) -> FloatArray:
        return self._steps.through(windows_BT, last_B + 1)

    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`."""
        after_BH = self._steps.after(states, items)
        return after_BH, self.vectors(after_BH)

    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""
        vectors_BD: FloatArray = states @ self._project_HD + self._bias_D
        return vectors_BD
