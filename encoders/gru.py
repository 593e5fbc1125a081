"""GRU4Rec with tied item embeddings: the trainable module and its encoder for serving, on CPU in float32.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` hidden dimension.

References:
    Hidasi et al., "Session-based recommendations with recurrent neural networks", ICLR 2016.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM

EMBEDDINGS = "item_embeddings.weight"
"""Name of the parameter that a bundle stores as its item vectors, since input and output share it."""


class GRUConfig(BaseModel):
    """What a GRU encoder is made of. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=1)
    """``D``, of item vectors and query vectors."""
    hidden_dim: int = Field(default=128, ge=1)
    """``H``, of the recurrent state."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Share of each item embedding that training blanks out; serving blanks nothing."""


class GRUModule(nn.Module):
    """Item embeddings, one GRU layer, and a projection back into the space of the embeddings.

    An item's logit is the inner product of query vector and item embedding, without a bias, so the
    embeddings are what the index searches.
    """

    def __init__(self, n_items: int, config: GRUConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embeddings = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=PADDING_ITEM)
        self.dropout = nn.Dropout(config.dropout)
        self.gru = nn.GRU(config.embedding_dim, config.hidden_dim, batch_first=True)
        self.project = nn.Linear(config.hidden_dim, config.embedding_dim)

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item.

        Args:
            windows_BT: Item numbers, oldest first, padded on the right.

        Shape:
            - windows_BT: ``(B, T)``
            - Output: ``(B, T, D)``
        """
        hidden_BTH, _ = self.gru(self.dropout(self.item_embeddings(windows_BT)))
        projected: Tensor = self.project(self.dropout(hidden_BTH))
        return projected


class GRUEncoder:
    """A trained `GRUModule` as a `SequenceEncoder`; the state is the GRU's hidden vector."""

    kind: ClassVar[str] = "gru"

    def __init__(self, module: GRUModule) -> None:
        self.module = module.eval()
        self._embeddings = module.item_embeddings.weight.detach()
        self._cell = [w.detach() for w in module.gru.all_weights[0]]

    @classmethod
    def load(cls, config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]], item_vectors: FloatArray) -> Self:
        """Rebuild an encoder from what `config`, `weights` and `item_vectors` gave.

        Raises:
            ValueError: If the configuration is not one of a GRU, or of other item vectors.
            RuntimeError: If a weight is missing, unknown or of another shape than the configuration says.
        """
        # Made without items: on the device "meta", the other way to skip initial values, torch imports SymPy first,
        # two seconds of CPU.
        module = GRUModule(0, GRUConfig.model_validate(config))
        if item_vectors.shape[1] != module.config.embedding_dim:
            raise ValueError(f"item vectors of {item_vectors.shape[1]} dimensions, not {module.config.embedding_dim}")
        vectors = torch.from_numpy(item_vectors)
        module.item_embeddings = nn.Embedding(len(vectors), vectors.shape[1], PADDING_ITEM, _weight=vectors)
        tensors = {name: torch.from_numpy(array) for name, array in weights.items()}
        module.load_state_dict({**tensors, EMBEDDINGS: vectors}, assign=True)
        return cls(module)

    @property
    def config(self) -> dict[str, Any]:
        """The configuration, as the manifest holds it."""
        return self.module.config.model_dump(mode="json")

    @property
    def weights(self) -> dict[str, FloatArray]:
        """All parameters except the item embeddings, which are the item vectors."""
        return {name: t.numpy() for name, t in self.module.state_dict().items() if name != EMBEDDINGS}

    @property
    def item_vectors(self) -> FloatArray:
        """What the index searches; row 0 is padding and zero. Shape: ``(n_items + 1, D)``."""
        return self._embeddings.numpy()

    @property
    def embedding_dim(self) -> int:
        """``D``: length of a query vector, and of an item vector."""
        return self.module.config.embedding_dim

    @property
    def state_size(self) -> int:
        """``S``, here ``H``."""
        return self.module.config.hidden_dim

    def initial_states(self, n: int) -> FloatArray:
        """States of ``n`` empty windows. Shape: ``(n, S)``."""
        return np.zeros((n, self.state_size), dtype=np.float32)

    @torch.inference_mode()
    def encode(self, windows: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors of whole windows; see `SequenceEncoder.encode`."""
        is_item = windows != PADDING_ITEM
        lengths = is_item.sum(axis=1)
        longest = int(lengths.max(initial=0))
        if longest == 0:
            states = self.initial_states(len(windows))
            return states, self.vectors(states)
        # Items first and padding last, so that what follows a row's last item cannot reach its state.
        items_first = np.argsort(~is_item, axis=1, kind="stable")[:, :longest]
        compact_BT = torch.from_numpy(np.take_along_axis(windows, items_first, axis=1))
        hidden_BTH, _ = self.module.gru(self._embeddings[compact_BT])
        last_BH = hidden_BTH[torch.arange(len(windows)), torch.from_numpy(lengths - 1).clamp(min=0)]
        last_BH[torch.from_numpy(lengths == 0)] = 0
        return last_BH.numpy(), self.module.project(last_BH).numpy()

    @torch.inference_mode()
    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`."""
        embedded_BD = self._embeddings[torch.from_numpy(items)]
        hidden_BH = torch.gru_cell(embedded_BD, _tensor(states), *self._cell)
        return hidden_BH.numpy(), self.module.project(hidden_BH).numpy()

    @torch.inference_mode()
    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for. Shape: ``(B, S)`` to ``(B, D)``."""
        vectors: FloatArray = self.module.project(_tensor(states)).numpy()
        return vectors


def _tensor(states: FloatArray) -> Tensor:
    """States as a tensor; copied only where they lie in read-only memory, which torch warns about."""
    return torch.from_numpy(states if states.flags.writeable else states.copy())
