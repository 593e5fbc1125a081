"""Draws the items that targets are compared with, one set for a whole batch."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Negatives(NamedTuple):
    """Items, drawn with replacement."""

    items_N: Tensor
    """Item numbers from 1. Shape: ``(N,)``."""
    log_shares_N: Tensor | None
    """Logarithm of each one's probability to be drawn; None if all have the same. Shape: ``(N,)``."""

    def to(self, device: str) -> Negatives:
        """The same on another device."""
        return Negatives(self.items_N.to(device), None if self.log_shares_N is None else self.log_shares_N.to(device))


class NegativeSampler:
    """Draws items, the oftener the more often they are targets.

    Args:
        counts: How often each item is a target; of item 0, padding, nothing counts. Shape: ``(n_items + 1,)``.
        n_negatives: ``N``.
        power: An item is drawn in proportion to its count to this power; 0 draws all alike.
        random: The source of chance.

    References:
        Hidasi and Karatzoglou, "Recurrent neural networks with top-k gains for session-based recommendations",
        CIKM 2018.
    """

    def __init__(self, counts: Tensor, n_negatives: int, power: float, random: torch.Generator) -> None:
        self._n_items, self._n_negatives, self._random = len(counts) - 1, n_negatives, random
        self._log_shares: Tensor | None = None
        if power:
            weights = counts[1:].double().clamp(min=1) ** power  # an item that is never a target must be drawn, too
            self._log_shares = torch.log(weights / weights.sum())
            self._upto = torch.cumsum(weights / weights.sum(), dim=0)

    def draw(self) -> Negatives:
        """A fresh set."""
        if self._log_shares is None:
            size = (self._n_negatives,)
            return Negatives(torch.randint(1, self._n_items + 1, size, generator=self._random), None)
        chance_N = torch.rand(self._n_negatives, generator=self._random, dtype=torch.float64)
        places_N = torch.searchsorted(self._upto, chance_N, right=True).clamp(max=self._n_items - 1)
        return Negatives(places_N + 1, self._log_shares[places_N].float())
