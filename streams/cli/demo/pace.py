"""How fast the demo replays: the given rate, slowed so that no stretch runs out before its time."""

from __future__ import annotations

FIRST_HALF_S = 25.0
"""How long the steady first half takes where no rate is given."""
LEAST_LEFT_S = 5.0
"""A stretch that takes longer than expected is replayed as if this much of it were still to come."""
LEAST_RATE = 5.0
"""Events a second that flow however little is left, so that there is something to watch."""


def default_rate(n_events: int) -> float:
    """Events a second at which half of ``n_events`` takes `FIRST_HALF_S`.

    Example:
        >>> default_rate(20_000)
        400.0
    """
    return max(1.0, n_events / 2 / FIRST_HALF_S)


def stretched_rate(rate: float, events_left: int, seconds_left: float) -> float:
    """The rate at which a stretch's events last until its end, at most ``rate``.

    Called again and again, it slows down exponentially once the stretch is overdue.

    Args:
        rate: What was asked for, events a second.
        events_left: How many events the stretch may still use.
        seconds_left: How long it is expected to go on; below 0 once it is overdue.

    Example:
        >>> stretched_rate(400.0, events_left=6000, seconds_left=40.0)
        150.0
        >>> stretched_rate(400.0, events_left=100, seconds_left=-5.0)
        20.0
    """
    return min(rate, max(LEAST_RATE, events_left / max(seconds_left, LEAST_LEFT_S)))
