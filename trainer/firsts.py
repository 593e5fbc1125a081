"""Which rows are the first of a user with an id, found without a sort: one pass over slots of four bytes each."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.compiled import compiled
from trainer.interactions import AnyIntArray, BoolArray, position_type

_MIXER, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(33)


def first_of_each(users: AnyIntArray, ids: npt.NDArray[np.integer[Any]], order: AnyIntArray | None = None) -> BoolArray:
    """For each row in the order, whether none before it has its user and id.

    Args:
        users: A code of each row's user.
        ids: What is looked for, a number of at most 64 bits.
        order: Positions of the rows that count, as they follow each other; None for all of them as they stand.

    Shape:
        - users, ids: ``(n_rows,)``
        - order, Output: ``(n,)``

    Example:
        >>> first_of_each(np.array([0, 1, 0, 0]), np.array([7, 7, 7, 8]))
        array([ True,  True, False,  True])
    """
    if order is None:
        order = np.arange(len(users), dtype=position_type(len(users)))
    first = np.zeros(len(order), dtype=bool)
    slots = np.full(1 << max(4, (2 * len(order) - 1).bit_length()), -1, dtype=position_type(len(users)))
    _mark_firsts(users, ids, order, slots, first)
    return first


@compiled
def _mark_firsts(
    users: AnyIntArray, ids: npt.NDArray[np.integer[Any]], order: AnyIntArray, slots: AnyIntArray, first: BoolArray
) -> None:
    """A slot holds a row, -1 if it is free."""
    for i in range(len(order)):
        row = order[i]
        value = (np.uint64(ids[row]) ^ (np.uint64(users[row]) << np.uint64(32))) * _MIXER
        slot = np.int64((value ^ (value >> _SHIFT)) & np.uint64(len(slots) - 1))
        while slots[slot] >= 0:
            other = slots[slot]
            if ids[other] == ids[row] and users[other] == users[row]:
                break
            slot = (slot + 1) & (len(slots) - 1)
        if slots[slot] < 0:
            slots[slot] = row
            first[i] = True
