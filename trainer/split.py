"""Train, validation and test part, by global time: nobody learns from what came later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from encoders.compiled import compiled
from encoders.protocols import IntArray
from trainer.interactions import BoolArray, Interactions


@dataclass(frozen=True)
class Split:
    """Which event belongs to which part; each is in exactly one. Shape of each: ``(n_events,)``."""

    train: BoolArray
    validation: BoolArray
    test: BoolArray


def split_by_time(events: Interactions, validation_fraction: float, test_fraction: float) -> Split:
    """The newest events test, those before them validate, the rest trains.

    A part begins at a moment, so events of one moment are never torn apart; the parts are as near to
    their fractions as that allows. A user's events are in the order in which they were applied, and one
    whose time runs backwards counts as being as late as the latest before it: so a user's part never
    goes back, and no window holds an event of a later part than its target.
    """
    times = running_max_by_user(events)
    validation_from, test_from = (
        _time_at(times, 1 - fraction) for fraction in (validation_fraction + test_fraction, test_fraction)
    )
    return Split(times < validation_from, (times >= validation_from) & (times < test_from), times >= test_from)


def _time_at(times: IntArray, fraction: float) -> float:
    """The time of the event that has the given fraction of all events before it."""
    place = round(fraction * len(times))
    return float(np.partition(times, place)[place]) if place < len(times) else np.inf


def running_max_by_user(events: Interactions) -> IntArray:
    """Each event's time, or the latest that the same user had before it. Shape: ``(n_events,)``, milliseconds."""
    latest = np.empty_like(events.times_ms)
    reached = np.full(int(events.user_codes.max(initial=-1)) + 1, np.iinfo(np.int64).min)
    _run(events.user_codes, events.times_ms, reached, latest)
    return latest


@compiled
def _run(users: IntArray, times_ms: IntArray, reached: IntArray, latest: IntArray) -> None:
    for event in range(len(users)):
        user = users[event]
        reached[user] = max(reached[user], times_ms[event])
        latest[event] = reached[user]
