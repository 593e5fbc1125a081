"""However a log is cut into batches, and wherever a worker crashes, it leads to the same state and the same lists."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from enum import Enum, auto
from itertools import pairwise
from typing import Any, NamedTuple

from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events import EventType
from encoders.window import WindowRule
from streams.batches import Handled
from streams.decode import Limits
from streams.fold import differences, fold
from streams.output import OutgoingRecord
from streams.pipeline import Rules, Serving
from streams.popularity import most_popular
from streams.session import Session, SessionKey, unpack
from streams.settings import TopicNames
from streams.store import Applied, Changes, MemoryStore
from streams.worker import WorkerRules
from tests.inmemory import NOW_MS, Bench, Fault, Record, batch, click, model, record

RULES = Rules(window=WindowRule(max_len=5, session_gap_s=40), max_seen=6, recent_events=3)
WORKER_RULES = WorkerRules(TopicNames(), "cluster", 1, RULES, cached_sessions=2)
SERVING = Serving(
    model(max_len=5), {"default": most_popular([{str(n): -float(n) for n in range(1, 60)}], "default", 100)}
)


class Drawn(NamedTuple):
    """One record of a log, in few numbers."""

    user: int
    item: int
    event_id: int
    kind: EventType
    pause_s: int
    bad: bool


drawn = st.builds(
    Drawn,
    st.integers(0, 3),
    st.integers(1, 45),
    st.integers(0, 12),
    st.sampled_from([EventType.CLICK, EventType.RATING, EventType.CLICK, EventType.SKIP, EventType.REQUEST]),
    st.sampled_from([0, 1, 39, 40, 41]),
    st.sampled_from([False] * 9 + [True]),
)


@st.composite
def logs(draw: st.DrawFn) -> list[Record]:
    """Restarts, gaps, repeats, duplicates, requests, items that no model knows, bad records."""
    found, time_s = [], NOW_MS // 1000 - 10_000
    for offset, event in enumerate(draw(st.lists(drawn, min_size=1, max_size=40))):
        time_s += event.pause_s
        item = None if event.kind is EventType.REQUEST else str(event.item)
        made = click(f"u{event.user}", item, f"e{event.event_id}", event_type=event.kind, timestamp_ms=1000 * time_s)
        found.append(Record(offset, b"bad") if event.bad else record(offset, made))
    return found


@st.composite
def cut_logs(draw: st.DrawFn, n_cuts: int = 1) -> tuple[list[Record], list[list[int]]]:
    """A log and so many ways to cut it into batches."""
    log = draw(logs())
    inner = st.sets(st.integers(1, len(log) - 1)) if len(log) > 1 else st.just(set())
    return log, [[0, *sorted(draw(inner)), len(log)] for _ in range(n_cuts)]


async def apply(bench: Bench, log: Sequence[Record], cuts: Sequence[int]) -> None:
    """Take the partition over and go on in batches to the log's end."""
    await bench.acquire(len(log))
    position = bench.worker.partitions[0].position
    for start, end in pairwise(sorted({position, *(cut for cut in cuts if cut > position)})):
        assert await bench.worker.handle(batch(log[start:end])) is Handled.DONE


def sessions(store: MemoryStore) -> dict[SessionKey, Session]:
    stored = store.partitions[0]
    return {key: unpack(blob, stored.seen.get(key, b"")) for key, blob in stored.sessions.items()}


def assert_same_state(store: MemoryStore, other: MemoryStore, log: Sequence[Record]) -> None:
    """Bit by bit, but for encoder states, which are what the model makes of the window."""
    one, two = store.partitions[0], other.partitions[0]
    assert (one.position, one.counters) == (two.position, two.counters)
    assert one.popularity == two.popularity
    folded = fold(log, partition=0, n_partitions=1, rules=RULES, limits=Limits(), now_ms=NOW_MS)
    assert one.popularity == folded.popularity
    models = {SERVING.model.state_key: SERVING.model} if SERVING.model else {}
    for found in (sessions(store), sessions(other)):
        assert differences(folded.sessions, found, models.get) == []
    assert {k: set(s.states) for k, s in sessions(store).items()} == {
        k: set(s.states) for k, s in sessions(other).items()
    }


def assert_same_lists(one: Sequence[dict[str, Any]], other: Sequence[dict[str, Any]]) -> None:
    """Equal but for the last digits of scores, and so for the order of items that score alike."""
    assert len(one) == len(other)
    for a, b in zip(one, other, strict=True):
        assert {k: v for k, v in a.items() if k != "items"} == {k: v for k, v in b.items() if k != "items"}
        assert len(a["items"]) == len(b["items"])
        for x, y in zip(a["items"], b["items"], strict=True):
            assert abs(x["score"] - y["score"]) < 1e-4
            assert x["source"] == y["source"]


def new_bench(store: MemoryStore | None = None) -> Bench:
    return Bench(WORKER_RULES, store or MemoryStore(), SERVING)


@given(cut_logs())
@settings(max_examples=60)
def test_any_batches_give_the_sessions_and_lists_of_one_event_at_a_time(
    cut: tuple[list[Record], list[list[int]]],
) -> None:
    log, (cuts,) = cut

    async def run() -> None:
        single, batched = new_bench(MemoryStore()), new_bench(MemoryStore())
        await apply(single, log, range(len(log) + 1))
        await apply(batched, log, cuts)
        assert isinstance(single.store, MemoryStore)
        assert isinstance(batched.store, MemoryStore)
        assert_same_state(single.store, batched.store, log)
        assert_same_lists(single.producer.lists(), batched.producer.lists())
        dead = TopicNames().dead_letters
        assert single.producer.topics[dead] == batched.producer.topics[dead]

    asyncio.run(run())


class CrashError(Exception):
    """The process is gone."""


class CrashPoint(Enum):
    """Where a worker dies."""

    PRODUCING = auto()
    """Some lists of the batch are on the broker."""
    BEFORE_APPLY = auto()
    """All lists are acknowledged, the script has not run."""
    AFTER_APPLY = auto()
    """The script has run, nobody heard of it, and nothing is committed to Kafka."""


class CrashingStore(MemoryStore):
    """Takes its worker down at one call of `apply`."""

    def __init__(self) -> None:
        super().__init__()
        self.point: CrashPoint | None = None
        self.left = 0

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        self.left -= 1
        if self.left == 0 and self.point is CrashPoint.BEFORE_APPLY:
            raise CrashError
        answer = await super().apply(partition, token, changes)
        if self.left == 0 and self.point is CrashPoint.AFTER_APPLY:
            raise CrashError
        return answer


@given(cut_logs(n_cuts=2), st.sampled_from(CrashPoint), st.integers(1, 20))
@settings(max_examples=100)
def test_a_crash_anywhere_leaves_the_state_of_an_undisturbed_run(
    cut: tuple[list[Record], list[list[int]]], point: CrashPoint, when: int
) -> None:
    log, (cuts, later_cuts) = cut

    async def run() -> None:
        undisturbed, crashed = new_bench(MemoryStore()), new_bench(store := CrashingStore())
        await apply(undisturbed, log, range(len(log) + 1))
        store.point, store.left = point, when
        sends = iter(range(when))

        def fault(outgoing: OutgoingRecord) -> Fault:
            if point is CrashPoint.PRODUCING and next(sends, None) is None:
                raise CrashError
            return Fault.NONE

        crashed.producer.fault = fault
        with suppress(CrashError):
            await apply(crashed, log, cuts)
        store.point = None
        successor = new_bench(store)
        await apply(successor, log, later_cuts)
        assert isinstance(undisturbed.store, MemoryStore)
        assert_same_state(undisturbed.store, store, log)
        made: dict[int, dict[str, Any]] = {}
        for answer in crashed.producer.lists() + successor.producer.lists():
            earlier = made.setdefault(answer["source_offset"], answer)
            assert answer["recommendation_id"] == earlier["recommendation_id"]
            assert_same_lists([answer], [earlier])
        assert_same_lists([made[offset] for offset in sorted(made)], undisturbed.producer.lists())

    asyncio.run(run())
