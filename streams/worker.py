"""The thin loop around the pipeline: load, process, produce, apply.

All batches of a fetch are worked out together (`BatchWorker.compute`), and each is then made durable
(`BatchWorker.deliver`) while the next fetch is worked out: every list is acknowledged by Kafka, then one script
sets the sessions, the counts and the offset. So state is exactly once and a list is never lost, at worst
repeated, with the same id. A dependency that is down stops progress and loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import TypeVar, cast

import numpy as np
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.batches import Computed, Handled, OwnedPartition, RecordBatch
from streams.decode import Decoded, Limits, decode
from streams.delivery import Delivery
from streams.errors import OvertakenError, StateMismatchError
from streams.metrics import WorkerMetrics
from streams.output import (
    Producer,
    dead_letter_record,
    forwarded_record,
)
from streams.pipeline import Batch, Outcome, Rules, Serving, Source, process
from streams.serving import RetrieverModel
from streams.session import SessionKey, StoredSession
from streams.settings import TopicNames
from streams.store import Applied, Changes, LogBounds, SessionStore

logger = logging.getLogger(__name__)
T = TypeVar("T")
_NO_SESSION = StoredSession(b"")
_LONGEST_PAUSE_S = 2.0


class RevokedError(Exception):
    """The partition was released while its batch waited for a dependency."""


@dataclass(frozen=True, slots=True)
class WorkerRules:
    """How this worker is set up."""

    topics: TopicNames
    cluster: str
    n_partitions: int
    pipeline: Rules = field(default_factory=Rules)
    limits: Limits = field(default_factory=Limits)
    dead_letter_limit_bytes: int = 65_536
    dead_letter_patience_s: float = 30.0
    """How long a dead letter may hold up its partition before it is given up and logged."""
    cached_sessions: int = 50_000
    """Sessions remembered for each partition."""


class BatchWorker:
    """Applies batches of the partitions that it owns.

    `handle` may run for several partitions at a time, but for each one batch after the other. `release` may be
    called at any time, also while `handle` waits: the batch in flight is then dropped.

    Args:
        store: Where the state lives.
        producer: Answers with a future that holds once a record is acknowledged.
        serving: Called once a batch: what answers now.
        rules: How the worker is set up.
        metrics: What it counts.
        now_ms: The clock, milliseconds since 1970.
        sleep: How to wait; a test passes its own.
    """

    def __init__(
        self,
        store: SessionStore,
        producer: Callable[[], Producer],
        serving: Callable[[], Serving],
        rules: WorkerRules,
        metrics: WorkerMetrics,
        *,
        now_ms: Callable[[], int],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self.store, self.rules, self.metrics = store, rules, metrics
        self._producer, self._serving, self._now_ms, self._sleep = producer, serving, now_ms, sleep
        self.partitions: dict[int, OwnedPartition] = {}
        self._suspected: set[int] = set()
        """Partitions whose state seemed to contradict itself when it was last looked at."""

    async def acquire(self, partition: int, log: LogBounds) -> OwnedPartition:
        """Take a partition; its `position` is where the caller must read on.

        Raises:
            StateMismatchError: If the stored state does not belong to this log.
            OvertakenError: If another worker took the partition meanwhile; the caller tries again.
            redis.exceptions.RedisError: If the store cannot be reached; the caller tries again.
        """
        self.release([partition])
        ownership = await self.store.acquire(partition, log)
        popularity = await self.store.popularity(partition)
        # Counts that another owner has moved on must not be added to, not even if the store falls back later.
        nothing = Changes(ownership.position, ownership.position)
        if await self.store.apply(partition, ownership.token, nothing) is not Applied.DONE:
            raise OvertakenError(f"partition {partition} was taken by another worker while its counts were read")
        if ownership.lost_to_retention:
            self.metrics.retention_lost.inc(ownership.lost_to_retention)
            logger.error(
                "partition %d: retention removed %d events before they were applied; going on at offset %d."
                " Raise retention.ms of %r or run more workers",
                partition, ownership.lost_to_retention, ownership.position, self.rules.topics.interactions,
            )  # fmt: skip
        if ownership.answered_until > ownership.position:
            logger.warning(
                "partition %d: rebuilding state from offset %d to %d, which has been answered before",
                partition, ownership.position, ownership.answered_until,
            )  # fmt: skip
        position = ownership.position
        owned = self.partitions[partition] = OwnedPartition(ownership, position, position, popularity)
        return owned

    def release(self, partitions: Sequence[int]) -> None:
        """Give partitions up; what was remembered of them is forgotten."""
        for partition in partitions:
            self.partitions.pop(partition, None)

    async def handle(self, batch: RecordBatch) -> Handled:
        """Apply one batch and make it durable; waits as long as a dependency is down.

        Raises:
            StateMismatchError: If the stored sessions contradict the stored offset.
        """
        computed, others = await self.compute([batch])
        return await self.deliver(computed[0]) if computed else others[batch.partition]

    async def compute(self, batches: Sequence[RecordBatch]) -> tuple[list[Computed], dict[int, Handled]]:
        """Work out what the batches of one fetch lead to. The next fetch may follow before this one is delivered.

        Waits as long as sessions cannot be loaded.

        Args:
            batches: One of each partition, at most.

        Returns:
            What is to be delivered, and what became of the other batches, by partition.

        Raises:
            StateMismatchError: If the stored sessions contradict the stored offset.
        """
        others: dict[int, Handled] = {}
        fitting: list[tuple[RecordBatch, OwnedPartition]] = []
        for batch in batches:
            owned = self.partitions.get(batch.partition)
            if owned is None or batch.end <= owned.computed:
                others[batch.partition] = Handled.STALE
            elif batch.start > owned.computed:
                others[batch.partition] = Handled.GAP
            else:
                fitting.append((batch, owned))
        if not fitting:
            return [], others
        with self.metrics.stage("decode"):
            decoded = [self._decode(batch, owned) for batch, owned in fitting]
        with self.metrics.stage("load"):
            sessions = await self._sessions(fitting, decoded)
        ready: list[tuple[RecordBatch, OwnedPartition, Batch]] = []
        for (batch, owned), events, found in zip(fitting, decoded, sessions, strict=True):
            if isinstance(found, OvertakenError):
                others[batch.partition] = await self._overtaken(batch, owned, found)
            elif isinstance(found, RevokedError) or self.partitions.get(batch.partition) is not owned:
                others[batch.partition] = Handled.STALE
            elif isinstance(found, BaseException):
                raise found
            else:
                ready.append((batch, owned, Batch(self._source(batch), events, *found)))
        now_ms, serving = self._now_ms(), self._serving()
        outcomes = process([given for _, _, given in ready], serving, self.rules.pipeline, now_ms, self.metrics.stage)
        if isinstance(serving.model, RetrieverModel):
            self._learn(serving.model, [given.source for _, _, given in ready], outcomes)
        with self.metrics.stage("pack"):
            computed = [self._computed(*each, out, now_ms) for each, out in zip(ready, outcomes, strict=True)]
            for each in computed:
                self._advance(each, now_ms)  # only now: where packing one fails, all are worked out again
        return computed, others

    def _learn(self, model: RetrieverModel, sources: Sequence[Source], outcomes: Sequence[Outcome]) -> None:
        """Let the model have the events that it has just answered; those of batches to come are answered with them."""
        with self.metrics.stage("learn"):
            for source, outcome in zip(sources, outcomes, strict=True):
                self.metrics.learned.inc(model.learner.learn(source.topic, source.partition, outcome.clicks))

    def _decode(self, batch: RecordBatch, owned: OwnedPartition) -> Decoded:
        records = batch.records
        if batch.start < owned.computed:
            records = [record for record in records if record.offset >= owned.computed]
        return decode(
            records,
            partition=batch.partition,
            n_partitions=self.rules.n_partitions,
            limits=self.rules.limits,
            now_ms=self._now_ms(),
        )

    def _source(self, batch: RecordBatch) -> Source:
        return Source(self.rules.cluster, self.rules.topics.interactions, batch.partition)

    def _computed(
        self, batch: RecordBatch, owned: OwnedPartition, given: Batch, outcome: Outcome, now_ms: int
    ) -> Computed:
        """What a batch is to become."""
        topics, answered, decoded = self.rules.topics, owned.ownership.answered_until, given.decoded
        counters = {
            "events": len(decoded.events),
            "duplicates": outcome.duplicates,
            "dead_letters": len(decoded.dead),
            "forwarded": len(decoded.misplaced),
        }
        changes = Changes(
            owned.computed,
            batch.end,
            outcome.sessions,
            outcome.counts.onto(owned.popularity),
            counters,
            outcome.seen,
            [key for key in owned.sessions.to_refresh(decoded.events.keys, now_ms) if key not in outcome.seen],
        )
        n_answered = int(np.searchsorted(decoded.events.offset_B, answered))
        lists = outcome.lists[n_answered:]
        forwarded = [forwarded_record(m, topics.interactions) for m in decoded.misplaced if m.record.offset >= answered]
        dead = [
            dead_letter_record(d, topics, topics.interactions, batch.partition, self.rules.dead_letter_limit_bytes)
            for d in decoded.dead
            if d.record.offset >= answered
        ]
        return Computed(
            batch.partition,
            owned,
            changes,
            [lists] if len(lists) else [],
            forwarded,
            dead,
            Counter(letter.reason for letter in decoded.dead),
            outcome.sources,
            sum(map(len, outcome.sessions.values()))
            + sum(map(len, outcome.seen.values()))
            + lists.size_bytes
            + sum([len(record.value or b"") for record in (*forwarded, *dead)]),
        )

    def _advance(self, computed: Computed, now_ms: int) -> None:
        """Let the next batch find what this one leads to."""
        owned, changes = computed.owned, computed.changes
        owned.computed = changes.end
        owned.popularity.update(changes.popularity)
        owned.sessions.update(changes, now_ms)

    async def deliver(self, computed: Computed) -> Handled:
        """Make a batch durable: first all that goes out, then its state; waits as long as a dependency is down.

        For one partition, call it for one batch after the other.

        Raises:
            StateMismatchError: If the stored sessions contradict the stored offset.
        """
        partition, owned, changes = computed.partition, computed.owned, computed.changes
        if self.partitions.get(partition) is not owned or owned.position != changes.start:
            return Handled.STALE
        try:
            with self.metrics.stage("produce"):
                await self._produce(computed)
            with self.metrics.stage("commit"):
                applied = await self._wait_for(
                    "Redis", partition, owned, lambda: self.store.apply(partition, owned.ownership.token, changes)
                )
        except RevokedError:
            return Handled.STALE
        if applied in (Applied.OK, Applied.DONE):
            owned.position = changes.end
            self._suspected.discard(partition)
            self._count(computed)
            return Handled.DONE
        logger.warning(
            "partition %d: offsets %d to %d were %s by the store; taking it anew",
            partition, changes.start, changes.end, applied.value,
        )  # fmt: skip
        return self._lose(partition, owned, applied.value)

    def _lose(self, partition: int, owned: OwnedPartition, reason: str) -> Handled:
        self.metrics.batches_refused.labels(reason).inc()
        if self.partitions.get(partition) is not owned:  # taken anew meanwhile, or revoked: nothing more is to be done
            return Handled.STALE
        self.release([partition])
        return Handled.LOST

    async def _overtaken(self, batch: RecordBatch, owned: OwnedPartition, error: OvertakenError) -> Handled:
        """What to do where a stored session holds events that are still to come.

        Raises:
            StateMismatchError: If the store has been seen to contradict itself before.
        """
        if not await self._is_current(batch.partition, owned):
            self._suspected.discard(batch.partition)
        elif batch.partition not in self._suspected:
            # A store that fell back since the session was read looks the same; then it will be right next time.
            self._suspected.add(batch.partition)
        else:
            raise StateMismatchError(
                f"the state of {self.rules.topics.interactions!r}, partition {batch.partition}, contradicts itself:"
                f" {error}. Redis has lost some keys and kept others (is its maxmemory-policy noeviction?)."
                " `streamrec state reset` drops the rest and the workers rebuild the state from the log."
            ) from error
        logger.warning("partition %d: %s; taking it anew", batch.partition, error)
        return self._lose(batch.partition, owned, "overtaken")

    async def still_owns(self, partition: int) -> bool:
        """Whether the store agrees on who owns the partition and how far its state has come.

        Where it does not (it came back without its last writes, or another worker took over), the partition
        is released, and the caller acquires it anew. True while a batch is on its way: that will tell.

        Raises:
            redis.exceptions.RedisError: If the store cannot be reached; nothing is known then.
        """
        owned = self.partitions.get(partition)
        if owned is None:
            return True
        position = owned.position
        answer = await self.store.apply(partition, owned.ownership.token, Changes(position, position))
        if answer is Applied.DONE or self.partitions.get(partition) is not owned:
            return True
        if owned.position != position or owned.computed != position:  # its script may have come first
            return True
        logger.warning(
            "partition %d: the store says %s at offset %d; taking it anew", partition, answer.value, position
        )
        self.metrics.batches_refused.labels(answer.value).inc()
        self.release([partition])
        return False

    async def _is_current(self, partition: int, owned: OwnedPartition) -> bool:
        """Whether the store still has this worker for the owner and its position for the state's end."""

        async def ask() -> bool:
            position = owned.position
            answer = await self.store.apply(partition, owned.ownership.token, Changes(position, position))
            return answer is Applied.DONE or owned.position != position  # a batch in flight has moved it

        try:
            return await self._wait_for("Redis", partition, owned, ask)
        except RevokedError:
            return False

    async def _sessions(
        self, batches: Sequence[tuple[RecordBatch, OwnedPartition]], decoded: Sequence[Decoded]
    ) -> list[tuple[list[bytes], list[bytes]] | BaseException]:
        """The sessions of each batch's users and what they have seen, or why they could not be loaded."""
        loads = [self._find(*fitting, each.events.keys) for fitting, each in zip(batches, decoded, strict=True)]
        return await asyncio.gather(*loads, return_exceptions=True)

    async def _find(
        self, batch: RecordBatch, owned: OwnedPartition, keys: Sequence[SessionKey]
    ) -> tuple[list[bytes], list[bytes]]:
        """Sessions from memory, those that are not there from the store."""
        cache = owned.sessions
        cache.forget(self.rules.cached_sessions, owned.position)  # no later: what is found must stay until it is used
        found, seen = cache.find(keys), cache.seen(keys)
        lacking = [n for n, session in enumerate(found) if session is None] if None in found else []
        if lacking:
            loaded = await self._load(batch, owned, [keys[n] for n in lacking])
            for n, session in zip(lacking, loaded, strict=True):
                found[n], seen[n] = session or _NO_SESSION
        return cast("list[bytes]", found), seen

    async def _load(
        self, batch: RecordBatch, owned: OwnedPartition, keys: Sequence[SessionKey]
    ) -> list[StoredSession | None]:
        """Sessions that are not in memory, as the store has them."""
        # Every session that a batch in flight has changed is in memory, so nothing here can be older than it.
        position = owned.position
        stored = await self._wait_for("Redis", batch.partition, owned, lambda: self.store.load(batch.partition, keys))
        loaded = [(key, session) for key, session in zip(keys, stored, strict=True) if session]
        for _, session in loaded:
            applied_offset = session.session().applied_offset  # that raises where the stored bytes cannot be read
            if applied_offset >= position:
                raise OvertakenError(f"a session holds offset {applied_offset}, the batch begins at {position}")
        for key, session in loaded:
            owned.sessions.add(key, session)
        return stored

    async def _produce(self, computed: Computed) -> None:
        """Send what goes out and await every acknowledgement; dead letters are given up after a while."""
        partition, owned, rules = computed.partition, computed.owned, self.rules
        delivery = Delivery(computed, self._producer, rules.topics.recommendations, rules.n_partitions, self.metrics)
        if computed.dead_letters:
            await delivery.send_dead(
                rules.dead_letter_patience_s, lambda: self.partitions.get(partition) is owned, self._sleep
            )
        await self._wait_for("Kafka", partition, owned, delivery.attempt)

    async def _wait_for(
        self, dependency: str, partition: int, owned: OwnedPartition, attempt: Callable[[], Awaitable[T]]
    ) -> T:
        """Repeat an attempt until it succeeds; say once that it waits, and once that it goes on.

        Raises:
            RevokedError: If the partition was released meanwhile.
        """
        pause_s, waiting = 0.05, False
        while self.partitions.get(partition) is owned:
            try:
                answer = await attempt()
            except (RedisError, KafkaError, OSError) as error:
                if not waiting:
                    waiting = True
                    logger.warning(
                        "partition %d: %s does not take offset %d: %s: %s. Waiting for it; nothing is lost",
                        partition, dependency, owned.position, type(error).__name__, error,
                    )  # fmt: skip
                await self._sleep(pause_s)
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
                continue
            if waiting:
                logger.warning("partition %d: %s answers again; going on", partition, dependency)
            return answer
        raise RevokedError

    def _count(self, computed: Computed) -> None:
        metrics, counters = self.metrics, computed.changes.counters
        metrics.batch_size.observe(counters["events"])
        metrics.events.inc(counters["events"])
        for counter, n in ((metrics.duplicates, counters["duplicates"]), (metrics.forwarded, counters["forwarded"])):
            if n:
                counter.inc(n)
        for reason, n in computed.dead_by_reason.items():
            metrics.dead_letters.labels(reason).inc(n)
        for source, n in computed.lists_by_source.items():
            metrics.lists.labels(source).inc(n)
