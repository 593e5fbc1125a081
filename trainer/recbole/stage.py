"""The folder that both programs read, and the queries that neither sees the answers of.

Shape letters: ``E`` events, ``T`` window length, ``Q`` queries.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from encoders.events import EventType
from encoders.window import WindowRule
from trainer.dataset import training_rows
from trainer.errors import RecBoleError
from trainer.evaluation import Crop, Queries, leave_one_out
from trainer.evaluation.queries import UserOrder
from trainer.interactions import Interactions
from trainer.recbole.task import INPUTS_FILE, LOG_HEADER, LOG_NAME, TARGETS_FILE, WINDOWS_FILE, Sizes

LEAST_EVENTS = 4
"""Of a user, so that one is left to learn from after the first, the validation's and the test's: RecBole's split of
shorter histories differs from ours."""


def first_users(events: Interactions, n_users: int) -> Interactions:
    """The events of the first users; users and items are numbered anew."""
    kept = events.where(events.user_codes < n_users)
    items, item_codes = np.unique(kept.item_codes, return_inverse=True)
    return Interactions(
        kept.user_ids[:n_users],
        [kept.item_ids[item] for item in items.tolist()],
        kept.user_codes,
        item_codes,
        kept.times_ms,
        kept.type_codes,
        kept.partitions,
        kept.offsets,
    )


def prepare(folder: Path, events: Interactions, sizes: Sizes) -> Queries:
    """Write what both sides read: sizes, log, training rows and the windows of the validation queries.

    The split leaves each user's last event to the test, which nobody looks at, and the one before it to validation. The
    log that RecBole gets holds all events, as its loader wants it, and its own split leaves the same ones out.

    Args:
        folder: Empty.
        events: The log.
        sizes: Of the models.

    Returns:
        The validation queries: each window is a user's newest `max_len` training events, and whatever the user had
        before may not be listed.

    Raises:
        RecBoleError: If a user has too few events.
    """
    if not len(events) or (fewest := int(np.bincount(events.user_codes).min())) < LEAST_EVENTS:
        raise RecBoleError(
            f"the comparison needs users of at least {LEAST_EVENTS} events each, and one has "
            f"{fewest if len(events) else 0}: leave such users out of the data, or take another set with --data"
        )
    exam = leave_one_out(events, Crop(sizes.max_len))
    queries, training = exam.queries("validation"), exam.training
    rule = WindowRule(max_len=sizes.max_len, repeats="keep", event_types=tuple(EventType))
    rows = training_rows(training, rule, training.item_codes + 1, np.ones(len(training), dtype=bool))
    sizes.write(folder)
    np.save(folder / INPUTS_FILE, rows.inputs)
    np.save(folder / TARGETS_FILE, rows.targets)
    np.save(folder / WINDOWS_FILE, queries.windows(np.arange(len(queries))))
    _write_log(folder, events)
    return queries


def _write_log(folder: Path, events: Interactions) -> None:
    """RecBole's atomic file. An event's time is its place in its user's history: in RecBole it becomes a float32."""
    path = folder / LOG_NAME / f"{LOG_NAME}.inter"
    path.parent.mkdir()
    columns = events.user_codes, events.item_codes + 1, UserOrder.of(events.user_codes).n_before
    np.savetxt(path, np.column_stack(columns), fmt="%d", delimiter="\t", header=LOG_HEADER, comments="")
