"""Small logs of interactions for the tests of the trainer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from encoders.events import EVENT_TRAITS, EventType
from trainer.interactions import Interactions

CLICK = EVENT_TRAITS[EventType.CLICK].code


class Row(NamedTuple):
    """One event: user and item by code."""

    user: int
    item: int
    time_s: int
    type_code: int = CLICK


def make_log(rows: Sequence[tuple[int, ...]]) -> Interactions:
    """A log with the given rows, in their order, all in one partition."""
    full = [Row(*row) for row in rows]
    columns = (
        [row.user for row in full],
        [row.item for row in full],
        [row.time_s * 1000 for row in full],
        [row.type_code for row in full],
        [0] * len(full),
        list(range(len(full))),
    )
    n_users, n_items = (max((row[i] for row in full), default=-1) + 1 for i in (0, 1))
    return Interactions(
        [f"u{i}" for i in range(n_users)],
        [f"i{i}" for i in range(n_items)],
        *(np.array(column, dtype=np.int64) for column in columns),
    )
