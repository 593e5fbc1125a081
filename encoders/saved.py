"""What a retriever has learned, as plain arrays, and back.

Saved is what was learned, not how it lies in memory: nothing in one array is a place in another. So what is read back
is checked in a few lines, and nothing that a file says can lead a compiled loop astray.

Shape letters: ``C`` clicks in a log.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.click_log import ITEM, N_CLICKS, SESSION, ClickLog, append, empty_log, oldest_click, with_room
from encoders.compiled import compiled
from encoders.decay import NEWEST, START, new_clock
from encoders.protocols import DoubleArray, IntArray

Arrays = Mapping[str, npt.NDArray[Any]]
_CLICKS_AT_ONCE = 65_536
"""A compiled loop holds the interpreter's lock, and a worker goes on serving while it reads a bundle."""


def taken(arrays: Arrays, name: str, dtype: npt.DTypeLike) -> npt.NDArray[Any]:
    """A copy of one array, which must have one dimension and the type.

    Raises:
        ValueError: If it is not so; the message names the array.
    """
    array = arrays.get(name)
    if array is None:
        raise ValueError(f"there is no {name!r}")
    if array.ndim != 1 or array.dtype != np.dtype(dtype):
        raise ValueError(f"{name!r} is {array.dtype} {array.shape}, not {np.dtype(dtype)} of one dimension")
    return array.copy()


def insist_on_items(name: str, items: npt.NDArray[Any], n_items: int) -> None:
    """Raise ValueError if an array holds anything but item numbers from 1 to ``n_items``."""
    if len(items) and not (items.min() >= 1 and items.max() <= n_items):
        raise ValueError(f"{name!r} holds items that are not in 1 … {n_items}")


def insist_on_counts(name: str, counts: npt.NDArray[Any]) -> None:
    """Raise ValueError if an array holds what cannot be a count: something negative, infinite or no number."""
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError(f"{name!r} holds what is no count")


def saved_clicks(log: ClickLog) -> dict[str, npt.NDArray[Any]]:
    """The clicks that a log holds, oldest first.

    Shape:
        - Output: ``click_sessions`` and ``click_items``, ``(C,)`` each
    """
    clicks = np.arange(oldest_click(log), log.totals[N_CLICKS] + 1)
    rows = log.clicks_C4[clicks & (len(log.clicks_C4) - 1)]
    return {"click_sessions": log.code_S[rows[:, SESSION]], "click_items": rows[:, ITEM].copy()}


def restored_log(arrays: Arrays, n_items: int, max_clicks: int) -> ClickLog:
    """A log of saved clicks, put into an empty one after the other: it answers and goes on as the one that was saved.

    Args:
        arrays: What `saved_clicks` gave.
        n_items: Highest item number that there may be.
        max_clicks: As of `with_room`.

    Raises:
        ValueError: If it cannot have given that.
    """
    sessions, items = taken(arrays, "click_sessions", np.int64), taken(arrays, "click_items", np.int32)
    if len(sessions) != len(items):
        raise ValueError(f"there are {len(items)} 'click_items', but {len(sessions)} 'click_sessions'")
    insist_on_items("click_items", items, n_items)
    log = with_room(empty_log(), len(items), n_items, max_clicks)
    if len(items) > len(log.clicks_C4):
        raise ValueError(f"there are {len(items)} 'click_items', more than max_clicks, {max_clicks}, allows for")
    for start in range(0, len(items), _CLICKS_AT_ONCE):
        _append_all(log, sessions[start : start + _CLICKS_AT_ONCE], items[start : start + _CLICKS_AT_ONCE])
    return log


@compiled
def _append_all(log: ClickLog, sessions: IntArray, items: npt.NDArray[np.int32]) -> None:
    for i in range(len(items)):
        append(log, sessions[i], np.int64(items[i]))


def saved_clock(clock: DoubleArray) -> DoubleArray:
    """A clock (`encoders.decay`) in finite numbers: before the first event none. Shape: ``(0,)`` or ``(2,)``."""
    return clock.copy() if np.isfinite(clock).all() else clock[:0].copy()


def restored_clock(arrays: Arrays) -> DoubleArray:
    """The clock that `saved_clock` gave under the name ``clock``.

    Raises:
        ValueError: If it cannot have given that.
    """
    clock: DoubleArray = taken(arrays, "clock", np.float64)
    if not len(clock):
        return new_clock()
    if len(clock) != 2 or not np.isfinite(clock).all() or clock[START] > clock[NEWEST]:
        raise ValueError(f"'clock' is {clock.tolist()}, not a start and a time that is no earlier")
    return clock
