"""Encoders of every kind, small and untrained."""

from __future__ import annotations

import numpy as np
import torch

from encoders.bundle import NETWORKS, BundledEncoder
from encoders.factors import FactorsConfig, FactorsEncoder


def small_encoder(
    kind: str, n_items: int, embedding_dim: int = 8, hidden_dim: int = 12, seed: int = 3
) -> BundledEncoder:
    """An encoder whose weights chance has decided."""
    if kind == FactorsEncoder.kind:
        vectors = np.random.default_rng(seed).normal(0, 0.3, (n_items + 1, embedding_dim)).astype(np.float32)
        vectors[0] = 0
        return FactorsEncoder(FactorsConfig(embedding_dim=embedding_dim), vectors)
    torch.manual_seed(seed)
    network = NETWORKS[kind]
    config = network.Config.model_validate({"embedding_dim": embedding_dim, "hidden_dim": hidden_dim})
    return network(network.build(n_items, config))
