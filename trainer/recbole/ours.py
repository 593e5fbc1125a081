"""streamrec's side of the comparison: ``python -m trainer.recbole.ours FOLDER NAME``, started by `contestant`.

Rows are windows, and every place of one is a target: a pass goes over each event once.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch

from encoders.bundle import NETWORKS
from encoders.neural import SequenceModule
from encoders.protocols import IntArray
from trainer.dataset import TrainingRows
from trainer.fit import FitProgress, build_model, fit
from trainer.recbole.task import INPUTS_FILE, TARGETS_FILE, WINDOWS_FILE, Sizes
from trainer.recbole.turns import Turns, Vectors
from trainer.settings import TrainerSettings

WINDOWS_AT_ONCE = 512


def settings_of(sizes: Sizes, rows: TrainingRows) -> TrainerSettings:
    """The trainer's defaults with the sizes that both sides have, full softmax, and about as many targets in a step."""
    given = {
        "model": sizes.model,
        "embedding_dim": sizes.embedding_dim,
        "hidden_dim": sizes.hidden_dim,
        "n_layers": sizes.n_layers,
        "n_heads": sizes.n_heads,
        "dropout": sizes.dropout,
        "batch_size": max(1, round(sizes.batch_targets * len(rows) / rows.n_targets)),
        "n_negatives": sizes.n_items,
        "seen_negatives": True,
        "seed": sizes.seed,
    }
    return TrainerSettings.model_validate(given | ({"max_epochs": sizes.max_epochs} if sizes.max_epochs else {}))


def vectors_of(module: SequenceModule, model: str, windows: IntArray) -> Vectors:
    """What the model ranks with. Shape: ``(Q, T)`` to ``(Q, D)`` and ``(N + 1, D)``."""
    encoder = NETWORKS[model](module)
    parts = np.split(windows, range(WINDOWS_AT_ONCE, len(windows), WINDOWS_AT_ONCE))
    return np.concatenate([encoder.encode(part)[1] for part in parts]), encoder.item_vectors


def main() -> None:
    """Learn in turns, until the schedule is over or there is no further turn."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    turns, sizes = Turns(folder, sys.argv[2]), Sizes.read(folder)
    rows = TrainingRows(np.load(folder / INPUTS_FILE), np.load(folder / TARGETS_FILE))
    windows = np.load(folder / WINDOWS_FILE)
    settings = settings_of(sizes, rows)
    module = build_model(sizes.n_items, settings, sizes.max_len)

    def after_step(at: FitProgress) -> None:
        if at.step % (at.n_steps // settings.max_epochs) == 0:
            turns.over(rows.n_targets, at.loss, lambda: vectors_of(module, sizes.model, windows))

    turns.begin(n_targets=rows.n_targets, settings=settings.model_dump(mode="json"))
    fit(module, rows, None, settings, after_step)


if __name__ == "__main__":
    main()
