"""The stream without servers: records and models made in one line, a producer that can fail, a whole worker."""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import Enum, auto
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from aiokafka.errors import KafkaConnectionError, RequestTimedOutError
from aiokafka.record.default_records import DefaultRecordBatch

from encoders.bundle import (
    RETRIEVERS,
    EncoderBundle,
    EncoderManifest,
    IndexRecord,
    RetrieverBundle,
    RetrieverManifest,
    vocabulary_fingerprint,
)
from encoders.records import DEFAULT_CATALOGUE, Interaction
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule
from index.flat import FlatIndex
from index.protocol import TunableIndex, VectorIndex
from streams.batches import RecordBatch
from streams.decode import Decoded, Limits, decode
from streams.metrics import WorkerMetrics
from streams.output import OutgoingRecord
from streams.pipeline import Batch, Serving, Source
from streams.record_batch import ReadyBatch
from streams.routing import partition_of
from streams.serving import EncoderModel, RetrieverModel
from streams.session import SessionKey, StoredSession
from streams.settings import TopicNames
from streams.store import LogBounds, MemoryStore, SessionStore
from streams.worker import BatchWorker, WorkerRules
from tests.small_encoders import small_encoder

NOW_MS = 1_700_000_000_000
FOREVER = Limits(max_future=timedelta(days=100_000))
TOPIC = "interactions"


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer hands it over."""

    offset: int
    value: bytes | None
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()
    topic: str = TOPIC


def click(user: str = "u", item: str | None = "1", event_id: str = "", **fields: Any) -> Interaction:
    """A click, or whatever `event_type` says."""
    given: dict[str, Any] = {"event_type": "click" if item else "request", "timestamp_ms": NOW_MS, **fields}
    return Interaction(event_id=event_id or f"{user}-{item}", user_id=user, item_id=item, **given)


def record(offset: int, interaction: Interaction) -> Record:
    """An interaction on the wire."""
    return Record(offset, interaction.to_json(), interaction.user_id.encode())


def records(interactions: Sequence[Interaction], start: int = 0) -> list[Record]:
    """Interactions on the wire, one offset after the other."""
    return [record(offset, interaction) for offset, interaction in enumerate(interactions, start)]


def events(interactions: Sequence[Interaction], start: int = 0) -> Decoded:
    """A batch of valid events, one offset after the other."""
    return decode(records(interactions, start), partition=0, n_partitions=1, limits=FOREVER, now_ms=NOW_MS)


def finding(source: Source, decoded: Decoded, stored: Mapping[SessionKey, StoredSession]) -> Batch:
    """A batch whose users have the stored sessions; those who are not in it have none."""
    found = [stored.get(key, StoredSession(b"")) for key in decoded.events.keys]
    return Batch(source, decoded, [each.packed for each in found], [each.seen for each in found])


def users_of(partition: int, n_partitions: int, n: int) -> list[str]:
    """``n`` users whose home is the partition."""
    found = (f"user-{i}" for i in range(10_000) if partition_of(f"user-{i}", n_partitions) == partition)
    return [next(found) for _ in range(n)]


@cache
def model(
    version: str = "a",
    ids: tuple[str, ...] = (),
    seed: int = 0,
    catalogue: str = DEFAULT_CATALOGUE,
    max_len: int = 50,
    index_type: type[VectorIndex] = FlatIndex,
    kind: str = "gru",
) -> EncoderModel:
    """A small untrained model over items "1" … "40", or over the given ids in the given order.

    Its index is as good as exact, of whatever kind it is.
    """
    item_ids = ids or tuple(str(number) for number in range(1, 41))
    encoder = small_encoder(kind, len(item_ids), hidden_dim=6, seed=seed)
    vocabulary = Vocabulary.from_ids(item_ids, catalogue)
    index = index_type.build(encoder.item_vectors)
    if isinstance(index, TunableIndex):
        index.effort = index.max_effort
    manifest = EncoderManifest(
        format_version=1,
        model="gru",
        version=version,
        kind=encoder.kind,
        config=encoder.config,
        window_rule=WindowRule(max_len=max_len),
        catalogue=catalogue,
        vocabulary_fingerprint=vocabulary_fingerprint(vocabulary),
        metrics={},
        trained_through={},
        items_offsets={},
        index=IndexRecord(kind=index.kind),
        created_at_ms=0,
        n_items=len(item_ids),
        embedding_dim=encoder.embedding_dim,
        files={},
    )
    popularity = np.zeros(len(item_ids) + 1, dtype=np.float32)
    bundle = EncoderBundle(Path("in-memory"), manifest, vocabulary, popularity, encoder, encoder.item_vectors)
    return EncoderModel(bundle, index)


def retriever_model(
    kind: str = "markov",
    version: str = "a",
    n_items: int = 40,
    catalogue: str = DEFAULT_CATALOGUE,
    rule: WindowRule | None = None,
    learned: Sequence[tuple[int, int]] = (),
    trained_through: Mapping[int, int] | None = None,
    config: Mapping[str, object] | None = None,
) -> RetrieverModel:
    """A retriever over items "1" …, that has learned some events, each of a session and an item."""
    retriever = RETRIEVERS[kind](RETRIEVERS[kind].Config.model_validate(config or {}))
    sessions, items = np.array(learned, dtype=np.int64).reshape(-1, 2).T.copy()
    retriever.learn(sessions, items, np.arange(len(items), dtype=np.float64))
    vocabulary = Vocabulary.from_ids([str(number) for number in range(1, n_items + 1)], catalogue)
    manifest = RetrieverManifest(
        format_version=2,
        model="films",
        version=version,
        kind=kind,
        config=retriever.config.model_dump(mode="json"),
        window_rule=rule or WindowRule(),
        catalogue=catalogue,
        vocabulary_fingerprint=vocabulary_fingerprint(vocabulary),
        metrics={},
        trained_through={TopicNames().interactions: dict(trained_through or {})},
        items_offsets={},
        created_at_ms=0,
        n_items=n_items,
        files={},
    )
    popularity = np.zeros(n_items + 1, dtype=np.float32)
    return RetrieverModel(RetrieverBundle(Path("in-memory"), manifest, vocabulary, popularity, retriever))


class Fault(Enum):
    """What can go wrong with one record on its way to the broker."""

    NONE = auto()
    REFUSED = auto()
    """`send` raises; nothing is written."""
    FAILED = auto()
    """The acknowledgement is an error; nothing is written."""
    UNANSWERED = auto()
    """The acknowledgement is an error, but the record is there."""
    SILENT = auto()
    """No acknowledgement ever comes, and nothing is written."""


def members_of(batch: ReadyBatch) -> list[tuple[bytes | None, bytes | None, tuple[tuple[str, bytes | None], ...]]]:
    """Key, value and headers of each record, as aiokafka reads them."""
    read = DefaultRecordBatch(bytearray(batch._build()))
    assert read.validate_crc()
    return [(record.key, record.value, tuple(record.headers)) for record in read]


class MemoryProducer:
    """aiokafka's producer over lists in memory, one for each topic.

    Args:
        fault: Asked before each record.
    """

    def __init__(self, fault: Callable[[OutgoingRecord], Fault] = lambda outgoing: Fault.NONE) -> None:
        self.topics: dict[str, list[OutgoingRecord]] = defaultdict(list)
        self.fault = fault
        self.attempts = 0
        self.n_partitions = 1

    async def send(
        self,
        topic: str,
        value: bytes | None = None,
        key: bytes | None = None,
        partition: int | None = None,
        timestamp_ms: int | None = None,
        headers: Sequence[tuple[str, bytes]] | None = None,
    ) -> asyncio.Future[object]:
        """See `streams.output.Producer`."""
        self.attempts += 1
        outgoing = OutgoingRecord(topic, key, value, tuple(headers or ()), partition)
        return self._answer([outgoing], self.fault(outgoing))

    def _answer(self, outgoing: Sequence[OutgoingRecord], fault: Fault) -> asyncio.Future[object]:
        if fault is Fault.REFUSED:
            raise KafkaConnectionError("no broker")
        if fault in (Fault.NONE, Fault.UNANSWERED):
            for record in outgoing:
                self.topics[record.topic].append(record)
        answer: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        if fault is Fault.NONE:
            answer.set_result(None)
        elif fault is not Fault.SILENT:
            answer.set_exception(RequestTimedOutError())
        return answer

    async def send_batch(self, batch: ReadyBatch, topic: str, *, partition: int) -> asyncio.Future[object]:
        """See `streams.output.Producer`; one fault for the whole batch, the first that a record meets."""
        self.attempts += 1
        members = [OutgoingRecord(topic, *member, partition) for member in members_of(batch)]
        faults = [self.fault(member) for member in members]
        return self._answer(members, next((fault for fault in faults if fault is not Fault.NONE), Fault.NONE))

    async def partitions_for(self, topic: str) -> set[int]:
        """See `streams.output.Producer`."""
        return set(range(self.n_partitions))

    def lists(self, topic: str = TopicNames().recommendations) -> list[dict[str, Any]]:
        """The lists that are on the broker, in the order of their arrival."""
        return [json.loads(outgoing.value or b"") for outgoing in self.topics[topic]]


class Bench:
    """A `BatchWorker` with everything around it in memory. Change `serving` to swap what answers."""

    def __init__(
        self,
        rules: WorkerRules | None = None,
        store: SessionStore | None = None,
        serving: Serving | None = None,
        sleep: Callable[[float], Awaitable[object]] | None = None,
    ) -> None:
        self.rules = rules or WorkerRules(TopicNames(), "cluster", 1)
        self.store = store or MemoryStore(n_partitions=self.rules.n_partitions)
        self.producer = MemoryProducer()
        self.serving = serving or Serving()
        self.metrics = WorkerMetrics()
        self.now_ms = NOW_MS
        """The worker's clock; change it to let time pass."""
        self.slept: list[float] = []
        self.waiting = asyncio.Event()
        """Set once the worker waits for a dependency."""
        self.worker = BatchWorker(
            self.store,
            lambda: self.producer,
            lambda: self.serving,
            self.rules,
            self.metrics,
            now_ms=lambda: self.now_ms,
            sleep=sleep or self._sleep,
        )

    async def _sleep(self, pause_s: float) -> None:
        self.slept.append(pause_s)
        self.waiting.set()
        await asyncio.sleep(0)

    async def acquire(self, end: int = 10_000, partition: int = 0, committed: int | None = None) -> None:
        """Take a partition whose log runs from 0 to ``end``."""
        await self.worker.acquire(partition, LogBounds(0, end, committed))

    def figure(self, name: str, **labels: str) -> float:
        """A metric's value; 0 where it has none yet."""
        return self.metrics.registry.get_sample_value(f"streamrec_{name}", labels) or 0.0


def batch(batch_records: Sequence[Record], partition: int = 0) -> RecordBatch:
    """Records as one fetch without gaps."""
    return RecordBatch(partition, batch_records[0].offset, batch_records[-1].offset + 1, batch_records)
