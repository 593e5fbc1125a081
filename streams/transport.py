"""A Faust transport that hands over whole record batches, reads committed records only, and commits what is done.

Faust's own driver passes one record at a time and guesses what is safe to commit from gaps between
offsets. Here one message is one fetch, a list with one `RecordBatch` for each partition that had something,
and a ledger holds the offset up to which batches are done: nothing else is ever committed.
Chosen by the scheme of the broker URL, ``streamrec://``, through the entry-point group ``faust.transports``.

Where a partition is read from is not Kafka's business but the state store's: after every assignment all
partitions are paused, and the app seeks and resumes each one that it has acquired.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, ClassVar, NamedTuple, cast

import aiokafka
import faust
from aiokafka.consumer.fetcher import FetchResult
from aiokafka.errors import KafkaError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, ConsumerMessage
from mode.utils.futures import maybe_async

from streams.batches import RecordBatch
from streams.fetch_wait import FetchWait
from streams.store import LogBounds

logger = logging.getLogger(__name__)
_TAIL_PATIENCE_S = 1.0
"""How long the tail of a log may take to arrive; a tail that transactions left empty never does."""


_PAUSED_FETCH_S = 0.05
"""How long a fetch may wait while partitions are paused: one that is resumed is not in it."""


class Fetched(NamedTuple):
    """One fetch."""

    batches: list[RecordBatch]
    torn: set[TP]
    """Partitions whose log no longer holds what comes next; no more of them is handed over before they are sought."""


_READY_S = 0.003
"""A fetch that is there so soon had been asked for while the app was still busy with the one before."""
_TOP_UP_S = 0.004
"""How long the broker then gets to send what has come since."""
_MAY_JOIN_S = 0.02
"""How often an app that waits to join looks whether it may."""


def _as_read(partition: aiokafka.TopicPartition, record: Any) -> Any:
    return record


class BatchSchema(faust.Schema[Any, Any]):
    """Leaves a message as it is: a batch is decoded by the pipeline."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """No key: a batch has many."""
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        """The batches themselves."""
        return message.value


class BatchApp(faust.App):
    """A Faust app for this transport."""

    fetch_max_wait_ms: int = 500
    """How long a broker may hold back the answer to a fetch while it has nothing."""
    may_join: Callable[[], bool] = staticmethod(lambda: True)
    """Whether all is there that answering takes; before, the app does not join the consumer group."""

    drain: Callable[[], Awaitable[None]] | None = None
    """Waits, not too long, until what was fetched is durable; called before the app leaves the consumer group."""

    async def _stop_consumer(self) -> None:
        await super()._stop_consumer()
        if self.drain:
            await self.drain()

    async def on_start(self) -> None:
        """Hold everything back that would take partitions from workers that are further."""
        await super().on_start()
        while not (self.should_stop or self.may_join()):  # noqa: ASYNC110  # what is waited for tells nobody
            await asyncio.sleep(_MAY_JOIN_S)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """Talks to Kafka; a thread in Faust's terms, here a service on the app's own event loop.

    In Faust a consumer needs a thread, since an agent may block the loop. Here the longest that anything holds it is
    one batch, and a thread would wait for the interpreter's lock at every step of every fetch.
    """

    mundane_level = "debug"
    wait_for_shutdown = False

    def __init__(self, consumer: Consumer, *, loop: asyncio.AbstractEventLoop, **kwargs: Any) -> None:
        super().__init__(consumer, loop=loop, thread_loop=loop, **kwargs)

    async def start(self) -> None:
        """Start as a service, in no thread."""
        self._thread_started.set()
        await self._default_start()

    async def on_stop(self) -> None:
        """Leave the group and close the connections."""
        await self.on_thread_stop()

    def _stopped_set(self) -> None:
        self._stopped.set()

    async def _stop_futures(self) -> None:
        await self._default_stop_futures()

    async def call_thread(self, fun: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call at once."""
        return await maybe_async(fun(*args, **kwargs))

    def __post_init__(self) -> None:
        super().__post_init__()
        self._handed_over: dict[TP, int] = {}
        """Offset after the last record that was handed over, or that was sought; without one nothing is handed over."""
        self._fetch_wait = FetchWait(cast(BatchApp, self.app).fetch_max_wait_ms)

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust offers this with its own transactions only; aiokafka reads it when the consumer starts.
        consumer._isolation_level = "read_committed"
        consumer._fetch_max_wait_ms = self._fetch_wait.wait_ms
        return consumer

    async def fetch_batches(self, active: set[TP], timeout_s: float, max_records: int) -> Fetched:
        """Whatever has arrived, one batch a partition; waits at most ``timeout_s`` for the first record."""
        return cast(Fetched, await self.call_thread(self._fetch_batches, active, timeout_s, max_records))

    async def _fetch_batches(self, active: set[TP], timeout_s: float, max_records: int) -> Fetched:
        consumer = self._ensure_consumer()
        fetched = await self._fetch_plain(consumer, active, timeout_s, max_records)
        # No await since the records were taken, so positions belong to them, whatever was sought before.
        assignment = consumer._subscription.subscription.assignment
        batches, n_left = [], 0
        for tp in active & self._handed_over.keys():
            partition = driver.ensure_aiokafka_TP(tp)
            state = assignment and assignment.state_value(partition)
            if not state or not state.has_valid_position:
                continue
            n_left += max(0, (state.lso or 0) - state.position)
            records, start = fetched.get(partition, ()), self._handed_over[tp]
            # A position moves without records over what transactions leave behind: markers, and all that was aborted.
            if records or state.position != start:
                self._handed_over[tp] = state.position
                batches.append(RecordBatch(tp.partition, start, state.position, records))
        n_records = sum(len(batch.records) for batch in batches)
        if self._fetch_wait.after(n_records, n_left, consumer._loop.time()):
            consumer._fetcher._fetch_max_wait_ms = self._fetch_wait.wait_ms
            logger.warning(
                "the broker finds few records where there are many; giving it %d ms for a fetch from now on (of"
                " kafka.fetch_max_wait_ms = %d)",
                self._fetch_wait.wait_ms, cast(BatchApp, self.app).fetch_max_wait_ms,
            )  # fmt: skip
        return await self._without_torn(consumer, batches, next(iter(active)).topic)

    async def _fetch_plain(
        self, consumer: aiokafka.AIOKafkaConsumer, active: set[TP], timeout_s: float, max_records: int
    ) -> dict[Any, Any]:
        """Records as they are read from the wire: aiokafka's `ConsumerRecord` costs as much again as reading one."""
        fetcher, deadline = consumer._fetcher, consumer._loop.time() + timeout_s
        while True:
            for result in fetcher._records.values():
                if isinstance(result, FetchResult) and result.has_more():
                    result._partition_records._consumer_record = _as_read
            fetched = await self._fetch_records(consumer, active, 0.0, max_records)
            left_s = deadline - consumer._loop.time()
            if fetched or left_s <= 0:
                return cast("dict[Any, Any]", fetched)
            waiter = fetcher._create_fetch_waiter()
            done, _ = await asyncio.wait([waiter], timeout=left_s)
            if not done or fetcher._closed:
                waiter.cancel()
                return {}
            waiter.result()  # raises where the topic may not be read

    async def _without_torn(
        self, consumer: aiokafka.AIOKafkaConsumer, batches: list[RecordBatch], topic: str
    ) -> Fetched:
        """Set apart what does not follow what was handed over before.

        aiokafka goes to a log's start where an offset is gone: retention has removed it, or the topic was made anew.
        """
        fetched = Fetched([], set())
        for batch in batches:
            tp, first = TP(topic, batch.partition), batch.records[0].offset if batch.records else batch.end
            torn = first < batch.start
            if first > batch.start + 1:  # transactions and compaction leave gaps, too
                partition = driver.ensure_aiokafka_TP(tp)
                try:
                    torn = (await consumer.beginning_offsets([partition]))[partition] > batch.start
                except KafkaError as error:
                    logger.warning("partition %d: cannot tell what a gap is, reading it again: %s", tp.partition, error)
                    self._read_again(consumer, tp, batch)
                    continue
            if not torn:
                fetched.batches.append(batch)
            elif self._handed_over.get(tp) == batch.end:  # not sought since
                del self._handed_over[tp]
                fetched.torn.add(tp)
        return fetched

    def _read_again(self, consumer: aiokafka.AIOKafkaConsumer, tp: TP, batch: RecordBatch) -> None:
        """Let the next fetch bring a batch once more, unless the partition was sought or went away meanwhile."""
        if self._handed_over.get(tp) == batch.end:
            with suppress(KafkaError):
                consumer.seek(driver.ensure_aiokafka_TP(tp), batch.start)
                self._handed_over[tp] = batch.start

    def forget(self, partitions: Iterable[TP]) -> None:
        """Hand nothing over of these partitions until they are sought: another worker may have had them meanwhile."""
        for tp in partitions:
            self._handed_over.pop(tp, None)

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Read each partition from its offset on; what was fetched before is not handed over any more."""
        await self.call_thread(self._seek_all, offsets)

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        for tp, offset in offsets.items():
            self._ensure_consumer().seek(driver.ensure_aiokafka_TP(tp), offset)
            self._handed_over[tp] = offset

    async def log_bounds(self, partitions: Iterable[TP]) -> dict[TP, LogBounds]:
        """Where each partition's log begins and ends, and what the group has committed."""
        return cast("dict[TP, LogBounds]", await self.call_thread(self._log_bounds, partitions))

    async def _log_bounds(self, partitions: Iterable[TP]) -> dict[TP, LogBounds]:
        consumer, wanted = self._ensure_consumer(), {driver.ensure_aiokafka_TP(tp): tp for tp in partitions}
        # A fetch that was under way when these were assigned gets to see what is read here, and must not hand it over.
        self.forget(wanted.values())
        begins = await consumer.beginning_offsets(list(wanted))
        ends = await consumer.end_offsets(list(wanted))
        # Tansu names the beginning of the last batch as a log's end, so read that batch. Every broker allows it.
        unread = [partition for partition in wanted if ends[partition] > begins[partition]]
        for partition in unread:
            consumer.seek(partition, ends[partition] - 1)
        deadline = consumer._loop.time() + _TAIL_PATIENCE_S
        while unread and consumer._loop.time() < deadline:
            for partition in await consumer.getmany(*unread, timeout_ms=100):
                ends[partition] = max(ends[partition], consumer.last_stable_offset(partition))
                unread.remove(partition)
        return {
            tp: LogBounds(begins[partition], ends[partition], await consumer.committed(partition))
            for partition, tp in wanted.items()
        }


class Consumer(driver.Consumer):
    """Hands over batches, and commits what `done` was told."""

    mundane_level = "debug"
    _thread: ConsumerThread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._done: dict[TP, int] = {}
        """Ledger: offset after the last batch that is durable, for each partition."""
        self._may_fetch = asyncio.Event()
        self._may_fetch.set()
        self._in_hand: list[RecordBatch] | None = None
        """The fetch that the app has and is not done with."""
        self.on_assigned: Callable[[set[TP]], None] = lambda partitions: None
        """Called after every assignment, when the partitions stand paused."""
        self.on_torn: Callable[[TP], None] = lambda partition: None
        """Called where a partition's log no longer holds what comes next."""

    def taken(self, batches: list[RecordBatch]) -> None:
        """The app is done with a fetch, and takes another; one from before a rebalance is waited for no longer."""
        if batches is self._in_hand:
            self._let_go()

    def _let_go(self) -> None:
        self._in_hand = None
        self._may_fetch.set()

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def perform_seek(self) -> None:
        """Hold all partitions until the app has acquired them and seeks; Faust calls this after an assignment."""
        assigned = self.assignment()
        self._let_go()  # Faust may have dropped what waited for the app
        self.pause_partitions(assigned)
        self._thread.forget(assigned)
        for tp in assigned:
            self._done.pop(tp, None)
        self.on_assigned(assigned)

    async def start_at(self, offsets: Mapping[TP, int]) -> None:
        """Read acquired partitions, each from its offset on."""
        await self._thread.seek_all(offsets)
        self.resume_partitions(self.assignment().intersection(offsets))

    async def log_bounds(self, partitions: Iterable[TP]) -> dict[TP, LogBounds]:
        """Where each partition's log begins and ends, and what the group has committed."""
        return await self._thread.log_bounds(partitions)

    def done(self, tp: TP, next_offset: int) -> None:
        """Everything before ``next_offset`` is durable and may be committed."""
        self._done[tp] = next_offset

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, ConsumerMessage]]:  # noqa: ASYNC109  # Faust's
        """Each fetch as one message, while the flow is not suspended and the app is done with the one before."""
        await self._may_fetch.wait()
        if not self.flow_active:
            await self.can_resume_flow.wait()
        active = self._readable()
        if not active:
            await self.sleep(0.1)
            return
        if self._paused_partitions:
            timeout = min(timeout, _PAUSED_FETCH_S)
        batches, torn = await self._fetch(active, timeout)
        for tp in torn:
            self.on_torn(tp)
        if batches and self.flow_active:
            self._may_fetch.clear()
            self._in_hand = batches
            tp = next(tp for tp in active if tp.partition == batches[0].partition)
            yield tp, self._to_message(tp, batches)

    def _readable(self) -> set[TP]:
        """Partitions that may be read as of now: one may be paused while it is fetched."""
        return set(self._get_active_partitions())

    async def _fetch(self, active: set[TP], timeout_s: float) -> Fetched:
        """One fetch; where it lay ready, with what has come since it was asked for.

        aiokafka asks for more as soon as all that it has is taken, gets what little has come by then, and does not ask
        again before that is taken as well. A busy app would answer each event a whole fetch later than it could.
        """
        clock, most = asyncio.get_running_loop().time, self.app.conf.broker_max_poll_records
        asked_s = clock()
        fetched = await self._thread.fetch_batches(active, timeout_s, most)
        n_records = sum(len(batch.records) for batch in fetched.batches)
        if not 0 < 2 * n_records <= most or clock() - asked_s > _READY_S:
            return fetched
        if not (active := (self._readable() & active) - fetched.torn):
            return fetched
        more = await self._thread.fetch_batches(active, _TOP_UP_S, most - n_records)
        return Fetched(_joined(fetched.batches, more.batches), fetched.torn | more.torn)

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A message for Faust: the batches are its value, and it claims to be the first one's first record."""
        batches: list[RecordBatch] = record
        size = sum(len(r.value or b"") for batch in batches for r in batch.records)
        return ConsumerMessage(
            tp.topic, tp.partition, batches[0].start, time.time(), 0, [], None, cast(Any, batches),
            None, 0, size, tp, generation_id=self.app.consumer_generation_id,
        )  # fmt: skip

    async def _drain_messages(self, fetcher: Any) -> None:
        """Pass batches to the streams; an app that has not taken the last ones holds this up: the back-pressure."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                async for _, message in self.getmany(timeout=1.0):
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except self.consumer_stopped_errors:
            if not self.app.should_stop:
                raise
        except asyncio.CancelledError:
            if not self.app.should_stop:
                raise

    def on_buffer_full(self, tp: TP) -> None:
        """Nothing: `getmany` waits for the app."""

    def on_buffer_drop(self, tp: TP) -> None:
        """Nothing, see `on_buffer_full`."""

    def track_message(self, message: Any) -> None:
        """Nothing: the ledger knows what is done, and a rebalance waits for no batch."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        return iter(list(self._done))

    def _new_offset(self, tp: TP) -> int | None:
        return self._done.get(tp)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: gaps mean nothing to the ledger."""

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Nothing: Faust would take a partition that waits for Redis for a hanging agent."""

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Forget the ledger of what goes away."""
        self._let_go()
        self._thread.forget(revoked)
        for tp in revoked:
            self._done.pop(tp, None)
        await super().on_partitions_revoked(revoked)


def _joined(first: Sequence[RecordBatch], more: Sequence[RecordBatch]) -> list[RecordBatch]:
    """The batches of two fetches, one of each partition; where it was sought in between, only what came then counts."""
    batches = {batch.partition: batch for batch in first}
    for batch in more:
        before = batches.get(batch.partition)
        if before and before.end == batch.start:
            records = [*before.records, *batch.records]
            batches[batch.partition] = RecordBatch(batch.partition, before.start, batch.end, records)
        else:
            batches[batch.partition] = batch
    return [*batches.values()]


class Transport(driver.Transport):
    """Faust's Kafka transport with batches."""

    Consumer: ClassVar[type[Consumer]] = Consumer
