"""Takes partitions over: asks the state store where to go on, then lets the consumer read from there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping

from aiokafka.errors import ConsumerStoppedError, KafkaError
from faust.types import TP
from mode import Service
from redis.exceptions import RedisError, ResponseError

from streams.batches import OwnedPartition
from streams.errors import OvertakenError, StateAheadError, StreamsError
from streams.store import LogBounds
from streams.transport import Consumer
from streams.worker import BatchWorker

logger = logging.getLogger(__name__)
_LONGEST_PAUSE_S = 2.0
_WATCH_S = 5.0
"""How often the store is asked whether it still agrees."""
_LOOK_AGAIN_AFTER_S = (0.0, 0.25, 0.5, 1.0)
"""Pauses before another look at the end of a log that the state seems to be ahead of."""
_TELL_AFTER = 3
"""Such rounds without an assignment before the log says so."""


class PartitionKeeper(Service):
    """Acquires every partition that is assigned, and again each one that was lost to another writer.

    A partition stays paused until it is acquired, however long the store is away; it is never read
    from an offset that only Kafka knows.

    Args:
        worker: Whose partitions these are.
        on_fatal: Called where going on would do harm, such as with state that does not belong to this
            log; it must stop the worker.
        may_join: Whether the worker has begun to join the consumer group.
    """

    def __init__(
        self,
        worker: BatchWorker,
        on_fatal: Callable[[StreamsError], None],
        may_join: Callable[[], bool] = lambda: True,
    ) -> None:
        super().__init__()
        self._may_join = may_join
        self._worker, self._on_fatal = worker, on_fatal
        self._consumer: Consumer | None = None
        self._wanted: set[TP] = set()
        self._changed = asyncio.Event()
        self.assigned: set[TP] | None = None
        """None before the first assignment."""
        self.trouble = ""
        """Why a partition cannot be acquired at the moment; empty while all is well."""

    @property
    def waiting(self) -> int:
        """How many assigned partitions are not acquired yet."""
        return len(self._wanted)

    def on_assigned(self, consumer: Consumer, partitions: Iterable[TP]) -> None:
        """Acquire these partitions, and no others."""
        self._consumer = consumer
        self.assigned = set(partitions)
        self._worker.release(list(self._worker.partitions))
        self._wanted = set(self.assigned)
        self._changed.set()

    def on_revoked(self, partitions: Iterable[TP]) -> None:
        """Give these partitions up at once; a batch in flight is dropped."""
        revoked = set(partitions)
        self._wanted -= revoked
        if self.assigned is not None:
            self.assigned -= revoked
        self._worker.release([tp.partition for tp in revoked])

    def lost(self, tp: TP) -> None:
        """Acquire a partition anew that the store refused to take a batch for, if it is still assigned."""
        if tp in (self.assigned or ()):
            self._wanted.add(tp)
            self._changed.set()

    def torn(self, tp: TP) -> None:
        """Acquire a partition anew whose log no longer holds what comes next: retention, or another log."""
        logger.warning("partition %d: the log does not go on where its state ends; looking at it anew", tp.partition)
        self._worker.release([tp.partition])
        self.lost(tp)

    @Service.task
    async def _keep(self) -> None:
        pause_s = 0.05
        while not self.should_stop:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._acquire_wanted()
            except (RedisError, KafkaError, OSError, OvertakenError) as error:
                self._report(error)
                self._changed.set()
                await self.sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            except StreamsError as error:
                self._on_fatal(error)
                return
            except ConsumerStoppedError:  # the worker stops, and with it all that it owns
                return
            else:
                pause_s = 0.05

    @Service.task
    async def _watch(self) -> None:
        """Notice a store that fell back also where no event comes, so that the log is replayed at once."""
        n_unassigned = 0
        while not self.should_stop:
            await self.sleep(_WATCH_S)
            n_unassigned += self.assigned is None and self._may_join()
            if self.assigned is None and n_unassigned == _TELL_AFTER:
                logger.warning(
                    "no answer from the consumer group for %g s; still waiting. A broker needs kafka.session_timeout_s"
                    " to notice members that died; where it takes longer, its log may say why",
                    n_unassigned * _WATCH_S,
                )
            for tp in sorted((self.assigned or set()) - self._wanted):
                try:
                    current = await self._worker.still_owns(tp.partition)
                except (RedisError, OSError) as error:
                    logger.debug("the store cannot be asked about partition %d: %s", tp.partition, error)
                    break
                owned = self._worker.partitions.get(tp.partition)
                if not current:
                    self.lost(tp)
                elif owned and self._consumer and (self._consumer.highwater(tp) or owned.position) < owned.position:
                    self.torn(tp)

    async def _acquire_wanted(self) -> None:
        """Acquire all that is wanted, then let the consumer read: it fetches nothing before.

        If one cannot be acquired, the others are read all the same, and its error is raised; where the store cannot
        be reached, those behind it are not tried.
        """
        consumer, wanted = self._consumer, sorted(self._wanted)
        if consumer is None or not wanted:
            return
        bounds = await consumer.log_bounds(wanted)
        acquired: dict[TP, OwnedPartition] = {}
        refused: Exception | None = None
        try:
            for tp in wanted:
                # One that is revoked before its turn may have its next owner by now, who must not be disturbed.
                if tp in self._wanted:
                    try:
                        acquired[tp] = await self._acquire(consumer, tp, bounds[tp])
                    except (ResponseError, OvertakenError) as error:
                        refused = error
        finally:
            await self._read(consumer, acquired)
        if refused:
            raise refused
        if self.trouble:
            logger.warning("partitions can be acquired again; going on")
            self.trouble = ""

    async def _read(self, consumer: Consumer, acquired: Mapping[TP, OwnedPartition]) -> None:
        """Let the consumer read what was acquired, as far as it still is ours."""
        # A rebalance meanwhile has released what was acquired before it.
        kept = {tp: owned for tp, owned in acquired.items() if self._worker.partitions.get(tp.partition) is owned}
        for tp in kept.keys() - self._wanted:
            self._worker.release([tp.partition])
        positions = {tp: owned.position for tp, owned in kept.items() if tp in self._wanted}
        if not positions:
            return
        await consumer.start_at(positions)
        # What was assigned anew or lost since it was acquired is wanted still.
        self._wanted -= {tp for tp in positions if self._worker.partitions.get(tp.partition) is kept[tp]}
        places = ", ".join(f"{tp.partition} at offset {offset}" for tp, offset in positions.items())
        logger.info("acquired partitions: %s", places)

    async def _acquire(self, consumer: Consumer, tp: TP, log: LogBounds) -> OwnedPartition:
        """Acquire one partition.

        State that seems ahead of the log is compared with the log again: a former owner may have applied events that
        came after the log's end was looked at, and a broker under load may be late to show it.

        Raises:
            StateAheadError: If it is ahead each time.
            OvertakenError: If the partition was revoked in between.
        """
        ahead: StateAheadError | None = None
        for pause_s in _LOOK_AGAIN_AFTER_S:
            try:
                return await self._worker.acquire(tp.partition, log)
            except StateAheadError as error:
                ahead = error
            await self.sleep(pause_s)
            log = (await consumer.log_bounds([tp]))[tp]
            if tp not in self._wanted:
                raise OvertakenError(f"partition {tp.partition} was revoked while it was acquired") from ahead
        return await self._worker.acquire(tp.partition, log)

    def _report(self, error: Exception) -> None:
        trouble = f"{type(error).__name__}: {error}"
        if not self.trouble:
            logger.warning("partitions cannot be acquired yet, waiting: %s", trouble)
        self.trouble = trouble
