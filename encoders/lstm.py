"""LSTM over item embeddings, beside the GRU: a cell that keeps what its gates do not let go, and what it shows of it.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` hidden dimension.

References:
    Hochreiter and Schmidhuber, "Long short-term memory", Neural Computation 1997.
    Devooght and Bersini, "Long and short-term recommendations with recurrent neural networks", UMAP 2017.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from encoders.neural import Dropout, ModuleEncoder, SequenceModule, tensor_of
from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM


class LSTMConfig(BaseModel):
    """What an LSTM encoder is made of. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=1)
    """``D``, of item vectors and query vectors."""
    hidden_dim: int = Field(default=128, ge=1)
    """``H``, of the cell and of the hidden vector."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of each item embedding, and of each hidden vector, that training blanks out."""


class LSTMModule(SequenceModule):
    """Item embeddings, one LSTM layer, and a projection back into the space of the embeddings."""

    config: LSTMConfig

    def __init__(self, n_items: int, config: LSTMConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embeddings = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=PADDING_ITEM)
        self.dropout = Dropout(config.dropout)
        self.lstm = nn.LSTM(config.embedding_dim, config.hidden_dim, batch_first=True)
        self.project = nn.Linear(config.hidden_dim, config.embedding_dim)

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item; see `SequenceModule.forward`."""
        hidden_BTH, _ = self.lstm(self.dropout(self.item_embeddings(windows_BT)))
        projected: Tensor = self.project(self.dropout(hidden_BTH))
        return projected


class LSTMEncoder(ModuleEncoder[LSTMModule]):
    """A trained `LSTMModule` as a `SequenceEncoder`; the state is the hidden vector and the cell."""

    kind: ClassVar[str] = "lstm"
    Config = LSTMConfig
    Module = LSTMModule

    @property
    def state_size(self) -> int:
        """``S = 2 * H``."""
        return 2 * self.module.config.hidden_dim

    @torch.inference_mode()
    def _states_after(self, windows_BT: IntArray, last_B: IntArray) -> FloatArray:
        items_BTD = self.module.item_embeddings(torch.from_numpy(windows_BT))
        lengths_B = torch.from_numpy(last_B + 1)
        packed = pack_padded_sequence(items_BTD, lengths_B, batch_first=True, enforce_sorted=False)
        _, (hidden_1BH, cell_1BH) = self.module.lstm(packed)
        after: FloatArray = torch.cat([hidden_1BH[0], cell_1BH[0]], dim=1).numpy()
        return after

    @torch.inference_mode()
    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`."""
        if not len(items):
            return states.copy(), self.vectors(states)
        hidden_1BH, cell_1BH = tensor_of(states)[None].chunk(2, dim=-1)
        items_B1D = self.module.item_embeddings(torch.from_numpy(items))[:, None]
        _, after = self.module.lstm(items_B1D, (hidden_1BH.contiguous(), cell_1BH.contiguous()))
        stepped: FloatArray = torch.cat(after, dim=-1)[0].numpy()
        return stepped, self.vectors(stepped)

    @torch.inference_mode()
    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""
        vectors_BD: FloatArray = self.module.project(tensor_of(states)[:, : self.module.config.hidden_dim]).numpy()
        return vectors_BD
