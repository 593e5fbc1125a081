"""Where a fit is, to the bit: what it counts, and all that it changes, chance included."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

_COUNTED = ("epoch", "n_done", "step", "loss_sum", "validation_loss", "best_epoch", "best_loss")


class Saved(NamedTuple):
    """A fit's state as a file holds it."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    """For JSON."""


@dataclass
class FitState:
    """Where a fit is. A loop calls `bind` when it is set up, takes its batches from `left`, and calls `learned`.

    By itself this keeps nothing; `trainer.checkpoint.Checkpoint.part` gives one that does.
    """

    epoch: int = 1
    n_done: int = 0
    """Batches of this epoch that were learned."""
    step: int = 0
    """Batches of all epochs that were learned."""
    loss_sum: float = 0.0
    """Of this epoch's batches."""
    validation_loss: float | None = None
    """After the last epoch that is over; None where there is none or nothing to validate on."""
    best_epoch: int = 0
    """The epoch that did best on the validation part; 0 as long as nothing was validated."""
    best_loss: float = float("inf")
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    saved: Saved | None = None
    """What `bind` restores."""
    on_step: Callable[[FitState], None] = lambda state: None
    """Called after each batch."""

    def bind(self, module: nn.Module, optimiser: torch.optim.Optimizer, random: torch.Generator) -> None:
        """What the fit works with; restores what was saved into it."""
        self._module, self._optimiser, self._random = module, optimiser, random
        self._epoch_began = random.get_state()
        if self.saved:
            self._restore(*self.saved)
            self.saved = None

    def left(self, epoch: int, draw: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """The batches of an epoch that are still to be learned.

        Args:
            epoch: Counted from 1.
            draw: Gives all batches of an epoch, by chance from the generator that was bound and none other.
        """
        if epoch != self.epoch or not self.n_done:
            self.epoch, self.n_done, self.loss_sum, self._epoch_began = epoch, 0, 0.0, self._random.get_state()
            return draw()
        now = self._random.get_state()
        self._random.set_state(self._epoch_began)
        batches = draw()
        self._random.set_state(now)
        return batches[self.n_done :]

    def learned(self, loss: float) -> None:
        """A batch was learned."""
        self.step += 1
        self.n_done += 1
        self.loss_sum += loss
        self.on_step(self)

    def validated(self, loss: float) -> None:
        """The epoch is over, with this loss on the validation part."""
        self.validation_loss = loss
        if loss < self.best_loss:
            weights = {name: value.clone() for name, value in self._module.state_dict().items()}
            self.best_epoch, self.best_loss, self.best_weights = self.epoch, loss, weights

    def capture(self) -> Saved:
        """All of it. The tensors are the fit's own, not copies, if it runs on the processor."""
        drawn = np.random.get_state(legacy=False)
        optimiser = self._optimiser.state_dict()
        tensors = {
            "random.epoch": self._epoch_began,
            "random.fit": self._random.get_state(),
            "random.torch": torch.get_rng_state(),
            "random.numpy": torch.from_numpy(drawn["state"].pop("key").astype(np.int64)),
            **_prefixed("module", self._module.state_dict()),
            **_prefixed("best", self.best_weights),
        }
        for parameter, values in optimiser["state"].items():
            tensors |= _prefixed(f"optimiser.{parameter}", values)
        numbers = {
            "position": [getattr(self, name) for name in _COUNTED],
            "numpy": drawn,
            "groups": optimiser["param_groups"],
        }
        return Saved({name: tensor.cpu() for name, tensor in tensors.items()}, numbers)

    def _restore(self, tensors: dict[str, Tensor], numbers: dict[str, Any]) -> None:
        for name, value in zip(_COUNTED, numbers["position"], strict=True):
            setattr(self, name, value)
        self.best_weights = _named("best", tensors)
        self._module.load_state_dict(_named("module", tensors))
        state = {place: _named(f"optimiser.{place}", tensors) for place in numbers["groups"][0]["params"]}
        self._optimiser.load_state_dict({"state": state, "param_groups": numbers["groups"]})
        self._epoch_began = tensors["random.epoch"]
        self._random.set_state(tensors["random.fit"])
        torch.set_rng_state(tensors["random.torch"])
        drawn = dict(numbers["numpy"])
        drawn["state"] = {"key": tensors["random.numpy"].numpy().astype(np.uint32), **drawn["state"]}
        np.random.set_state(drawn)


def _prefixed(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}.{name}": tensor for name, tensor in tensors.items()}


def _named(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    start = f"{prefix}."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}
