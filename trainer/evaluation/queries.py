"""What a model is asked: windows cut when they are needed, targets, and the items that may not be listed.

Shape letters: ``E`` events of the log, ``Q`` queries, ``B`` of them at once, ``P`` pairs of a query and an item,
``T`` window length, ``N`` items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

import numpy as np

from encoders.protocols import IntArray
from encoders.window import WindowRule
from trainer.dataset import Timelines, by_user_of, cut_windows
from trainer.interactions import AnyIntArray, BoolArray, Interactions

Excluded = Literal["none", "last", "fed", "seen"]
"""What may not be listed: nothing, the newest item of the window, all of the window, all that the user had before."""


@dataclass(frozen=True)
class Crop:
    """Windows as papers cut them: a user's newest ``max_len`` events. Serving restarts them, see `WindowRule`."""

    max_len: int


Windows = Crop | WindowRule


@dataclass(frozen=True)
class UserOrder:
    """A log user by user, each user's events in their order."""

    by_user: AnyIntArray
    """Positions of the events. Shape: ``(E,)``."""
    place: AnyIntArray
    """Where each event stands in `by_user`. Shape: ``(E,)``."""
    first: AnyIntArray
    """Where the first event of each event's user stands in `by_user`. Shape: ``(E,)``."""

    @classmethod
    def of(cls, user_codes: IntArray) -> Self:
        """The order of a log.

        Example:
            >>> UserOrder.of(np.array([1, 0, 1])).n_before.tolist()
            [0, 0, 1]
        """
        by_user = by_user_of(user_codes)
        place = np.empty_like(by_user)
        place[by_user] = np.arange(len(by_user), dtype=by_user.dtype)
        n_events = np.bincount(user_codes)
        begins = (np.cumsum(n_events) - n_events).astype(by_user.dtype)
        return cls(by_user, place, begins[user_codes])

    @property
    def n_before(self) -> AnyIntArray:
        """How many events of the same user come before each event. Shape: ``(E,)``."""
        return self.place - self.first

    def is_last(self, mask: BoolArray) -> BoolArray:
        """Which events are their user's last among those that the mask is true for. Shape: ``(E,)``."""
        newest = np.full(len(mask) + 1, -1)
        np.maximum.at(newest, self.first[mask], self.place[mask])
        last: BoolArray = mask & (newest[self.first] == self.place)
        return last


def crop_windows(order: UserOrder, max_len: int) -> Timelines:
    """The newest ``max_len`` events of the same user after each event of the log."""
    ends = order.place + 1
    previous = np.where(order.n_before > 0, order.by_user[order.place - 1], -1)
    return Timelines(order.by_user, np.maximum(order.first, ends - max_len), ends, previous)


@dataclass(frozen=True)
class Queries:
    """Events of a log that are to be predicted, each from the window that the same user's event before it left.

    A target that may not be listed cannot be hit, nor can one that the model does not know; both are asked all the
    same. Who does not want to ask them leaves them out of the targets.
    """

    events: Interactions
    numbers: IntArray
    """Item number of each event, 0 where the model does not know the item. Shape: ``(E,)``."""
    targets: IntArray
    """Positions of the events to be predicted; each has an event of the same user before it. Shape: ``(Q,)``."""
    item_counts: IntArray
    """How often each item is in what the models have learned from; row 0 is padding. Shape: ``(N + 1,)``."""
    order: UserOrder
    timelines: Timelines
    max_len: int
    excluded: Excluded = "seen"
    candidates: BoolArray | None = None
    """Which item numbers may be listed at all; None for every item. Shape: ``(N + 1,)``."""

    @classmethod
    def of(
        cls,
        events: Interactions,
        numbers: IntArray,
        is_target: BoolArray,
        item_counts: IntArray,
        windows: Windows,
        excluded: Excluded = "seen",
        candidates: BoolArray | None = None,
    ) -> Self:
        """Queries for all marked events that are not their user's first."""
        order = UserOrder.of(events.user_codes)
        timelines = crop_windows(order, windows.max_len) if isinstance(windows, Crop) else cut_windows(events, windows)
        targets = np.flatnonzero(is_target & (order.n_before > 0))
        n_kept = windows.max_len
        return cls(events, numbers, targets, item_counts, order, timelines, n_kept, excluded, candidates)

    def __len__(self) -> int:
        return len(self.targets)

    @property
    def n_items(self) -> int:
        """``N``: how many items there are."""
        return len(self.item_counts) - 1

    @property
    def users(self) -> IntArray:
        """Code of the user who is asked about. Shape: ``(Q,)``."""
        return self.events.user_codes[self.targets]

    @property
    def target_items(self) -> IntArray:
        """Item number of each target, 0 where the model does not know it. Shape: ``(Q,)``."""
        return self.numbers[self.targets]

    @property
    def n_before(self) -> AnyIntArray:
        """How many events the user had before each target. Shape: ``(Q,)``."""
        return self.order.n_before[self.targets]

    def windows(self, queries: IntArray) -> IntArray:
        """What the model is fed, oldest first, padded on the left with 0. Shape: ``(B,)`` to ``(B, T)``."""
        return self.timelines.windows(self.timelines.previous[self.targets[queries]], self.numbers, self.max_len)

    def excluded_items(self, queries: IntArray, windows: IntArray) -> tuple[IntArray, IntArray]:
        """The items that may not be listed; some may be named twice.

        Args:
            queries: Which queries.
            windows: Their windows.

        Returns:
            The place of a query in ``queries``, from 0, and an item number; places ascend.

        Shape:
            - queries: ``(B,)``
            - windows: ``(B, T)``
            - Output: ``(P,)`` and ``(P,)``
        """
        if self.excluded == "seen":
            rows, items = self._seen(self.targets[queries])
        elif self.excluded == "none":
            rows = items = np.zeros(0, dtype=np.int64)
        else:
            kept = windows[:, -1:] if self.excluded == "last" else windows
            rows, items = np.repeat(np.arange(len(kept)), kept.shape[1]), kept.ravel()
        return rows[items > 0], items[items > 0]

    def _seen(self, targets: IntArray) -> tuple[IntArray, IntArray]:
        """Every event of the same user before each target."""
        first, n = self.order.first[targets], self.order.n_before[targets]
        rows = np.repeat(np.arange(len(targets)), n)
        within = np.arange(len(rows)) - np.repeat(np.cumsum(n) - n, n)
        return rows, self.numbers[self.order.by_user[first[rows] + within]]
