"""What the trainable encoders have in common: a torch module over item embeddings, served on CPU in float32."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Generic, Self, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from pydantic import BaseModel
from torch import Tensor, nn

from encoders.protocols import FloatArray, IntArray, SequenceEncoder
from encoders.vocabulary import PADDING_ITEM

EMBEDDINGS = "item_embeddings.weight"
"""Name of the parameter that a bundle stores as its item vectors, since input and output share it."""

EMBEDDING_STD = 0.1
"""Of fresh item embeddings."""


class Dropout(nn.Module):
    """Blanks out a share of the numbers in training, as `torch.nn.Dropout`, for a quarter of its time.

    Eight places share a draw of 64 bits, one byte each, so the share is rounded to one of 0/256 … 255/256. What is left
    is scaled so that the mean stays.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self._n_blank = min(round(256 * share), 255)
        """Of the 256 values of a byte, how many blank their place."""

    def forward(self, x: Tensor) -> Tensor:
        """The same shape, some of it blank; in evaluation, the same numbers."""
        if not self.training or not self._n_blank:
            return x
        draws = torch.empty(-(-x.numel() // 8), dtype=torch.int64, device=x.device).random_(-(2**63), None)
        kept = draws.view(torch.uint8)[: x.numel()].view(x.shape) >= self._n_blank
        return x * kept.to(x.dtype).mul_(256 / (256 - self._n_blank))


class SequenceModule(nn.Module):
    """A trainable model of what comes next.

    An item's logit is the inner product of query vector and item embedding, without a bias, so the embeddings are what
    the index searches.
    """

    config: BaseModel
    item_embeddings: nn.Embedding

    def forward(self, windows_BT: Tensor) -> Tensor:
        """Query vector after each item.

        Args:
            windows_BT: Item numbers, oldest first, padded on the right with 0.

        Shape:
            - windows_BT: ``(B, T)``
            - Output: ``(B, T, D)``
        """
        raise NotImplementedError


ModuleT = TypeVar("ModuleT", bound=SequenceModule)


class ModuleEncoder(SequenceEncoder, Generic[ModuleT]):
    """A trained `SequenceModule` as a `SequenceEncoder` that a bundle may hold."""

    kind: ClassVar[str]
    Config: ClassVar[type[BaseModel]]
    Module: ClassVar[Callable[..., Any]]
    """The module that a number of items and a configuration make."""

    def __init__(self, module: ModuleT) -> None:
        self.module = module.eval()
        self._embeddings = module.item_embeddings.weight.detach()

    @classmethod
    def build(cls, n_items: int, config: BaseModel) -> ModuleT:
        """A module with fresh weights; torch's seed decides them."""
        module: ModuleT = cls.Module(n_items, config)
        with torch.no_grad():
            nn.init.normal_(module.item_embeddings.weight[1:], std=EMBEDDING_STD)
        return module

    @classmethod
    def load(cls, config: Mapping[str, Any], weights: Mapping[str, npt.NDArray[Any]], item_vectors: FloatArray) -> Self:
        """Rebuild an encoder from what `config`, `weights` and `item_vectors` gave.

        Raises:
            ValueError: If the configuration is not one of this kind, or of other item vectors.
            RuntimeError: If a weight is missing, unknown or of another shape than the configuration says.
        """
        # Made without items: on the device "meta", the other way to skip initial values, torch imports SymPy first,
        # two seconds of CPU.
        checked: Any = cls.Config.model_validate(config)
        if item_vectors.shape[1] != checked.embedding_dim:
            raise ValueError(f"item vectors of {item_vectors.shape[1]} dimensions, not {checked.embedding_dim}")
        module: ModuleT = cls.Module(0, checked)
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
        return self._embeddings.shape[1]

    def place(self, items: IntArray, vectors: FloatArray) -> None:
        """Let some items have other vectors from now on, in place. Shape: ``(B,)`` and ``(B, D)``."""
        self.item_vectors[items] = vectors

    def initial_states(self, n: int) -> FloatArray:
        """States of ``n`` empty windows. Shape: ``(n, S)``."""
        return np.zeros((n, self.state_size), dtype=np.float32)

    def encode(self, windows: IntArray) -> tuple[FloatArray, FloatArray]:
        """States and query vectors of whole windows; see `SequenceEncoder.encode`."""
        compact_BT, lengths_B = _items_first(windows)
        if compact_BT.shape[1] == 0:
            states = self.initial_states(len(windows))
        else:
            states = self._states_after(compact_BT, np.maximum(lengths_B - 1, 0))
            if not lengths_B.all():
                states[lengths_B == 0] = 0
        return states, self.vectors(states)

    @abstractmethod
    def _states_after(self, windows_BT: IntArray, last_B: IntArray) -> FloatArray:
        """States after the items at the given places of windows that have their items in front.

        Shape:
            - windows_BT: ``(B, T)``
            - last_B: ``(B,)``
            - Output: ``(B, S)``
        """


def _items_first(windows: IntArray) -> tuple[IntArray, IntArray]:
    """Windows with their items in front and padding behind, so that what follows a row's last item cannot reach it.

    Args:
        windows: Item numbers, oldest first, 0 anywhere for padding.

    Shape:
        - windows: ``(B, T)``
        - Output: ``(B, longest)`` and how many items each row has, ``(B,)``
    """
    is_item = windows != PADDING_ITEM
    lengths_B = is_item.sum(axis=1)
    order = np.argsort(~is_item, axis=1, kind="stable")[:, : int(lengths_B.max(initial=0))]
    return np.take_along_axis(windows, order, axis=1), lengths_B


def tensor_of(states: FloatArray) -> Tensor:
    """States as a tensor; copied only where they lie in read-only memory, which torch warns about."""
    return torch.from_numpy(states if states.flags.writeable else states.copy())
