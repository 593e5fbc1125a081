"""Events on their way in and lists on their way out, each in a thread of its own."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from encoders.records import Interaction, ModelUpdate, Recommendation, Record
from streams.cli.consume import open_consumer
from streams.cli.demo.score import HITS_AT, MadeList, Trip
from streams.publish import Pace, open_producer, publish

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

    from streams.settings import KafkaSettings

RECENT_EVENTS = 500
"""Over how many of the newest events running figures are taken."""


class Announced(NamedTuple):
    """A model, and when its announcement came."""

    update: ModelUpdate
    received_s: float


class Shown(NamedTuple):
    """An event of the replay and the list that came for it."""

    event: Interaction
    made: Recommendation
    foreseen: bool | None
    """Whether the user's list before held the item; None if there was no list before."""


@dataclass
class Ledger:
    """What has been published and what has come back. Two threads write, each its own part; any may read."""

    published: list[str] = field(default_factory=list)
    events: dict[str, Interaction] = field(default_factory=dict)
    """The replayed ones."""
    sent_s: dict[str, float] = field(default_factory=dict)
    received: Counter[str] = field(default_factory=Counter)
    received_s: dict[str, float] = field(default_factory=dict)
    lists: dict[str, MadeList] = field(default_factory=dict)
    models: list[Announced] = field(default_factory=list)
    versions: list[str] = field(default_factory=list)
    """Model versions of the lists, in the order of their first list."""
    recent: deque[Shown] = field(default_factory=lambda: deque(maxlen=RECENT_EVENTS))
    targets: int = 0
    hits: int = 0
    _before: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def publishing(self, event: Interaction, *, replayed: bool) -> None:
        """An event is about to be handed to Kafka."""
        self.published.append(event.event_id)
        if replayed:
            self.events[event.event_id] = event
            self.sent_s[event.event_id] = time.monotonic()

    def receive(self, made: Recommendation) -> None:
        """A list has come."""
        now_s = time.monotonic()
        self.received[made.event_id] += 1
        if self.received[made.event_id] > 1:
            return
        self.received_s[made.event_id] = now_s
        item_ids = tuple(item.item_id for item in made.items)
        self.lists[made.event_id] = MadeList(made.model_version, item_ids)
        if made.model_version and made.model_version not in self.versions:
            self.versions.append(made.model_version)
        before = self._before.get(made.user_id)
        self._before[made.user_id] = item_ids
        if event := self.events.get(made.event_id):
            foreseen = None if before is None else event.item_id in before[:HITS_AT]
            self.targets += foreseen is not None
            self.hits += foreseen is True
            self.recent.append(Shown(event, made, foreseen))

    @property
    def n_unanswered(self) -> int:
        """How many published events have no list yet."""
        return len(self.published) - len(self.received)

    def oldest_unanswered_s(self) -> float | None:
        """When the oldest replayed event without a list was published; None if all have one."""
        for event_id, sent_s in self.sent_s.copy().items():
            if event_id not in self.received_s:
                return sent_s
        return None

    def trips(self) -> list[Trip]:
        """The way of each replayed event that was answered."""
        return [Trip(sent, self.received_s[e]) for e, sent in self.sent_s.items() if e in self.received_s]


class _Background(threading.Thread):
    """A thread whose failure is kept for whoever asks."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.failure: Exception | None = None
        self._ending = threading.Event()

    def run(self) -> None:
        try:
            self.work()
        except Exception as error:
            self.failure = error

    def work(self) -> None:
        raise NotImplementedError

    def end(self) -> None:
        """Ask it to end, and wait a little."""
        self._ending.set()
        if self.is_alive():
            self.join(timeout=5.0)


class Feed(_Background):
    """Replays interactions at a pace that may be changed on the way."""

    def __init__(self, kafka: KafkaSettings, interactions: Iterable[Interaction], pace: Pace, ledger: Ledger) -> None:
        super().__init__("feed")
        self.pace = pace
        self.n_sent = 0
        self.took_s = 0.0
        self._kafka = kafka
        self._interactions = interactions
        self._ledger = ledger

    def work(self) -> None:
        """Publish until all is published."""
        with closing(open_producer(self._kafka)) as producer:
            began_s = time.monotonic()
            publish(
                producer,
                self._kafka.topics.interactions,
                self._until_the_end(),
                pace=self.pace,
                on_sent=self._on_sent,
            )
            self.took_s = time.monotonic() - began_s

    def _until_the_end(self) -> Iterator[Interaction]:
        for interaction in self._interactions:
            if self._ending.is_set():
                return
            yield interaction

    def _on_sent(self, record: Record) -> None:
        assert isinstance(record, Interaction)
        self._ledger.publishing(record, replayed=True)
        self.n_sent += 1


class Receiver(_Background):
    """Consumes recommendations as any application would, and sees models being announced."""

    def __init__(self, kafka: KafkaSettings, ledger: Ledger) -> None:
        super().__init__("receiver")
        self._kafka = kafka
        self._ledger = ledger

    def work(self) -> None:
        """Consume until told to end."""
        topics = self._kafka.topics
        handlers = {topics.recommendations: self._list, topics.model_updates: self._model}
        with closing(open_consumer(self._kafka, list(handlers), from_start=True)) as consumer:
            while not self._ending.is_set():
                for place, records in consumer.poll(timeout_ms=100).items():
                    for record in records:
                        handlers[place.topic](record)

    def _list(self, record: ConsumerRecord) -> None:
        self._ledger.receive(Recommendation.model_validate_json(record.value))

    def _model(self, record: ConsumerRecord) -> None:
        update = ModelUpdate.model_validate_json(record.value)
        self._ledger.models.append(Announced(update, time.monotonic()))
