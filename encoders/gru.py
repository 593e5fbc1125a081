"""GRU4Rec with tied item embeddings: the trainable module and its encoder for serving, on CPU in float32.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` hidden dimension.

References:
    Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from encoders.neural import Dropout, ModuleEncoder, SequenceModule, tensor_of
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
        self._cell = [w.detach() for w in module.gru.all_weights[0]]

    @property
    def state_size(self) -> int:
        """``S``, here ``H``."""
        return self.module.config.hidden_dim

    def _states_after(self, windows_BT: Tensor, last_B: Tensor) -> Tensor:
        hidden_BTH, _ = self.module.gru(self._embeddings[windows_BT])
        states_BH: Tensor = hidden_BTH[torch.arange(len(last_B)), last_B]
        return states_BH

    @torch.inference_mode()
    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`."""
        embedded_BD = self._embeddings[torch.from_numpy(items)]
        hidden_BH = torch.gru_cell(embedded_BD, tensor_of(states), *self._cell)
        return hidden_BH.numpy(), self.module.project(hidden_BH).numpy()

    @torch.inference_mode()
    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""
        vectors: FloatArray = self.module.project(tensor_of(states)).numpy()
        return vectors
