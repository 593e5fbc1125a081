"""Waiting for lists, with open eyes for what breaks meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from enum import Enum
from math import inf

from streams.cli.bench.answers import Answers, Receiver
from streams.cli.bench.stage import Ground

STALL_TIMEOUT_S = 30.0
"""So long without any list, and what is unanswered counts as lost."""
QUIET_S = 0.6
"""How long to look for lists that come twice once all are there."""


class Reached(Enum):
    """Whether as many lists came as were waited for."""

    YES = "yes"
    LATE = "late"
    """The deadline came first."""
    STALLED = "stalled"
    """Nothing came for too long."""


class Watch:
    """Waits for lists, with open eyes for what breaks meanwhile.

    Args:
        ground: Whose processes must live.
        answers: What has come.
        receiver: What brings it.
        show: Told how many events have their list.
    """

    def __init__(self, ground: Ground, answers: Answers, receiver: Receiver, show: Callable[[int], None]) -> None:
        self._ground, self._answers, self._receiver, self._show = ground, answers, receiver, show

    async def until(self, n_answered: int, stall_s: float, deadline_s: float = inf) -> Reached:
        """Wait until so many events have a list.

        Args:
            n_answered: How many.
            stall_s: Give up when none has come for so long.
            deadline_s: Give up at this `time.perf_counter`.

        Raises:
            BenchError: If a process ends by itself.
        """
        moved_s = time.perf_counter()
        while self._answers.n_answered < n_answered:
            if await self._moved(0.5):
                moved_s = time.perf_counter()
                self._show(self._answers.n_answered)
            else:
                self._ground.check()
            if time.perf_counter() > deadline_s:
                return Reached.LATE
            if time.perf_counter() - moved_s > stall_s:
                return Reached.STALLED
        self._show(self._answers.n_answered)
        return Reached.YES

    async def until_quiet(self) -> None:
        """Wait until no list has come for a while."""
        while await self._moved(QUIET_S):
            self._show(self._answers.n_answered)

    async def _moved(self, seconds: float) -> bool:
        self._receiver.check()
        try:
            async with asyncio.timeout(seconds):
                await self._receiver.moved.wait()
        except TimeoutError:
            return False
        self._receiver.moved.clear()
        return True
