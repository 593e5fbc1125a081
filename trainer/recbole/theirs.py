"""RecBole's side of the comparison: ``python -m trainer.recbole.theirs FOLDER NAME`` in its own venv.

Data, split, model and training loop are RecBole's. It makes a row of every event and all that its user had before, so a
pass goes over each event once as a target, and reads it up to `max_len` times as an input.
"""

from __future__ import annotations

import sys
from importlib.metadata import version
from itertools import count, islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.utils import get_model, get_trainer, init_seed

from trainer.recbole.task import LOG_NAME, WINDOWS_FILE, Sizes
from trainer.recbole.turns import Turns, Vectors

MODELS = {"gru": "GRU4Rec", "sasrec": "SASRec"}
LIBRARIES = ("recbole", "torch", "numpy")
WINDOWS_AT_ONCE = 512
STEPS_IN_A_TURN = 8
"""A pass takes minutes; so its curve is as fine as ours, whose turns are passes."""


def settings_of(sizes: Sizes, folder: Path) -> dict[str, Any]:
    """What differs from RecBole's defaults, or must be said because it has none."""
    model = {
        "gru": {
            "embedding_size": sizes.embedding_dim,
            "hidden_size": sizes.hidden_dim,
            "num_layers": sizes.n_layers,
            "dropout_prob": sizes.dropout,
        },
        "sasrec": {
            "hidden_size": sizes.embedding_dim,
            "inner_size": sizes.hidden_dim,
            "n_layers": sizes.n_layers,
            "n_heads": sizes.n_heads,
            "hidden_dropout_prob": sizes.dropout,
            # Ours has none, and without it RecBole is faster.
            "attn_dropout_prob": 0.0,
        },
    }[sizes.model]
    return {
        **model,
        "loss_type": "CE",
        "train_neg_sample_args": None,  # cross-entropy over all items draws none
        "train_batch_size": sizes.batch_targets,
        "learning_rate": sizes.peer_learning_rate,
        "MAX_ITEM_LIST_LENGTH": sizes.max_len,
        "load_col": {"inter": ["user_id", "item_id", "timestamp"]},
        "eval_args": {"split": {"LS": "valid_and_test"}, "group_by": "user", "order": "TO", "mode": "full"},
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "use_gpu": False,
        "show_progress": False,
        "seed": sizes.seed,
    }


@torch.inference_mode()
def vectors_of(model: Any, windows: npt.NDArray[np.int64], codes: npt.NDArray[np.int64]) -> Vectors:
    """What the model ranks with, its items in our order.

    Args:
        model: Its scores are inner products of what `forward` gives with its item embeddings.
        windows: Item numbers, oldest first, padded on the left with 0.
        codes: RecBole's code of each item number, 0 of 0.

    Shape:
        - windows: ``(Q, T)``
        - codes: ``(N + 1,)``
        - Output: ``(Q, D)`` and ``(N + 1, D)``
    """
    model.eval()
    parts = []
    for start in range(0, len(windows), WINDOWS_AT_ONCE):
        some = windows[start : start + WINDOWS_AT_ONCE]
        order = np.argsort(some == 0, axis=1, kind="stable")  # RecBole has the padding behind
        items = torch.from_numpy(codes[np.take_along_axis(some, order, axis=1)])
        parts.append(model(items, torch.from_numpy((some > 0).sum(axis=1))).numpy())
    return np.concatenate(parts), model.item_embedding.weight.numpy()[codes]


def main() -> None:
    """Learn in turns, until there is no further one."""
    torch.set_num_threads(1)
    folder = Path(sys.argv[1])
    turns, sizes = Turns(folder, sys.argv[2]), Sizes.read(folder)
    windows, settings = np.load(folder / WINDOWS_FILE), settings_of(sizes, folder)
    config = Config(model=MODELS[sizes.model], dataset=LOG_NAME, config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    dataset = create_dataset(config)
    training, _, _ = data_preparation(config, dataset)
    tokens = dataset.field2id_token[dataset.iid_field]  # the padding's is no number
    codes = np.zeros(sizes.n_items + 1, dtype=np.int64)
    codes[[int(token) for token in tokens[1:]]] = np.arange(1, len(tokens))
    model = get_model(config["model"])(config, training.dataset).to(config["device"])
    trainer = get_trainer(config["MODEL_TYPE"], config["model"])(config, model)
    n_targets = len(training.dataset)
    told = {name: value for name, value in settings.items() if name not in ("data_path", "checkpoint_dir")}
    turns.begin(n_targets=n_targets, settings=told, versions={name: version(name) for name in LIBRARIES})
    for epoch in count():
        batches = iter(training)
        for left in range(n_targets, 0, -STEPS_IN_A_TURN * sizes.batch_targets):
            learned = min(left, STEPS_IN_A_TURN * sizes.batch_targets)
            n_steps = -(-learned // sizes.batch_targets)
            # Its `fit` calls this with all batches of a pass, and validates, which is left out on both sides.
            loss = trainer._train_epoch(islice(batches, n_steps), epoch)
            turns.over(learned, loss / n_steps, lambda: vectors_of(model, windows, codes))


if __name__ == "__main__":
    main()
