"""Histories cut into pieces, for models that are asked after as much of the past as they read.

Shape letters: ``E`` events, ``U`` users with two events or more, ``R`` rows, ``T`` length of a piece.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.compiled import compiled
from encoders.protocols import IntArray
from trainer.dataset import TrainingRows, by_user_of
from trainer.interactions import AnyIntArray, Interactions


@dataclass(frozen=True)
class Pieces(TrainingRows):
    """Rows in which each event but its user's first stands once as a target.

    In half as many rows as `trainer.dataset.training_rows` has, the first targets of a piece stand after less than a
    model will see. Cut elsewhere in each pass, they are not always the same ones.
    """

    items: IntArray
    """Item numbers of these users' events, user by user. Shape: ``(E,)``."""
    n_events: IntArray
    """Of each user. Shape: ``(U,)``."""

    def anew(self, random: np.random.Generator) -> Pieces:
        """As many rows, but those of a history that do not fill its pieces cut it elsewhere.

        What its pieces are longer than it is, some of that the newest piece is shortened by.
        """
        T = self.inputs.shape[1]
        room_U = -(self.n_events - 1) % T
        return _cut(self.items, self.n_events, T, random.integers(0, room_U + 1))


def pieces(events: Interactions, max_len: int, numbers: IntArray) -> Pieces:
    """The histories of a log in pieces. The newest piece of each is whole.

    So what came last is learned after as much as `Crop` lets a model see.

    Args:
        events: The log.
        max_len: ``T``.
        numbers: Item number of each event, at least 1.

    Shape:
        - numbers: ``(E,)``

    Example:
        >>> columns = [0, 0, 0, 0], [0, 1, 2, 3], [1, 2, 3, 4], [2] * 4, [0] * 4, [0, 1, 2, 3]
        >>> log = Interactions(["u"], ["a", "b", "c", "d"], *(np.array(column) for column in columns))
        >>> rows = pieces(log, 2, log.item_codes + 1)
        >>> rows.inputs.tolist(), rows.targets.tolist()
        ([[1, 0], [2, 3]], [[2, 0], [3, 4]])
    """
    n_events_U = np.bincount(events.user_codes)
    by_user = by_user_of(events.user_codes)
    has_pair = n_events_U > 1
    of_pairs = by_user[has_pair[events.user_codes[by_user]]]
    n_events_U = n_events_U[has_pair]
    return _cut(numbers[of_pairs], n_events_U, max_len, np.zeros_like(n_events_U))


def _cut(items_E: IntArray, n_events_U: IntArray, T: int, shorter_U: IntArray) -> Pieces:
    """Pieces whose newest is shorter by so much, if that makes them no more."""
    n_rows = int((-(-(n_events_U - 1) // T)).sum())
    inputs_RT, targets_RT = np.zeros((2, n_rows, T), dtype=np.int32)
    _fill(items_E, n_events_U, shorter_U, inputs_RT, targets_RT)
    return Pieces(inputs_RT, targets_RT, items_E, n_events_U)


@compiled
def _fill(
    items_E: IntArray, n_events_U: IntArray, shorter_U: IntArray, inputs_RT: AnyIntArray, targets_RT: AnyIntArray
) -> None:
    """Fill rows of zeros, from the newest piece of the last user back."""
    row, T = len(inputs_RT), inputs_RT.shape[1]
    after = len(items_E)
    for user in range(len(n_events_U) - 1, -1, -1):
        first, end, length = after - n_events_U[user], after - 1, T - shorter_U[user]
        while end > first:
            begin = max(first, end - length)
            row -= 1
            for place in range(end - begin):
                inputs_RT[row, place] = items_E[begin + place]
                targets_RT[row, place] = items_E[begin + place + 1]
            end, length = begin, T
        after = first
