"""SASRec: causal self-attention over a window, served from a cache of keys and values.

Where an item stands is told by rotation (RoPE) in place of learned positions: attention then depends on how far apart
two items are, and what a cache holds stays right as its window grows. Norms stand before the layers, and one is behind
the last, as in later work.

Shape letters: ``B`` rows of a batch, ``T`` window length, ``D`` embedding dimension, ``A`` attention heads, ``E``
dimension of a head, ``L`` layers, ``M`` `max_len`.

References:
    Kang and McAuley, "Self-attentive sequential recommendation", ICDM 2018.
    Klenitskiy and Vasilev, "Turning dross into gold loss: is BERT4Rec really better than SASRec?", RecSys 2023.
    Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
    sampling", RecSys 2023.
    Su et al., "RoFormer: enhanced transformer with rotary position embedding", Neurocomputing 2024.
"""

from __future__ import annotations

from math import sqrt
from typing import ClassVar, NamedTuple, Self, cast

import torch
from pydantic import BaseModel, ConfigDict, Field, model_validator
from torch import Tensor, nn

from encoders.neural import Dropout, ModuleEncoder, SequenceModule
from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM

SLOWEST_TURN = 1_000
"""Nearly so many items it takes the slowest pair of a head to turn by one radian; the fastest takes one."""


class SASRecConfig(BaseModel):
    """What a SASRec encoder is made of. Part of the bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    embedding_dim: int = Field(default=64, ge=2)
    """``D``, of item vectors, query vectors, and between the layers."""
    hidden_dim: int = Field(default=128, ge=1)
    """Width of the feed-forward layers."""
    n_layers: int = Field(default=2, ge=1)
    """``L``."""
    n_heads: int = Field(default=2, ge=1)
    """``A``; what each has of the embedding dimension must be even, as it turns in pairs."""
    max_len: int = Field(default=50, ge=1)
    """``M``: items of the longest window, and places of the cache."""
    dropout: float = Field(default=0.2, ge=0, lt=1)
    """Of item embeddings and of what each layer adds to them; attention weights keep theirs."""

    @model_validator(mode="after")
    def _heads_are_of_pairs(self) -> Self:
        if self.embedding_dim % (2 * self.n_heads):
            raise ValueError(
                f"embedding_dim {self.embedding_dim} must be a multiple of {2 * self.n_heads}: an even part for each "
                "of n_heads"
            )
        return self


class KeysValues(NamedTuple):
    """What later items look at."""

    keys: Tensor
    """Turned to their places. Shape: ``(B, A, T, E)``."""
    values: Tensor
    """Shape: ``(B, A, T, E)``."""


class SASRecLayer(nn.Module):
    """Causal attention and a feed-forward network, each behind a norm and beside a residual connection."""

    def __init__(self, config: SASRecConfig) -> None:
        super().__init__()
        D, H = config.embedding_dim, config.hidden_dim
        self.n_heads = config.n_heads
        self.attention_norm, self.forward_norm = nn.LayerNorm(D), nn.LayerNorm(D)
        self.project, self.merge = nn.Linear(D, 3 * D), nn.Linear(D, D)
        self.widen, self.narrow = nn.Linear(D, H), nn.Linear(H, D)
        self.dropout = Dropout(config.dropout)

    def projected(self, x_BTD: Tensor, turns: Tensor) -> tuple[Tensor, KeysValues]:
        """Queries, and what later items see of these.

        Shape:
            - x_BTD: ``(B, T, D)``
            - turns: ``(T, E / 2)`` or ``(B, T, E / 2)``, complex
            - Output: queries, keys and values, ``(B, A, T, E)`` each
        """
        parts_BT3AE = self.project(self.attention_norm(x_BTD)).unflatten(-1, (3, self.n_heads, -1))
        pairs = torch.view_as_complex(parts_BT3AE[:, :, :2].unflatten(-1, (-1, 2)))
        turned = torch.view_as_real(pairs * turns[..., None, None, :]).flatten(-2)
        queries, keys = turned.permute(2, 0, 3, 1, 4)
        return queries, KeysValues(keys, parts_BT3AE[:, :, 2].transpose(1, 2))

    def outputs(self, x_BTD: Tensor, attended_BATE: Tensor) -> Tensor:
        """What the next layer sees. Shape: ``(B, T, D)``."""
        x_BTD = x_BTD + self.dropout(self.merge(attended_BATE.transpose(1, 2).flatten(2)))
        wide = nn.functional.gelu(self.widen(self.forward_norm(x_BTD)))
        out: Tensor = x_BTD + self.dropout(self.narrow(wide))
        return out


class SASRecModule(SequenceModule):
    """Item embeddings, layers and a norm; what comes out of it is the query vector."""

    config: SASRecConfig

    def __init__(self, n_items: int, config: SASRecConfig) -> None:
        super().__init__()
        self.config = config
        self.item_embeddings = nn.Embedding(n_items + 1, config.embedding_dim, padding_idx=PADDING_ITEM)
        self.dropout = Dropout(config.dropout)
        self.stack = nn.ModuleList(SASRecLayer(config) for _ in range(config.n_layers))
        self.norm = nn.LayerNorm(config.embedding_dim)

    @property
    def layers(self) -> list[SASRecLayer]:
        """From the items to the query vector."""
        return cast("list[SASRecLayer]", list(self.stack))

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item; see `SequenceModule.forward`.

        Raises:
            ValueError: If the windows are longer than `max_len`.
        """
        return self.unrolled(windows_BT)[0]

    def unrolled(self, windows_BT: Tensor) -> tuple[Tensor, list[KeysValues]]:
        """Query vectors, and what later items see of each layer.

        Shape:
            - windows_BT: ``(B, T)``, padded on the right
            - Output: ``(B, T, D)`` and, for each layer, keys and values ``(B, A, T, E)``
        """
        T = windows_BT.shape[1]
        insist_on_room(T, self.config.max_len)
        seen: list[KeysValues] = []
        x_BTD, turns = self.embedded(windows_BT), self.turns_at(torch.arange(T, device=windows_BT.device))
        for layer in self.layers:
            queries_BATE, found = layer.projected(x_BTD, turns)
            attended_BATE = nn.functional.scaled_dot_product_attention(queries_BATE, *found, is_causal=True)
            x_BTD = layer.outputs(x_BTD, attended_BATE)
            seen.append(found)
        return self.norm(x_BTD), seen

    def embedded(self, items: Tensor) -> Tensor:
        """What the first layer sees. Shape: ``(...)`` to ``(..., D)``."""
        embedded: Tensor = self.dropout(self.item_embeddings(items) * sqrt(self.config.embedding_dim))
        return embedded

    def turns_at(self, places: Tensor) -> Tensor:
        """By how much queries and keys are turned at places of a window, as complex numbers of modulus 1.

        Shape:
            - places: ``(...)``, from 0
            - Output: ``(..., E / 2)``
        """
        n_pairs = self.config.embedding_dim // self.config.n_heads // 2
        pairs = torch.arange(n_pairs, device=places.device)
        angles = places[..., None] * SLOWEST_TURN ** -(pairs / n_pairs)
        return torch.polar(torch.ones_like(angles), angles)


class SASRecEncoder(ModuleEncoder[SASRecModule]):
    """A trained `SASRecModule` as a `SequenceEncoder`; the state is a cache.

    It holds the keys and values of each layer, ``(L, 2, A, M, E)`` with zeros behind the last item, how many items they
    are of, and the query vector. A window that grows is stepped up to `max_len` items; one that then restarts from its
    newest is encoded anew, and a longer one is refused with a ValueError.
    """

    kind: ClassVar[str] = "sasrec"
    Config = SASRecConfig
    Module = SASRecModule

    @property
    def state_size(self) -> int:
        """``S = 2 * L * M * D + 1 + D``."""
        config = self.module.config
        return (2 * config.n_layers * config.max_len + 1) * config.embedding_dim + 1

    @torch.inference_mode()
    def _states_after(self, windows_BT: IntArray, last_B: IntArray) -> FloatArray:
        vectors_BTD, seen = self.module.unrolled(torch.from_numpy(windows_BT))
        B, T = windows_BT.shape
        places_B, states_BS = torch.from_numpy(last_B), torch.zeros(B, self.state_size)
        is_item_BT1 = (torch.arange(T) <= places_B[:, None])[:, None, :, None]
        cache = self._cache(states_BS)
        for place, found in enumerate(seen):
            for which, part in enumerate(found):
                cache[:, place, which, :, :T] = part * is_item_BT1
        states_BS[:, -self.embedding_dim - 1] = places_B + 1
        states_BS[:, -self.embedding_dim :] = vectors_BTD[torch.arange(B), places_B]
        after: FloatArray = states_BS.numpy()
        return after

    @torch.inference_mode()
    def step(self, states: FloatArray, items: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors after one more item each; see `SequenceEncoder.step`.

        Raises:
            ValueError: If a state holds `max_len` items already: encode its window's newest items anew.
        """
        states_BS = torch.from_numpy(states.copy())
        n_items_B = states_BS[:, -self.embedding_dim - 1]
        places_B, rows_B = n_items_B.long(), torch.arange(len(items))
        T = int(places_B.max()) + 1 if len(items) else 0
        insist_on_room(T, self.module.config.max_len)
        cache = self._cache(states_BS)
        x_B1D = self.module.embedded(torch.from_numpy(items))[:, None]
        turns = self.module.turns_at(places_B[:, None])
        is_seen_B11T = (torch.arange(T) <= places_B[:, None])[:, None, None]
        for place, layer in enumerate(self.module.layers):
            queries, found = layer.projected(x_B1D, turns)
            for which, part in enumerate(found):
                cache[rows_B, place, which, :, places_B] = part[:, :, 0]
            keys, values = cache[:, place, :, :, :T].unbind(1)
            attended = nn.functional.scaled_dot_product_attention(queries, keys, values, attn_mask=is_seen_B11T)
            x_B1D = layer.outputs(x_B1D, attended)
        n_items_B += 1
        states_BS[:, -self.embedding_dim :] = self.module.norm(x_B1D[:, 0])
        stepped: FloatArray = states_BS.numpy()
        return stepped, self.vectors(stepped)

    def vectors(self, states: FloatArray) -> FloatArray:
        """Query vectors that states stand for: their last part. Shape: ``(B, S)`` to ``(B, D)``."""
        return states[:, -self.embedding_dim :]

    def _cache(self, states_BS: Tensor) -> Tensor:
        """Keys and values within states, to be written to. Shape: ``(B, S)`` to ``(B, L, 2, A, M, E)``."""
        config = self.module.config
        A, E = config.n_heads, config.embedding_dim // config.n_heads
        return states_BS[:, : -self.embedding_dim - 1].view(-1, config.n_layers, 2, A, config.max_len, E)


def insist_on_room(n_items: int, max_len: int) -> None:
    """Raise ValueError if windows of so many items are more than the model was made for."""
    if n_items > max_len:
        raise ValueError(
            f"a window of {n_items} items, where the model reads at most {max_len}: cut it to its newest items, or "
            "train with the window rule that it was cut by"
        )
