"""What the demo measures, computed from the log and the lists: no I/O, no clock."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

import numpy as np

HITS_AT = 10


class LoggedEvent(NamedTuple):
    """One interaction as the log holds it."""

    partition: int
    offset: int
    event_id: str
    user_id: str
    item_id: str


class MadeList(NamedTuple):
    """The list that was made for one event."""

    model_version: str | None
    item_ids: tuple[str, ...]


class Phase(StrEnum):
    """What went on while an event was on its way."""

    STEADY = "steady"
    TRAINING = "training"
    """The trainer had the processor too."""
    SWAP = "swap"
    """From the announcement of the second model until both workers had answered from it."""
    TAKEOVER = "takeover"
    """From the kill of a worker until the other had caught up with all partitions."""


class Span(NamedTuple):
    """When a phase other than `STEADY` was on, in seconds of one monotonic clock."""

    phase: Phase
    start_s: float
    end_s: float


class Trip(NamedTuple):
    """When an event was published and when its list came, in seconds of the same clock."""

    sent_s: float
    received_s: float


class Percentiles(NamedTuple):
    """Latencies of one phase, in milliseconds; the percentiles are None where there were no events."""

    n: int
    p50: float | None
    p95: float | None
    p99: float | None


_GRAVITY = (Phase.TAKEOVER, Phase.SWAP, Phase.TRAINING)


def phase_of(trip: Trip, spans: Iterable[Span]) -> Phase:
    """The gravest phase that was on at any moment of an event's way, so that no stall counts as steady.

    Example:
        >>> phase_of(Trip(sent_s=9.9, received_s=15.0), [Span(Phase.TAKEOVER, 10.0, 20.0)])
        <Phase.TAKEOVER: 'takeover'>
    """
    lived = {span.phase for span in spans if trip.sent_s <= span.end_s and trip.received_s >= span.start_s}
    return next((phase for phase in _GRAVITY if phase in lived), Phase.STEADY)


def latencies(trips: Iterable[Trip], spans: Sequence[Span]) -> dict[Phase, Percentiles]:
    """Percentiles of the time from publication to receipt, for each phase (linear interpolation)."""
    by_phase: dict[Phase, list[float]] = {phase: [] for phase in Phase}
    for trip in trips:
        by_phase[phase_of(trip, spans)].append((trip.received_s - trip.sent_s) * 1000)
    return {phase: percentiles(found) for phase, found in by_phase.items()}


def percentiles(latencies_ms: Sequence[float]) -> Percentiles:
    """The 50th, 95th and 99th percentile.

    Example:
        >>> percentiles([10.0, 20.0, 30.0])
        Percentiles(n=3, p50=20.0, p95=29.0, p99=29.8)
    """
    if not latencies_ms:
        return Percentiles(0, None, None, None)
    return Percentiles(len(latencies_ms), *(round(float(v), 3) for v in np.percentile(latencies_ms, [50, 95, 99])))


def lost_and_duplicated(published: Collection[str], received: Mapping[str, int]) -> tuple[list[str], int]:
    """Published event ids without a list, and how many lists came beyond the first of each event."""
    lost = [event_id for event_id in published if not received.get(event_id)]
    return lost, sum(n - 1 for n in received.values() if n > 1)


@dataclass
class Hits:
    """Hits at 10 of the lists and of popularity, over the same targets."""

    targets: int = 0
    hits: int = 0
    popularity_hits: int = 0

    @property
    def rate(self) -> float | None:
        """Share of the targets that the list before them held; None without targets."""
        return self.hits / self.targets if self.targets else None

    @property
    def popularity_rate(self) -> float | None:
        """The same for popularity."""
        return self.popularity_hits / self.targets if self.targets else None

    def add(self, hit: bool, popularity_hit: bool) -> None:
        """Count one target."""
        self.targets += 1
        self.hits += hit
        self.popularity_hits += popularity_hit


@dataclass
class HitRates:
    """Hit rates of all users, and of those the list's model had and had not been trained on."""

    all: Hits = field(default_factory=Hits)
    known: Hits = field(default_factory=Hits)
    new: Hits = field(default_factory=Hits)


class TrainingData:
    """What one model version was trained on, and the popularity ranking of just these events.

    Args:
        log: The whole log.
        through: By partition, the first offset that the model has not seen.
    """

    def __init__(self, log: Iterable[LoggedEvent], through: Mapping[int, int]) -> None:
        trained = [event for event in log if event.offset < through.get(event.partition, 0)]
        self.users = {event.user_id for event in trained}
        counts = Counter(event.item_id for event in trained)
        self.ranking = sorted(counts, key=lambda item_id: (-counts[item_id], item_id))
        self.ranks = {item_id: rank for rank, item_id in enumerate(self.ranking)}

    def popularity_hit(self, target: str, seen: Collection[str], k: int = HITS_AT) -> bool:
        """Whether ``target`` is among the ``k`` most popular items that are not in ``seen``."""
        rank = self.ranks.get(target)
        if rank is None or target in seen:
            return False
        return rank < k or sum(item_id not in seen for item_id in self.ranking[:rank]) < k


def hit_rates(
    log: Sequence[LoggedEvent],
    lists: Mapping[str, MadeList],
    replayed: Collection[str],
    models: Mapping[str, TrainingData],
) -> HitRates:
    """Score each replayed event against the list made for the same user's previous event.

    Previous is by offset, so the figures do not depend on how fast the events came. A user's very first
    event has no list before it and is no target. Where the list before was lost, the target counts as
    missed. A list that no model made is held against the first model's training data.

    Args:
        log: Every interaction; the partitions may come in any order, each in the order of its offsets.
        lists: The list made for each event id.
        replayed: Event ids of the targets.
        models: By version, what each model was trained on; the first one first. Not empty.
    """
    rates = HitRates()
    first_model = next(iter(models.values()))
    previous: dict[str, str] = {}
    seen: dict[str, set[str]] = defaultdict(set)
    for event in log:
        before = previous.get(event.user_id)
        if before is not None and event.event_id in replayed:
            made = lists.get(before, MadeList(None, ()))
            model = models[made.model_version] if made.model_version else first_model
            hit = event.item_id in made.item_ids[:HITS_AT]
            popularity_hit = model.popularity_hit(event.item_id, seen[event.user_id])
            group = rates.known if event.user_id in model.users else rates.new
            for hits in (rates.all, group):
                hits.add(hit, popularity_hit)
        previous[event.user_id] = event.event_id
        seen[event.user_id].add(event.item_id)
    return rates
