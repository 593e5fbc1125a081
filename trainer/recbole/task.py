"""What both programs are given: a folder with the data and the sizes that their models have in common.

Shape letters: ``R`` training rows, ``T`` window length, ``Q`` validation queries.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

SIZES_FILE = "sizes.json"
LOG_NAME = "log"
"""The data set's name for RecBole, which reads ``log/log.inter``."""
LOG_HEADER = "user_id:token\titem_id:token\ttimestamp:float"
INPUTS_FILE, TARGETS_FILE = "inputs.npy", "targets.npy"
"""The training rows as streamrec has them, item numbers padded on the right with 0. Shape: ``(R, T)`` each."""
WINDOWS_FILE = "windows.npy"
"""What is known before each validation query, item numbers padded on the left with 0. Shape: ``(Q, T)``."""


@dataclass(frozen=True)
class Sizes:
    """A model and its training, as far as both sides can have them alike: the defaults of RecBole 1.2.1."""

    model: str
    """`gru` or `sasrec`."""
    n_items: int
    max_len: int = 50
    embedding_dim: int = 64
    hidden_dim: int = 128
    """Of the recurrent state; in `sasrec`, of the feed-forward layers."""
    n_layers: int = 1
    n_heads: int = 2
    """In `sasrec`."""
    dropout: float = 0.3
    batch_targets: int = 2048
    """Target positions that one step learns."""
    peer_learning_rate: float = 0.001
    """Of RecBole. Ours is the trainer's default."""
    max_epochs: int | None = None
    """Passes of our schedule; None for the trainer's default. RecBole has none and goes on until it is stopped."""
    seed: int = 0

    @classmethod
    def of(cls, model: str, n_items: int, peer_learning_rate: float, max_epochs: int | None = None) -> Self:
        """RecBole's defaults for a model."""
        sizes = cls(model, n_items, peer_learning_rate=peer_learning_rate, max_epochs=max_epochs)
        return replace(sizes, hidden_dim=256, n_layers=2, dropout=0.5) if model == "sasrec" else sizes

    def write(self, folder: Path) -> None:
        """Put them where `read` finds them."""
        (folder / SIZES_FILE).write_text(json.dumps(asdict(self), indent=2))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `write` wrote."""
        return cls(**json.loads((folder / SIZES_FILE).read_text()))
