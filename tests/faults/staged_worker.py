"""A worker to which something happens at a chosen moment: `python -m tests.faults.staged_worker`, then its options.

The environment says what and when: STAGE, a `Stage`; STAGE_AT, the number of the script call (or of the batch
that is produced) at which it happens; and for some stages STAGE_WHILE, a file: it happens for as long as that is there.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence
from enum import StrEnum
from itertools import count
from pathlib import Path

from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

import streams.app
import streams.delivery
from streams.cli import main
from streams.lists import WireLists
from streams.output import Producer, UndeliveredLists, deliver_lists
from streams.store import Applied, Changes, RedisStore

COMMAND = ("-m", "tests.faults.staged_worker")
CRASHED = 70
"""Exit code of a staged crash."""
SLOW_S = 0.1
_LOOK_S = 0.02
"""How often a held script looks whether it may run."""


class Stage(StrEnum):
    """What happens, around the script that makes a batch part of the state."""

    CRASH_PRODUCING = "crash-producing"
    """Half of a batch's lists are on the broker."""
    CRASH_BEFORE = "crash-before"
    CRASH_AFTER = "crash-after"
    STOP_BEFORE = "stop-before"
    """SIGSTOP, as if the machine had gone to sleep."""
    SLOW = "slow"
    """Every script takes a while, so that at any moment there are batches on their way."""
    LOSE_ANSWERS = "lose-answers"
    """The script runs, but every second answer is lost, from the start."""
    HOLD = "hold"
    """While STAGE_WHILE is there, no batch's script runs: each is on its way for as long."""
    REFUSE = "refuse"
    """While STAGE_WHILE is there, the script of the batch that begins at offset STAGE_AT fails, and no other's."""


class StagedStore(RedisStore):
    """The worker's store, with a fault around its script."""

    calls = count(1)
    stage = os.environ.get("STAGE")
    stage_at = int(os.environ.get("STAGE_AT", "1"))
    stage_while = Path(os.environ.get("STAGE_WHILE", os.devnull))

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        """Let the fault happen before or after the script."""
        call = next(self.calls)
        if self.stage == Stage.SLOW:
            await asyncio.sleep(SLOW_S)
        if changes.end > changes.start:  # else it only asks who owns the partition
            await self._while_staged(changes.start)
        now = call == self.stage_at
        if now and self.stage == Stage.CRASH_BEFORE:
            os._exit(CRASHED)
        if now and self.stage == Stage.STOP_BEFORE:
            os.kill(os.getpid(), signal.SIGSTOP)
        applied = await super().apply(partition, token, changes)
        if now and self.stage == Stage.CRASH_AFTER:
            os._exit(CRASHED)
        if self.stage == Stage.LOSE_ANSWERS and call % 2 == 0:
            raise RedisConnectionError("the answer was lost")
        return applied

    async def _while_staged(self, start: int) -> None:
        """Wait, or fail, where the stage and its file say so."""
        while self.stage == Stage.HOLD and self.stage_while.exists():  # noqa: ASYNC110  # a file tells nobody
            await asyncio.sleep(_LOOK_S)
        if self.stage == Stage.REFUSE and start == self.stage_at and self.stage_while.exists():
            raise ResponseError("a batch that the stage refuses")


async def deliver_half(
    producer: Producer, topic: str, partition: int, n_partitions: int, lists: Sequence[WireLists], most_bytes: int
) -> list[UndeliveredLists]:
    """Produce all but at the staged call: there only half, and crash."""
    if next(deliveries) == StagedStore.stage_at:
        half = [part[: len(part) // 2] for part in lists]
        await deliver_lists(producer, topic, partition, n_partitions, half, most_bytes)
        os._exit(CRASHED)
    return await deliver_lists(producer, topic, partition, n_partitions, lists, most_bytes)


deliveries = count(1)

if __name__ == "__main__":
    streams.app.RedisStore = StagedStore  # type: ignore[misc]
    if StagedStore.stage == Stage.CRASH_PRODUCING:
        streams.delivery.deliver_lists = deliver_half
    sys.argv.insert(1, "worker")
    main()
