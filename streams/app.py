"""Puts a worker together: the Faust app, the agent that feeds the pipeline, and the services around it."""

from __future__ import annotations

import asyncio
import logging
import signal
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import faust
from faust.transport.drivers.aiokafka import Producer as KafkaProducer
from faust.types import TP
from mode import Service
from redis.exceptions import RedisError

from encoders.records import ModelUpdate
from streams.batches import Computed, Handled, RecordBatch
from streams.broadcast import BroadcastReader
from streams.decode import Limits
from streams.errors import StreamsError
from streams.feeds import ModelUpdates, check_user
from streams.items import ItemCatalogue
from streams.lanes import Lanes
from streams.metrics import WorkerMetrics
from streams.output import PRODUCE_BATCH_BYTES, Producer
from streams.ownership import PartitionKeeper
from streams.pipeline import Rules, Serving
from streams.preflight import Place
from streams.reload import Reloader
from streams.serving import ModelSlot
from streams.settings import KafkaSettings, ModelSettings, RedisSettings, WebSettings, WorkerSettings
from streams.store import RedisStore
from streams.transport import BatchApp, BatchSchema, Consumer
from streams.trending import PopularityBoard
from streams.web import Condition, WebServer
from streams.worker import BatchWorker, WorkerRules

logger = logging.getLogger(__name__)
SMALL_FETCH = 256
"""Events. A fetch of fewer costs more than they do, so the next one waits until their lists and state are durable: what
arrives meanwhile comes in one."""
SENDING_TURNS = 20
"""Turns of the event loop within which the lists of a fetch are with Kafka. Working out the next one holds the loop, so
after a larger fetch it waits for that: else its lists would leave a whole batch later."""
SMALL_FETCH_PATIENCE_S = 0.05
"""The longest of these waits; a dependency that is down must not hold up what does not need it."""

DRAIN_TIMEOUT_S = 5.0
"""How long a worker that stops tries to finish what it has begun."""

PRODUCE_TIMEOUT_S = 30.0
"""A list that Kafka has not taken for so long is reported as waiting, and sent again."""


@dataclass(frozen=True)
class WorkerConfig:
    """All settings that a worker reads."""

    kafka: KafkaSettings
    redis: RedisSettings
    worker: WorkerSettings
    model: ModelSettings
    web: WebSettings


class StreamWorker:
    """One worker process: everything it is made of, wired once, here.

    Args:
        config: All its settings.
        place: The Kafka cluster that it works on.
    """

    def __init__(self, config: WorkerConfig, place: Place) -> None:
        self.config, self.place = config, place
        self.metrics = WorkerMetrics()
        self.items = ItemCatalogue()
        self.slot = ModelSlot()
        self.app = _faust_app(config)
        topics = config.kafka.topics
        store = RedisStore(
            config.redis.client(),
            topic=topics.interactions,
            cluster=place.cluster,
            n_partitions=place.n_partitions,
            session_ttl=config.redis.session_ttl,
            prefix=config.redis.key_prefix,
        )
        self.worker = BatchWorker(
            store,
            self._producer,
            self.serving,
            worker_rules(config, place),
            self.metrics,
            now_ms=lambda: time.time_ns() // 1_000_000,
        )
        self.lanes = Lanes(self.worker.deliver, self._delivered, self, config.worker.max_pending_bytes, self._stop_for)
        self._drained = False
        """Whether nothing more may be delivered, since the worker stops."""
        self.fatal: StreamsError | None = None
        """Why the worker stopped itself."""
        self.keeper = PartitionKeeper(self.worker, self._stop_for, self.prepared)
        self.board = PopularityBoard(
            self.worker,
            config.worker.popularity_refresh,
            limit=2 * (config.worker.top_n + config.worker.max_seen + config.model.window.max_len),
        )
        self.reloader = Reloader(self.slot, config.model.window, self.metrics)
        updates = ModelUpdates(config.model.name, self._offer)
        self.broadcast = BroadcastReader(
            config.kafka,
            {topics.items: self.items.apply, topics.users: check_user, topics.model_updates: updates.apply},
            self.metrics,
            on_caught_up=updates.caught_up,
        )
        self.web = WebServer(
            config.web.host,
            config.web.port,
            status=self.status,
            conditions=self.conditions,
            metrics=self.exposition,
        )
        self._serving = Serving()
        self.app.may_join = self.prepared
        self.app.drain = self._drain
        self._attach()

    @property
    def services(self) -> list[Service]:
        """What runs beside the Faust app."""
        return [self.web, self.reloader, self.broadcast, self.keeper, self.board]

    @property
    def consumer(self) -> Consumer:
        """The consumer of the app, of our own transport."""
        return cast(Consumer, self.app.consumer)

    def _producer(self) -> Producer:
        return cast(Producer, cast(KafkaProducer, self.app.producer)._ensure_producer())

    def _stop_for(self, error: StreamsError) -> None:
        """Stop as if an operator had asked for it; `fatal` says why."""
        self.fatal = error
        signal.raise_signal(signal.SIGTERM)

    def _offer(self, update: ModelUpdate) -> None:
        self.reloader.offer(update)

    def _attach(self) -> None:
        """Feed the batches of `interactions` to the worker, and tell the keeper what is assigned."""
        app = self.app
        topic = app.topic(self.config.kafka.topics.interactions, schema=BatchSchema(), acks=True)

        @app.on_partitions_revoked.connect(weak=False)
        async def on_revoked(app: Any, revoked: set[TP], **kwargs: Any) -> None:
            self.keeper.on_revoked(revoked)

        @app.on_partitions_assigned.connect(weak=False)
        async def on_assigned(app: Any, assigned: set[TP], **kwargs: Any) -> None:
            if not assigned:  # there is nothing to seek then, so the consumer does not tell
                self.keeper.on_assigned(self.consumer, assigned)

        @app.agent(topic, name="interactions")
        async def interactions(stream: Any) -> None:
            self.consumer.on_assigned = partial(self.keeper.on_assigned, self.consumer)
            self.consumer.on_torn = self.keeper.torn
            async for event in stream.noack().events():
                try:
                    await self._take(event.value)
                finally:
                    self.consumer.taken(event.value)

    async def _take(self, batches: list[RecordBatch]) -> None:
        """Work out the batches of one fetch and hand them to their lanes; whatever happens, the agent goes on."""
        pause_s = 0.1
        while True:
            try:
                computed, others = await self.worker.compute(batches)
            except StreamsError as error:
                self._stop_for(error)
                return
            except Exception:  # a defect: retried in place, since leaving a batch out would lose events
                places = ", ".join(f"{batch.partition} from offset {batch.start} to {batch.end}" for batch in batches)
                logger.exception("partitions %s failed; trying again", places)
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, 30.0)
                continue
            break
        if self._drained:
            return
        for each in computed:
            self.lanes.push(each)
        for partition, handled in others.items():
            await self._go_on(partition, handled)
        if sum(len(batch.records) for batch in batches) < SMALL_FETCH:
            with suppress(TimeoutError):
                async with asyncio.timeout(SMALL_FETCH_PATIENCE_S):
                    await self.lanes.drained()
        else:
            for _ in range(SENDING_TURNS):
                await asyncio.sleep(0)

    async def _delivered(self, computed: Computed, handled: Handled) -> None:
        if handled is not Handled.DONE:
            await self._go_on(computed.partition, handled)
            return
        self.consumer.done(self._tp(computed.partition), computed.changes.end)
        await self._count(computed.changes.counters["events"])

    async def _drain(self) -> None:
        """Finish what is on its way; what takes too long, or is still being worked out, is left to the next owner."""
        try:
            async with asyncio.timeout(DRAIN_TIMEOUT_S):
                await self.lanes.drained()
        except TimeoutError:
            logger.warning(
                "%d bytes were not durable in time; the next owner does them again", self.lanes.waiting_bytes
            )
        self._drained = True
        self.lanes.abandon()

    async def _go_on(self, partition: int, handled: Handled) -> None:
        """Acquire what was lost, and read anew what is missing."""
        if handled is Handled.LOST:
            self.keeper.lost(self._tp(partition))
        elif handled is Handled.GAP and (owned := self.worker.partitions.get(partition)):
            await self.consumer.start_at({self._tp(partition): owned.computed})
            if self.lanes.is_full(partition):
                self.pause(partition)

    def pause(self, partition: int) -> None:
        """See `Valve.pause`."""
        self.consumer.pause_partitions({self._tp(partition)})

    def resume(self, partition: int) -> None:
        """See `Valve.resume`; a partition that waits to be acquired stays paused."""
        if partition in self.worker.partitions:
            self.consumer.resume_partitions({self._tp(partition)})

    def _tp(self, partition: int) -> TP:
        return TP(self.config.kafka.topics.interactions, partition)

    async def _count(self, n_events: int) -> None:
        try:
            await self.board.counted(n_events)
        except RedisError as error:
            logger.debug("popularity of other partitions cannot be read: %s", error)

    def prepared(self) -> bool:
        """Whether the items are known and the model, if there is one, is loaded.

        Events that waited for a worker would else be answered without the model, with items that are sold out.
        """
        return self.broadcast.caught_up and self.reloader.plan.settled

    def serving(self) -> Serving:
        """What answers now; the same object until something of it changes."""
        model, popular, unavailable = self.slot.current, self.board.popular, self.items.unavailable
        old = self._serving
        if old.model is not model or old.popular is not popular or old.unavailable is not unavailable:
            self._serving = Serving(model, popular, unavailable)
        return self._serving

    def conditions(self) -> Iterable[Condition]:
        """What has to hold before this worker is ready."""
        keeper, broadcast = self.keeper, self.broadcast
        yield Condition("broadcast", broadcast.caught_up, broadcast.trouble or f"{broadcast.behind} records to read")
        yield Condition("assignment", keeper.assigned is not None, "waiting for the consumer group")
        yield Condition("partitions", not keeper.waiting, keeper.trouble or f"{keeper.waiting} still to acquire")
        yield Condition("model", self.reloader.plan.settled, "a model is being loaded")

    def status(self) -> Mapping[str, object]:
        """What `/health` tells."""
        model, refused = self.slot.current, self.reloader.plan.refused
        return {
            "partitions": sorted(self.worker.partitions),
            "model_version": model.version if model else None,
            "reload": self.reloader.plan.state.value,
            "refused": refused._asdict() if refused else None,
            "items": len(self.items),
        }

    def exposition(self) -> bytes:
        """What `/metrics` tells."""
        self.metrics.items.set(len(self.items))
        self.metrics.items_unavailable.set(len(self.items.unavailable))
        self.metrics.pending_bytes.set(self.lanes.waiting_bytes)
        self.metrics.lag.clear()
        for partition, owned in self.worker.partitions.items():
            highwater = self.consumer.highwater(TP(self.config.kafka.topics.interactions, partition))
            self.metrics.lag.labels(partition).set(max(0, (highwater or 0) - owned.position))
        return self.metrics.exposition()


def worker_rules(config: WorkerConfig, place: Place) -> WorkerRules:
    """What the settings mean to a `BatchWorker`."""
    worker = config.worker
    return WorkerRules(
        topics=config.kafka.topics,
        cluster=place.cluster,
        n_partitions=place.n_partitions,
        pipeline=pipeline_rules(worker, config.model),
        limits=Limits(worker.max_future, worker.max_record_bytes),
        dead_letter_limit_bytes=worker.dead_letter_limit_bytes,
        dead_letter_patience_s=worker.dead_letter_patience.total_seconds(),
        cached_sessions=worker.cached_sessions,
    )


def pipeline_rules(worker: WorkerSettings, model: ModelSettings) -> Rules:
    """What the settings mean to the pipeline."""
    return Rules(
        window=model.window,
        top_n=worker.top_n,
        max_seen=worker.max_seen,
        recent_events=worker.recent_events,
        popularity_half_life=worker.popularity_half_life,
    )


def _faust_app(config: WorkerConfig) -> BatchApp:
    kafka = config.kafka
    app = BatchApp(
        kafka.group_id,
        broker=";".join(f"streamrec://{address}" for address in kafka.brokers.split(",")),
        broker_client_id=kafka.client_id,
        broker_credentials=_credentials(kafka),
        broker_session_timeout=kafka.session_timeout_s,
        broker_heartbeat_interval=kafka.heartbeat_interval_s,
        broker_rebalance_timeout=kafka.rebalance_timeout_s,
        broker_max_poll_records=config.worker.max_batch,
        broker_commit_interval=1.0,
        consumer_auto_offset_reset="earliest",
        producer_client_id=kafka.client_id,
        producer_linger=0.0,
        producer_max_batch_size=PRODUCE_BATCH_BYTES,
        producer_request_timeout=PRODUCE_TIMEOUT_S,
        store="memory://",
        stream_buffer_maxsize=1,  # the transport hands over one fetch at a time
        stream_wait_empty=False,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        datadir=Path(tempfile.gettempdir()) / "streamrec-faust",  # Faust makes one, and nothing here uses it
    )
    app.fetch_max_wait_ms = kafka.fetch_max_wait_ms
    return app


def _credentials(kafka: KafkaSettings) -> Any:
    auth = kafka.aiokafka_config()
    context = auth.get("ssl_context")
    if kafka.uses_sasl:
        return faust.SASLCredentials(
            username=auth["sasl_plain_username"],
            password=auth["sasl_plain_password"],
            ssl_context=context,
            mechanism=kafka.sasl_mechanism,
        )
    return faust.SSLCredentials(context=context) if context else None
