"""Keeps libraries from drowning what a worker has to say."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from math import inf


class SayOnce(logging.Filter):
    """Drops a message whose wording was logged a short while ago, whatever its arguments.

    aiokafka reports every single attempt to reach a broker that is down, 100 lines a second.

    Args:
        interval_s: How long a wording is not repeated.
        clock: Seconds that never run backwards.
    """

    def __init__(self, interval_s: float = 30.0, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._interval_s, self._clock = interval_s, clock
        self._said_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is to be logged."""
        wording, now_s = (record.name, str(record.msg)), self._clock()
        if now_s - self._said_s.get(wording, -inf) < self._interval_s:
            return False
        self._said_s[wording] = now_s
        return True


def say_once(library: str) -> None:
    """Put `SayOnce` on every logger that a library has; a filter on its topmost would miss those below."""
    once = SayOnce()
    for name in {library, *logging.root.manager.loggerDict}:
        if name == library or name.startswith(f"{library}."):
            logging.getLogger(name).addFilter(once)
