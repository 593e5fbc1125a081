"""LRURec: linear recurrent units, trained in parallel and served one step at a time.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``H`` channels of a recurrence,
``L`` layers, ``C`` items of a chunk, ``N`` chunks of a window, ``M`` numbers of a chunk, two for each item.

References:
    Orvieto et al., "Resurrecting recurrent neural networks for long sequences", ICML 2023.
    Yue et al., "Linear recurrent units for sequential recommendation", WSDM 2024.
"""

from __future__ import annotations

from math import pi
from typing import ClassVar, cast

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from encoders.neural import Dropout, ModuleEncoder, SequenceModule, tensor_of
from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM

CHUNK = 16
"""Items that one triangular product covers; what comes before a chunk reaches it through one carried state."""
_SLOWEST, _FASTEST = 0.99, 0.8
"""Between these the moduli of the decays begin: how much of a state is left after an item."""


class LRUConfig(BaseModel):
    """What an LRU encoder is made of. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=1)
    """``D``, of item vectors, query vectors, and between the layers."""
    hidden_dim: int = Field(default=128, ge=1)
    """``H``, complex channels of each recurrence."""
    n_layers: int = Field(default=2, ge=1)
    """``L``."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of item embeddings, of what a recurrence gives, and within the feed-forward layers."""


def recurrence(inputs_BTH: Tensor, log_decay_H: Tensor) -> Tensor:
    """All states of ``state[t] = exp(log_decay) * state[t - 1] + inputs[t]``, from zero.

    Within a chunk it is a product with a triangular matrix for each channel, ``exp(log_decay * (t - s))`` where
    ``s <= t``. That takes ``C / 2`` times as many operations as going step by step, and the processor is far better
    at them. They are products of real matrices: torch takes complex ones apart, and in turn.

    Shape:
        - inputs_BTH: ``(B, T, H)``, complex
        - log_decay_H: ``(H,)``, complex, real parts negative
        - Output: ``(B, T, H)``
    """
    B, T, H = inputs_BTH.shape
    C = min(CHUNK, T)
    N = -(-T // C)
    ages_C = torch.arange(C, dtype=log_decay_H.real.dtype, device=log_decay_H.device)
    powers_HC = torch.exp(log_decay_H[:, None] * ages_C)
    # Row s of the matrix is power t - s at t: a window that moves over the powers, with zeros for negative ones.
    decays_HCC = nn.functional.pad(powers_HC, (C - 1, 0)).unfold(1, C, 1).flip(1)
    re, im = decays_HCC.real, decays_HCC.imag
    pairs_HMM = torch.stack([torch.stack([re, im], -1), torch.stack([-im, re], -1)], 2).reshape(H, 2 * C, 2 * C)
    padded_BTH = nn.functional.pad(inputs_BTH, (0, 0, 0, N * C - T))
    chunks_HBC = padded_BTH.reshape(B * N, C, H).permute(2, 0, 1).contiguous()
    states_HBC2 = (torch.view_as_real(chunks_HBC).flatten(2) @ pairs_HMM).view(H, B * N, C, 2)
    states_BNCH = torch.view_as_complex(states_HBC2).permute(1, 2, 0).reshape(B, N, C, H)
    if N > 1:
        ends_BNH, whole_H = states_BNCH[:, :, -1], torch.exp(log_decay_H * C)
        carried_BH = torch.zeros_like(ends_BNH[:, 0])
        before = [carried_BH]
        for n in range(N - 1):
            carried_BH = ends_BNH[:, n] + whole_H * carried_BH
            before.append(carried_BH)
        since_CH = (powers_HC * torch.exp(log_decay_H)[:, None]).T
        states_BNCH = states_BNCH + since_CH * torch.stack(before, dim=1)[:, :, None]
    return states_BNCH.reshape(B, N * C, H)[:, :T]


class LRULayer(nn.Module):
    """A linear recurrence and a feed-forward network, each with a residual connection and a norm behind it."""

    def __init__(self, config: LRUConfig) -> None:
        super().__init__()
        D, H = config.embedding_dim, config.hidden_dim
        modulus_H = torch.sqrt(torch.rand(H) * (_SLOWEST**2 - _FASTEST**2) + _FASTEST**2)
        self.log_damping = nn.Parameter(torch.log(-torch.log(modulus_H)))
        self.log_angle = nn.Parameter(torch.log(torch.rand(H).clamp(min=1e-4) * 2 * pi))
        self.log_gain = nn.Parameter(torch.log(1 - modulus_H**2) / 2)
        """Keeps the variance of a state near that of its inputs, however long they are remembered."""
        self.into, self.out_of = nn.Linear(D, 2 * H), nn.Linear(2 * H, D)
        self.widen, self.narrow = nn.Linear(D, 4 * D), nn.Linear(4 * D, D)
        self.recurrence_norm, self.forward_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.dropout = Dropout(config.dropout)

    @property
    def log_decay(self) -> Tensor:
        """Logarithm of what an item leaves of the state before it. Shape: ``(H,)``, complex."""
        return torch.complex(-torch.exp(self.log_damping), torch.exp(self.log_angle))

    def inputs(self, x: Tensor) -> Tensor:
        """What the recurrence takes in. Shape: ``(..., D)`` to ``(..., H)``, complex."""
        pairs = self.into(x).unflatten(-1, (-1, 2)) * torch.exp(self.log_gain)[:, None]
        return torch.view_as_complex(pairs)

    def outputs(self, x: Tensor, states: Tensor) -> Tensor:
        """What the next layer sees. Shape: ``(..., D)`` and ``(..., H)``, complex, to ``(..., D)``."""
        x = self.recurrence_norm(x + self.dropout(self.out_of(torch.view_as_real(states).flatten(-2))))
        wide = self.dropout(nn.functional.gelu(self.widen(x)))
        out: Tensor = self.forward_norm(x + self.dropout(self.narrow(wide)))
        return out


class LRUModule(SequenceModule):
    """Item embeddings and layers; the last one's output is the query vector."""

    config: LRUConfig

    def __init__(self, n_items: int, config: LRUConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embeddings = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=PADDING_ITEM)
        self.norm, self.dropout = nn.LayerNorm(config.embedding_dim), Dropout(config.dropout)
        self.stack = nn.ModuleList(LRULayer(config) for _ in range(config.n_layers))

    @property
    def layers(self) -> list[LRULayer]:
        """From the items to the query vector."""
        return cast("list[LRULayer]", list(self.stack))

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item; see `SequenceModule.forward`."""
        return self.unrolled(windows_BT)[0]

    def unrolled(self, windows_BT: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Query vectors, and the states of each layer.

        Shape:
            - windows_BT: ``(B, T)``, padded on the right
            - Output: ``(B, T, D)`` and, for each layer, ``(B, T, H)``, complex
        """
        states: list[Tensor] = []
        x_BTD = self.embedded(windows_BT)
        for layer in self.layers:
            states.append(recurrence(layer.inputs(x_BTD), layer.log_decay))
            x_BTD = layer.outputs(x_BTD, states[-1])
        return x_BTD, states

    def embedded(self, items: Tensor) -> Tensor:
        """What the first layer sees. Shape: ``(...)`` to ``(..., D)``."""
        embedded: Tensor = self.norm(self.dropout(self.item_embeddings(items)))
        return embedded


class LRUEncoder(ModuleEncoder[LRUModule]):
    """A trained `LRUModule` as a `SequenceEncoder`; the state is that of each layer, and the query vector."""

    kind: ClassVar[str] = "lru"
    Config = LRUConfig
    Module = LRUModule

    def __init__(self, module: LRUModule) -> None:
        super().__init__(module)
        with torch.no_grad():
            self._decays = [torch.exp(layer.log_decay) for layer in module.layers]

    @property
    def state_size(self) -> int:
        """``S = 2 * L * H + D``: a complex number is two."""
        config = self.module.config
        return 2 * config.n_layers * config.hidden_dim + config.embedding_dim

    @torch.inference_mode()
    def _states_after(self, windows_BT: IntArray, last_B: IntArray) -> FloatArray:
        vectors_BTD, states = self.module.unrolled(torch.from_numpy(windows_BT))
        rows_B = np.arange(len(last_B))
        after: FloatArray = _packed([state[rows_B, last_B] for state in states], vectors_BTD[rows_B, last_B]).numpy()
        return after

    @torch.inference_mode()
    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`."""
        recurrent_BS = tensor_of(states)[:, : -self.embedding_dim]
        pairs_BLH2 = recurrent_BS.reshape(len(states), len(self._decays), self.module.config.hidden_dim, 2)
        before_BLH = torch.view_as_complex(pairs_BLH2.contiguous())
        after: list[Tensor] = []
        x_BD = self.module.embedded(torch.from_numpy(items))
        for place, layer in enumerate(self.module.layers):
            after.append(self._decays[place] * before_BLH[:, place] + layer.inputs(x_BD))
            x_BD = layer.outputs(x_BD, after[-1])
        stepped: FloatArray = _packed(after, x_BD).numpy()
        return stepped, self.vectors(stepped)

    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for: their last part. Shape: ``(B, S)`` to ``(B, D)``."""
        return states[:, -self.embedding_dim :]


def _packed(states: list[Tensor], vectors_BD: Tensor) -> Tensor:
    """The states of all layers, real and imaginary part by turns, and the query vector. Shape: ``(B, S)``."""
    return torch.cat([*(torch.view_as_real(state).flatten(1) for state in states), vectors_BD], dim=1)
