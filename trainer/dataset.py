"""Windows as the worker keeps them, for a whole log at once, and the rows a model is trained on.

Shape letters: ``E`` events, ``W`` events that entered a window, ``R`` training rows, ``T`` `max_len`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.protocols import IntArray
from encoders.window import Entry, Step, Window, WindowRule, extend
from trainer.interactions import BoolArray, Interactions


@dataclass(frozen=True)
class Timelines:
    """Every user's window after each of their events.

    ``entered[starts[i]:ends[i]]`` are the events in the window after event ``i``, oldest first.
    """

    entered: IntArray
    """Positions of the events that entered a window, user by user. Shape: ``(W,)``."""
    starts: IntArray
    """Shape: ``(E,)``."""
    ends: IntArray
    """Shape: ``(E,)``."""
    previous: IntArray
    """Position of the same user's event before, -1 for the first one. Shape: ``(E,)``."""

    def windows(self, events: IntArray, numbers: IntArray, max_len: int) -> IntArray:
        """The windows after the given events, as an encoder reads them.

        Args:
            events: Positions of events.
            numbers: Item number of each event of the log, 0 where the model does not know the item.
            max_len: ``T``.

        Shape:
            - events: ``(B,)``
            - numbers: ``(E,)``
            - Output: ``(B, T)``, padded on the left with 0
        """
        places = self.ends[events, None] - np.arange(max_len, 0, -1)
        return np.where(places >= self.starts[events, None], numbers[_take(self.entered, places)], 0)


def cut_windows(events: Interactions, rule: WindowRule) -> Timelines:
    """Let every event into its user's window, by the worker's own `extend`.

    Example:
        >>> columns = [0, 0, 0], [0, 1, 0], [1, 2, 3], [2, 2, 2], [0, 0, 0], [0, 1, 2]
        >>> log = Interactions(["u"], ["a", "b"], *(np.array(column) for column in columns))
        >>> cut_windows(log, WindowRule(max_len=2)).windows(np.array([1, 2]), np.array([5, 6, 5]), 2)
        array([[5, 6],
               [6, 5]])
    """
    by_user = np.argsort(events.user_codes, kind="stable")
    starts, ends = np.zeros((2, len(events)), dtype=np.int64)
    entered: list[int] = []
    window, user, start = Window(), -1, 0
    columns = (events.user_codes, events.item_codes, events.times_ms // 1000, events.type_codes)
    for position, owner, *entry in zip(by_user.tolist(), *(c[by_user].tolist() for c in columns), strict=True):
        if owner != user:
            window, user, start = Window(), owner, len(entered)
        step, dropped = extend(window, Entry(*entry), rule)
        if step is not Step.IGNORED:
            entered.append(position)
            start += len(dropped)
        starts[position], ends[position] = start, len(entered)
    previous = np.full(len(events), -1, dtype=np.int64)
    same_user = np.diff(events.user_codes[by_user]) == 0
    previous[by_user[1:][same_user]] = by_user[:-1][same_user]
    return Timelines(np.array(entered, dtype=np.int64), starts, ends, previous)


@dataclass(frozen=True)
class TrainingRows:
    """Windows with, at each place, the item that came next.

    A place has a target where the window, cut there, is one that a worker held: what a restarted
    window took over from the one before was trained on there.
    """

    inputs: IntArray
    """Item numbers, oldest first, padded on the right with 0. Shape: ``(R, T)``."""
    targets: IntArray
    """Item numbers, 0 where there is no target. Shape: ``(R, T)``."""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def n_targets(self) -> int:
        """How many places have a target."""
        return int(np.count_nonzero(self.targets))


def training_rows(events: Interactions, rule: WindowRule, numbers: IntArray, is_target: BoolArray) -> TrainingRows:
    """Rows in which each entered event stands once as a target, after exactly the window it was served with.

    Args:
        events: The log.
        rule: Which events enter a window and how it is bounded.
        numbers: Item number of each event, 0 where the model does not know the item; such an event is
            neither input nor target.
        is_target: Which events may be targets.

    Shape:
        - numbers, is_target: ``(E,)``
    """
    timelines = cut_windows(events, rule)
    entered, T = timelines.entered, rule.max_len
    row_starts, first, n_own = np.unique(timelines.starts[entered], return_index=True, return_counts=True)
    places = row_starts[:, None] + np.arange(T)
    own_RT = (places >= first[:, None]) & (places < (first + n_own)[:, None])
    inputs = np.where(places < (first + n_own)[:, None], _take(numbers[entered], places), 0)
    following, user = _take(entered, places + 1), events.user_codes
    is_next = (places + 1 < len(entered)) & (user[following] == user[_take(entered, places)])
    targets = np.where(own_RT & is_next & is_target[following], numbers[following], 0)
    return _without_unknown(inputs, targets)


def _without_unknown(inputs: IntArray, targets: IntArray) -> TrainingRows:
    """Close the holes that unknown items leave; rows without a target go."""
    targets = np.where(inputs == 0, 0, targets)
    order = np.argsort(inputs == 0, axis=1, kind="stable")
    keep = targets.any(axis=1)
    return TrainingRows(*(np.take_along_axis(a, order, axis=1)[keep] for a in (inputs, targets)))


def _take(values: IntArray, places: IntArray) -> IntArray:
    """Values at places, the nearest end for places outside; zeros where there is nothing to take."""
    return np.take(values, places, mode="clip") if len(values) else np.zeros_like(places)
