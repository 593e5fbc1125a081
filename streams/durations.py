"""Durations as settings and flags write them."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator, Field

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "": 1.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")


def parse_duration(text: str) -> timedelta:
    """Read `"500ms"`, `"10s"`, `"15m"`, `"24h"`, `"30d"` or a bare number of seconds.

    Raises:
        ValueError: If the text is none of these.

    Example:
        >>> parse_duration("15m")
        datetime.timedelta(seconds=900)
    """
    match = _DURATION.fullmatch(text.strip())
    try:
        if match:
            return timedelta(seconds=float(match[1]) * _UNIT_S[match[2]])
    except OverflowError:
        pass  # longer than any timedelta
    raise ValueError('write a duration as "500ms", "10s", "15m", "24h", "30d" or a number of seconds')


def format_duration(duration: timedelta) -> str:
    """Write a duration in the largest unit that divides it, so that `parse_duration` reads it back.

    Example:
        >>> format_duration(timedelta(hours=36))
        '36h'
    """
    milliseconds = round(duration.total_seconds() * 1000)
    for unit in ("d", "h", "m", "s"):
        unit_ms = round(_UNIT_S[unit] * 1000)
        if milliseconds and milliseconds % unit_ms == 0:
            return f"{milliseconds // unit_ms}{unit}"
    return f"{milliseconds}ms"


def _from_settings(value: Any) -> Any:
    return value if isinstance(value, timedelta) else parse_duration(str(value))


Duration = Annotated[timedelta, BeforeValidator(_from_settings), Field(gt=timedelta(0))]
"""Type of a setting: a positive timedelta, written as `parse_duration` reads it."""
