"""Reads the broadcast topics: every worker needs all of `items`, `users` and `model-updates`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping

from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError
from mode import Service

from streams.errors import DependencyError
from streams.feeds import Feed
from streams.metrics import WorkerMetrics
from streams.settings import KafkaSettings

log = logging.getLogger(__name__)

_RETRY_S = 1.0
_IDLE_MS = 1000
_ANSWER_S = 5.0
"""A broker that says nothing for so long counts as away."""
_CHUNK = 500
"""Records applied before the event loop gets its turn."""

Offsets = dict[TopicPartition, int]


class BroadcastReader(Service):
    """Follows whole topics from their beginning, outside any consumer group.

    While Kafka is away it keeps trying, says so once an outage, and goes on where it was. A record
    that its feed refuses is counted, logged and skipped. Aborted transactions are not read.

    Args:
        kafka: Where the topics are.
        feeds: What takes the records, by topic; called on the event loop.
        metrics: Counts valid and refused records.
        on_caught_up: Called once, when all that was there at the start has been applied.
    """

    def __init__(
        self,
        kafka: KafkaSettings,
        feeds: Mapping[str, Feed],
        metrics: WorkerMetrics,
        on_caught_up: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self.caught_up = False
        """Whether everything that was there at the start has been applied; stays true from then on."""
        self.trouble = ""
        """Why nothing can be read at the moment; empty while all is well."""
        self._kafka = kafka
        self._feeds = feeds
        self._metrics = metrics
        self._on_caught_up = on_caught_up
        self._positions: Offsets = {}
        self._ends: Offsets = {}

    @property
    def behind(self) -> int:
        """How many offsets are left to read of what was there at the start."""
        return sum(max(0, end - self._positions.get(partition, 0)) for partition, end in self._ends.items())

    @Service.task
    async def _keep_following(self) -> None:
        while not self.should_stop:
            try:
                await self._follow()
            except (KafkaError, OSError, DependencyError) as error:  # a time-out is an OSError
                self._report(error)
                await self.sleep(_RETRY_S)

    async def _follow(self) -> None:
        """Read until the service stops or Kafka goes away."""
        consumer = AIOKafkaConsumer(
            **self._kafka.aiokafka_config(),
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            isolation_level="read_committed",
            request_timeout_ms=int(_ANSWER_S * 1000),
        )
        try:
            await consumer.start()
            partitions = await self._partitions(consumer)
            await self._seek(consumer, partitions)
            self._recovered()
            while not self.should_stop:
                await self._note_progress(consumer, partitions)
                fetched = await consumer.getmany(timeout_ms=_IDLE_MS, max_records=_CHUNK)
                for records in fetched.values():
                    self._apply(records)
                if fetched:
                    await asyncio.sleep(0)
                else:  # fetching hides a broker that went away, so an idle reader asks for something that cannot
                    await self._partitions(consumer)
        finally:
            await _stop(consumer)

    async def _partitions(self, consumer: AIOKafkaConsumer) -> set[TopicPartition]:
        # Asked for by name, a topic that is missing might be created by the broker; asked for all, none is. Only
        # the client under the consumer hands out the partitions then.
        cluster = await asyncio.wait_for(consumer._client.fetch_all_metadata(), _ANSWER_S)
        numbers = {topic: cluster.partitions_for_topic(topic) for topic in self._feeds}
        if missing := sorted(topic for topic, found in numbers.items() if not found):
            names = ", ".join(missing)
            raise DependencyError(f"Kafka at {self._kafka.brokers} has no topic {names}; run `streamrec topics create`")
        return {TopicPartition(topic, number) for topic, found in numbers.items() for number in found}

    async def _seek(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        """Go on where reading stopped, or begin where the log begins."""
        begins = await consumer.beginning_offsets(partitions)
        ends = await consumer.end_offsets(partitions)
        consumer.assign(partitions)
        for partition in partitions:
            position = self._positions.get(partition, 0)
            if not begins[partition] <= position <= ends[partition]:
                position = begins[partition]
            consumer.seek(partition, position)
        if not self.caught_up:
            self._ends = ends

    async def _note_progress(self, consumer: AIOKafkaConsumer, partitions: set[TopicPartition]) -> None:
        # Positions, not offsets of records: what compaction or a transaction left at a log's end is no record.
        for partition in partitions:
            self._positions[partition] = await consumer.position(partition)
        if not self.caught_up and not self.behind:
            self.caught_up = True
            log.info("the broadcast topics %s are read to their end", ", ".join(self._feeds))
            self._on_caught_up()

    def _apply(self, records: list[ConsumerRecord]) -> None:
        topic = records[0].topic
        feed, valid = self._feeds[topic], 0
        for record in records:
            refusal = feed(record.key, record.value)
            if refusal is None:
                valid += 1
                continue
            self._metrics.broadcast_invalid.labels(topic, refusal.reason).inc()
            place = f"{topic}[{record.partition}] offset {record.offset}"
            log.warning("skipped %s: %s: %s", place, refusal.reason, refusal.detail)
        self._metrics.broadcast.labels(topic).inc(valid)

    def _report(self, error: Exception) -> None:
        if isinstance(error, DependencyError):
            trouble = str(error)
        else:
            reason = str(error) or type(error).__name__
            trouble = f"Kafka at {self._kafka.brokers} does not answer: {reason}; check that it runs and kafka.brokers"
        if not self.trouble or (isinstance(error, DependencyError) and trouble != self.trouble):
            log.error("%s. Trying again every %g s.", trouble, _RETRY_S)
        self.trouble = trouble

    def _recovered(self) -> None:
        if self.trouble:
            log.info("Kafka at %s is back, reading %s", self._kafka.brokers, ", ".join(self._feeds))
            self.trouble = ""


async def _stop(consumer: AIOKafkaConsumer) -> None:
    """Stop a consumer and close its connections.

    In aiokafka 0.14 `stop` awaits the fetches that it cancels, and one that was about to try again lets its
    CancelledError through: it would end the task that called, and leave the connections open.
    """
    try:
        await consumer.stop()
    except asyncio.CancelledError:
        await consumer._client.close()
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
