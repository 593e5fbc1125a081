"""Windows as the worker keeps them, for a whole log at once, and the rows a model is trained on.

Shape letters: ``E`` events, ``W`` events that entered a window, ``R`` training rows, ``T`` `max_len`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.compiled import compiled
from encoders.protocols import IntArray
from encoders.window import WindowRule, entries_dropped
from trainer.interactions import AnyIntArray, BoolArray, Interactions, position_type

_N_TYPE_CODES = 256
_NO_ROWS = np.zeros((0, 0), dtype=np.int32)


@dataclass(frozen=True)
class Timelines:
    """Every user's window after each of their events.

    ``entered[starts[i]:ends[i]]`` are the events in the window after event ``i``, oldest first.
    """

    entered: AnyIntArray
    """Positions of the events that entered a window, user by user. Shape: ``(W,)``."""
    starts: AnyIntArray
    """Shape: ``(E,)``."""
    ends: AnyIntArray
    """Shape: ``(E,)``."""
    previous: AnyIntArray
    """Position of the same user's event before, -1 for the first one. Shape: ``(E,)``."""

    def windows(self, events: AnyIntArray, numbers: IntArray, max_len: int) -> IntArray:
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
    """Let every event into its user's window, as the worker's own `extend` does.

    Example:
        >>> columns = [0, 0, 0], [0, 1, 0], [1, 2, 3], [2, 2, 2], [0, 0, 0], [0, 1, 2]
        >>> log = Interactions(["u"], ["a", "b"], *(np.array(column) for column in columns))
        >>> cut_windows(log, WindowRule(max_len=2)).windows(np.array([1, 2]), np.array([5, 6, 5]), 2)
        array([[5, 6],
               [6, 5]])
    """
    ends, previous = np.empty((2, len(events)), dtype=position_type(len(events)))
    return Timelines(*_enter(events, rule, None, ends, previous), ends, previous)


@dataclass(frozen=True)
class TrainingRows:
    """Windows with, at each place, the item that came next.

    A place has a target where the window, cut there, is one that a worker held: what a restarted
    window took over from the one before was trained on there.
    """

    inputs: AnyIntArray
    """Item numbers, oldest first, padded on the right with 0. Shape: ``(R, T)``."""
    targets: AnyIntArray
    """Item numbers, 0 where there is no target. Shape: ``(R, T)``."""

    def __len__(self) -> int:
        return len(self.inputs)

    @property
    def n_targets(self) -> int:
        """How many places have a target."""
        return int(np.count_nonzero(self.targets))

    def anew(self, random: np.random.Generator) -> TrainingRows:
        """The rows of another pass: the same, where no chance has a part in how they are cut."""
        return self

    @property
    def lengths(self) -> AnyIntArray:
        """Up to where rows matter: their last target, as no model looks ahead. Shape: ``(R,)``."""
        lengths = np.zeros(len(self), dtype=np.int32)
        _find_lengths(self.targets, lengths)
        return lengths

    def counts(self, n_items: int) -> IntArray:
        """How often each item is a target; of item 0, places without one. Shape: ``(n_items + 1,)``."""
        counts = np.zeros(n_items + 1, dtype=np.int64)
        _count(self.targets, counts)
        return counts


def training_rows(
    events: Interactions,
    rule: WindowRule,
    numbers: IntArray,
    is_target: BoolArray,
    among: BoolArray | None = None,
) -> TrainingRows:
    """Rows in which each entered event stands once as a target, after exactly the window it was served with.

    They are of four bytes a place, and nothing else of their size is held while they are made or looked through.

    Args:
        events: The log.
        rule: Which events enter a window and how it is bounded.
        numbers: Item number of each event, 0 where the model does not know the item; such an event is
            neither input nor target.
        is_target: Which events may be targets.
        among: The part of the log that there is to be; None for all of it. As ``events.where(among)``, without a copy.

    Shape:
        - numbers, is_target, among: ``(E,)``
    """
    columns = *_enter(events, rule, among), events.user_codes, numbers, is_target
    inputs, targets = np.zeros((2, _fill_rows(*columns, _NO_ROWS, _NO_ROWS), rule.max_len), dtype=np.int32)
    _fill_rows(*columns, inputs, targets)
    return TrainingRows(inputs, targets)


def has_rows(events: Interactions, rule: WindowRule) -> bool:
    """Whether `training_rows` has any where all items are known and all events may be targets."""
    columns = *_enter(events, rule), events.user_codes, events.item_codes + 1, np.ones(len(events), dtype=bool)
    return _fill_rows(*columns, _NO_ROWS, _NO_ROWS) > 0


def _enter(
    events: Interactions,
    rule: WindowRule,
    among: BoolArray | None = None,
    ends: AnyIntArray | None = None,
    previous: AnyIntArray | None = None,
) -> tuple[AnyIntArray, AnyIntArray]:
    """The first two arrays of `Timelines`, of a part of the log; the others are filled where they are given."""
    by_user = by_user_of(events.user_codes, among)
    nothing = by_user[:0]
    entered, starts = np.empty_like(by_user), np.empty(len(events), dtype=by_user.dtype)
    n = _cut(
        by_user,
        events.user_codes,
        events.item_codes,
        events.times_ms,
        events.type_codes,
        _admitted(rule),
        *rule.numbers,
        entered,
        starts,
        nothing if ends is None else ends,
        nothing if previous is None else previous,
    )
    return entered[:n], starts


def by_user_of(user_codes: IntArray, among: BoolArray | None = None) -> AnyIntArray:
    """Positions of the events user by user, each user's in their order: a stable sort, by counting.

    Args:
        user_codes: Of the log.
        among: The events that are wanted; None for all.

    Example:
        >>> by_user_of(np.array([1, 0, 1, 0]), np.array([True, True, True, False]))
        array([1, 0, 2], dtype=int32)
    """
    n = len(user_codes) if among is None else int(np.count_nonzero(among))
    order = np.empty(n, dtype=position_type(len(user_codes)))
    places = np.zeros(int(user_codes.max(initial=-1)) + 2, dtype=np.int64)
    _sort(user_codes, np.zeros(0, dtype=bool) if among is None else among, places, order)
    return order


def _admitted(rule: WindowRule) -> BoolArray:
    """For each type code, whether events of it enter. Shape: ``(256,)``."""
    admitted = np.zeros(_N_TYPE_CODES, dtype=bool)
    admitted[list(rule.codes)] = True
    return admitted


@compiled
def _sort(user_codes: IntArray, among: BoolArray, places: IntArray, order: AnyIntArray) -> None:
    """Fill the order with the events that a mask is true for; a mask of no length is true for all."""
    for position in range(len(user_codes)):
        if not len(among) or among[position]:
            places[user_codes[position] + 1] += 1
    for user in range(len(places) - 1):
        places[user + 1] += places[user]
    for position in range(len(user_codes)):
        if not len(among) or among[position]:
            user = user_codes[position]
            order[places[user]] = position
            places[user] += 1


@compiled
def _cut(
    by_user: AnyIntArray,
    users: IntArray,
    items: IntArray,
    times_ms: IntArray,
    types: AnyIntArray,
    admitted: BoolArray,
    max_len: int,
    session_gap_s: int,
    collapses: bool,
    entered: AnyIntArray,
    starts: AnyIntArray,
    ends: AnyIntArray,
    previous: AnyIntArray,
) -> int:
    """Fill the arrays of `Timelines`, but for those of no length; returns how many events entered a window."""
    n, start, last = 0, 0, -1
    for position in by_user:
        same_user = last >= 0 and users[last] == users[position]
        if not same_user:
            start = n
        if len(previous):
            previous[position] = last if same_user else -1
        last = position
        if admitted[types[position]]:
            newest = entered[n - 1] if n > start else position  # which is not looked at in an empty window
            is_newest, newest_s, time_s = (
                items[newest] == items[position],
                times_ms[newest] // 1000,
                times_ms[position] // 1000,
            )
            n_dropped = entries_dropped(n - start, is_newest, newest_s, time_s, max_len, session_gap_s, collapses)
            if n_dropped >= 0:
                start += n_dropped
                entered[n] = position
                n += 1
        starts[position] = start
        if len(ends):
            ends[position] = n
    return n


@compiled
def _find_lengths(targets: AnyIntArray, lengths: AnyIntArray) -> None:
    for row in range(len(targets)):
        for place in range(targets.shape[1]):
            if targets[row, place] > 0:
                lengths[row] = place + 1


@compiled
def _count(targets: AnyIntArray, counts: IntArray) -> None:
    for row in range(len(targets)):
        for place in range(targets.shape[1]):
            counts[targets[row, place]] += 1


@compiled
def _fill_rows(
    entered: AnyIntArray,
    starts: AnyIntArray,
    users: IntArray,
    numbers: IntArray,
    is_target: BoolArray,
    inputs: AnyIntArray,
    targets: AnyIntArray,
) -> int:
    """Fill as many rows as there is room for, and return how many there are.

    A row's own events are those that entered between two restarts; before them stands what its window took over.
    """
    n_rows, end = 0, 0
    while end < len(entered):
        first, row_start = end, starts[entered[end]]
        while end < len(entered) and starts[entered[end]] == row_start:
            end += 1
        n_filled, has_target = 0, False
        for place in range(row_start, end):
            item, target = numbers[entered[place]], 0
            if item == 0:
                continue  # what the model does not know leaves no hole
            if place >= first and place + 1 < len(entered):
                following = entered[place + 1]
                if users[following] == users[entered[place]] and is_target[following]:
                    target = numbers[following]
            has_target = has_target or target > 0
            if n_rows < len(inputs):
                inputs[n_rows, n_filled], targets[n_rows, n_filled] = item, target
            n_filled += 1
        if has_target:
            n_rows += 1
        elif n_rows < len(inputs):
            inputs[n_rows, :n_filled] = 0  # the next row takes its place
    return n_rows


def _take(values: AnyIntArray, places: IntArray) -> AnyIntArray:
    """Values at places, the nearest end for places outside; zeros where there is nothing to take."""
    return np.take(values, places, mode="clip") if len(values) else np.zeros_like(places)
