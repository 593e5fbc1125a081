"""Train, validation and test part, by global time: nobody learns from what came later."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

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
    by_user = np.argsort(events.user_codes, kind="stable")
    # Shifted so far apart that one user's times cannot reach into the next one's.
    shift = events.user_codes[by_user] * (int(events.times_ms.max(initial=0)) + 1)
    latest = np.empty_like(events.times_ms)
    latest[by_user] = np.maximum.accumulate(events.times_ms[by_user] + shift) - shift
    return latest
