"""What is read and what is not: full lanes, partitions that wait to be acquired, and what comes back after them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from types import SimpleNamespace
from typing import Any, cast

import pytest
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from streams.app import SMALL_FETCH, StreamWorker, WorkerConfig
from streams.batches import Computed, Handled, RecordBatch
from streams.preflight import Place
from streams.settings import KafkaSettings, ModelSettings, RedisSettings, WebSettings, WorkerSettings
from streams.store import LogBounds, MemoryStore
from streams.transport import Fetched
from tests.inmemory import TOPIC, Fault, MemoryProducer, batch, click, record, users_of

(USER,) = users_of(0, 2, 1)
TP0, TP1 = TP(TOPIC, 0), TP(TOPIC, 1)


class Read:
    """A worker whose consumer is assigned both partitions and talks to no broker."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        sections: Mapping[str, Any] = {
            "kafka": KafkaSettings(),
            "redis": RedisSettings(),
            "worker": WorkerSettings(max_pending_bytes=1),
            "model": ModelSettings(),
            "web": WebSettings(),
        }
        self.stream = StreamWorker(WorkerConfig(**sections), Place("cluster", 2))
        self.worker, self.consumer = self.stream.worker, self.stream.consumer
        self.producer = MemoryProducer()
        self.sought: list[dict[TP, int]] = []
        monkeypatch.setattr(self.worker, "store", MemoryStore(n_partitions=2))
        monkeypatch.setattr(self.worker, "_producer", lambda: self.producer)
        monkeypatch.setattr(self.consumer, "assignment", lambda: {TP0, TP1})
        monkeypatch.setattr(self.consumer._thread, "seek_all", self._seek_all)
        self.consumer._set_active_tps({TP0, TP1})

    async def _seek_all(self, offsets: Mapping[TP, int]) -> None:
        self.sought.append(dict(offsets))

    @property
    def active(self) -> set[TP]:
        """What the next fetch asks for."""
        return self.consumer._get_active_partitions()

    async def acquire(self, partition: int) -> None:
        await self.worker.acquire(partition, LogBounds(0, 100, None))

    async def compute(self, offset: int) -> Computed:
        (computed,), _ = await self.worker.compute([batch([record(offset, click(USER, event_id=f"{offset}"))])])
        return computed


@pytest.fixture
async def read(monkeypatch: pytest.MonkeyPatch) -> Read:
    """One event fills a lane; everything is acquired and read."""
    made = Read(monkeypatch)
    await made.consumer.perform_seek()
    for partition in range(2):
        await made.acquire(partition)
    await made.consumer.start_at({TP0: 0, TP1: 0})
    assert made.active == {TP0, TP1}
    return made


def stuck(read: Read) -> None:
    read.producer.fault = lambda outgoing: Fault.SILENT


def free(read: Read) -> None:
    read.producer.fault = lambda outgoing: Fault.NONE


async def fetched(read: Read) -> list[RecordBatch]:
    async for _, message in read.consumer.getmany(timeout=0.01):
        return cast("list[RecordBatch]", message.value)
    return []


async def fetches_nothing(read: Read) -> bool:
    fetch = asyncio.ensure_future(fetched(read))
    done, _ = await asyncio.wait([fetch], timeout=0.05)
    fetch.cancel()
    return not done


@pytest.fixture
def fetching(read: Read, monkeypatch: pytest.MonkeyPatch) -> Read:
    """Every fetch brings one event."""

    async def fetch_batches(*args: object) -> Fetched:
        return Fetched([batch([record(0, click(USER))])], set())

    monkeypatch.setattr(read.consumer._thread, "fetch_batches", fetch_batches)
    read.consumer.resume_flow()
    return read


async def test_nothing_more_is_fetched_until_the_app_has_taken_what_was(fetching: Read) -> None:
    first = await fetched(fetching)
    assert await fetches_nothing(fetching)
    fetching.consumer.taken(first)
    assert await fetched(fetching)


async def test_what_a_rebalance_may_have_dropped_is_waited_for_no_longer(fetching: Read) -> None:
    old = await fetched(fetching)
    await fetching.consumer.perform_seek()
    await fetching.consumer.start_at({TP0: 0})
    new = await asyncio.wait_for(fetched(fetching), 5)
    fetching.consumer.taken(old)
    assert await fetches_nothing(fetching)
    fetching.consumer.taken(new)
    assert await fetched(fetching)


class Fetches:
    """Answers one fetch after the other; each may take a while, or do something first."""

    def __init__(self, *answers: Fetched, takes_s: float = 0.0, meanwhile: Callable[[], object] = lambda: None) -> None:
        self.answers, self.takes_s, self.meanwhile = [*answers], takes_s, meanwhile
        self.asked: list[tuple[set[TP], int]] = []

    async def __call__(self, active: set[TP], timeout_s: float, max_records: int) -> Fetched:
        self.asked.append((active, max_records))
        await asyncio.sleep(self.takes_s)
        self.meanwhile()
        return self.answers.pop(0)


def read_from(partition: int, start: int, n: int = 1) -> RecordBatch:
    return RecordBatch(partition, start, start + n, [record(start + i, click(USER)) for i in range(n)])


async def joined_by(
    read: Read, monkeypatch: pytest.MonkeyPatch, fetches: Fetches
) -> dict[int, tuple[int, int, list[int]]]:
    if not fetches.takes_s:  # as fast as a machine that others hold up
        monkeypatch.setattr("streams.transport._READY_S", 60.0)
    monkeypatch.setattr(read.consumer._thread, "fetch_batches", fetches)
    read.consumer.resume_flow()
    return {b.partition: (b.start, b.end, [r.offset for r in b.records]) for b in await fetched(read)}


async def test_a_fetch_that_lay_ready_brings_what_has_come_since(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches = Fetches(Fetched([read_from(0, 5, 2)], set()), Fetched([read_from(1, 3), read_from(0, 7)], set()))
    assert await joined_by(read, monkeypatch, fetches) == {0: (5, 8, [5, 6, 7]), 1: (3, 4, [3])}
    most = read.consumer.app.conf.broker_max_poll_records
    assert fetches.asked == [({TP0, TP1}, most), ({TP0, TP1}, most - 2)]


async def test_one_that_was_waited_for_is_handed_over_at_once(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches = Fetches(Fetched([read_from(0, 5)], set()), takes_s=0.02)
    assert await joined_by(read, monkeypatch, fetches) == {0: (5, 6, [5])}


async def test_one_that_is_large_is_handed_over_at_once(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    n = read.consumer.app.conf.broker_max_poll_records // 2 + 1
    fetches = Fetches(Fetched([read_from(0, 0, n)], set()))
    assert (await joined_by(read, monkeypatch, fetches))[0][:2] == (0, n)


async def test_where_it_was_sought_in_between_only_what_came_then_is_handed_over(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetches = Fetches(Fetched([read_from(0, 5, 3)], set()), Fetched([read_from(0, 5, 4)], set()))
    assert await joined_by(read, monkeypatch, fetches) == {0: (5, 9, [5, 6, 7, 8])}


async def test_a_partition_that_is_paused_in_between_gets_no_more(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    fetches = Fetches(
        Fetched([read_from(0, 5)], set()),
        Fetched([], set()),
        meanwhile=lambda: read.consumer.pause_partitions({TP0}),
    )
    assert await joined_by(read, monkeypatch, fetches) == {0: (5, 6, [5])}
    assert [active for active, _ in fetches.asked] == [{TP0, TP1}, {TP1}]


async def test_what_is_torn_is_told_whichever_fetch_found_it(read: Read, monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[TP] = []
    monkeypatch.setattr(read.consumer, "on_torn", told.append)
    fetches = Fetches(Fetched([read_from(1, 0)], {TP0}), Fetched([], {TP1}))
    assert await joined_by(read, monkeypatch, fetches) == {1: (0, 1, [0])}
    assert sorted(told) == [TP0, TP1]
    assert fetches.asked[1][0] == {TP1}


class Log:
    """What a broker says of a log, and where it was sought."""

    def __init__(self, begin: int | Exception) -> None:
        self.begin, self.sought = begin, [0]

    async def beginning_offsets(self, partitions: list[Any]) -> dict[Any, int]:
        if isinstance(self.begin, Exception):
            raise self.begin
        return {partitions[0]: self.begin}

    def seek(self, partition: Any, offset: int) -> None:
        self.sought.append(offset)


@pytest.mark.parametrize(
    ("begin", "n_batches", "torn", "goes_on_at"),
    [(0, 1, set(), 9), (7, 0, {TP0}, None), (KafkaConnectionError("gone"), 0, set(), 5)],
    ids=["a gap of compaction", "retention has removed what comes next", "a broker that cannot be asked"],
)
async def test_a_gap_is_handed_over_only_where_the_log_is_known_to_go_on(
    read: Read, begin: int | Exception, n_batches: int, torn: set[TP], goes_on_at: int | None
) -> None:
    thread, log = read.consumer._thread, Log(begin)
    thread._handed_over[TP0] = 9
    found = await thread._without_torn(cast(Any, log), [RecordBatch(0, 5, 9, [record(8, click(USER))])], TOPIC)
    assert (len(found.batches), found.torn) == (n_batches, torn)
    assert thread._handed_over.get(TP0) == goes_on_at
    assert log.sought[-1] == (5 if goes_on_at == 5 else 0)


class Empty:
    """aiokafka's consumer with a position, and nothing that it has fetched."""

    def __init__(self, position: int) -> None:
        state = SimpleNamespace(position=position, lso=position, has_valid_position=True)
        assignment = SimpleNamespace(state_value=lambda partition: state)
        self._subscription = SimpleNamespace(subscription=SimpleNamespace(assignment=assignment))
        self._loop = asyncio.get_running_loop()


@pytest.mark.parametrize("again", [True, False], ids=["assigned again", "revoked"])
async def test_a_fetch_under_way_does_not_take_what_another_worker_committed_for_read(
    read: Read, monkeypatch: pytest.MonkeyPatch, again: bool
) -> None:
    async def nothing(*args: object) -> dict[object, object]:
        return {}

    async def left(*args: object) -> None: ...

    thread = read.consumer._thread
    monkeypatch.setattr(thread, "_ensure_consumer", lambda: Empty(500))
    monkeypatch.setattr(thread, "_fetch_plain", nothing)
    thread._handed_over[TP0] = 20
    batch_of_gap = RecordBatch(0, 20, 500, ())
    monkeypatch.setattr(thread, "_without_torn", as_is)
    assert await thread._fetch_batches({TP0}, 0.0, 100) == Fetched([batch_of_gap], set())
    thread._handed_over[TP0] = 20
    if again:
        await read.consumer.perform_seek()
    else:
        monkeypatch.setattr(driver.Consumer, "on_partitions_revoked", left)
        await read.consumer.on_partitions_revoked({TP0})
    assert await thread._fetch_batches({TP0}, 0.0, 100) == Fetched([], set())


async def as_is(consumer: object, batches: list[RecordBatch], topic: str) -> Fetched:
    return Fetched(batches, set())


async def test_a_full_lane_is_not_read_until_its_events_are_durable(read: Read) -> None:
    read.stream.lanes.push(await read.compute(0))
    assert read.active == {TP1}
    await read.stream.lanes.drained()
    assert read.active == {TP0, TP1}


async def test_a_partition_that_is_assigned_anew_is_not_read_before_it_is_acquired_whatever_its_old_lane_does(
    read: Read,
) -> None:
    read.stream.lanes.push(await read.compute(0))
    read.stream.keeper.on_assigned(read.consumer, {TP0, TP1})
    await read.consumer.perform_seek()
    await read.stream.lanes.drained()
    assert not read.stream.lanes.is_full(0)
    assert read.active == set()


async def test_a_full_lane_whose_partition_is_sought_anew_stays_unread(read: Read) -> None:
    stuck(read)
    read.stream.lanes.push(await read.compute(0))
    await read.stream._go_on(0, Handled.GAP)
    assert read.sought[-1] == {TP0: 1}
    assert read.active == {TP1}
    read.stream.lanes.abandon()


async def test_a_gap_of_a_lane_that_is_not_full_is_read_again(read: Read) -> None:
    await read.compute(0)
    read.consumer.pause_partitions({TP0})
    await read.stream._go_on(0, Handled.GAP)
    assert read.sought[-1] == {TP0: 1}
    assert read.active == {TP0, TP1}


async def test_a_gap_of_a_partition_that_went_away_is_nobody_s(read: Read) -> None:
    read.worker.release([0])
    before = len(read.sought)
    await read.stream._go_on(0, Handled.GAP)
    assert len(read.sought) == before


async def test_the_lists_of_a_large_fetch_leave_before_the_next_is_worked_out(read: Read) -> None:
    clicks = [record(n, click(USER, event_id=f"{n}")) for n in range(SMALL_FETCH)]
    await read.stream._take([RecordBatch(0, 0, SMALL_FETCH, clicks)])
    assert len(read.producer.lists()) == SMALL_FETCH
    await read.stream.lanes.drained()


# --- what may be committed


def committable(read: Read) -> dict[TP, int]:
    return read.consumer._filter_committable_offsets([TP0, TP1])


async def test_only_what_is_durable_may_be_committed(read: Read) -> None:
    stuck(read)
    first = await read.compute(0)
    read.stream.lanes.push(first)
    assert committable(read) == {}
    read.stream.lanes.abandon()
    free(read)
    for computed in (first, await read.compute(1)):
        read.stream.lanes.push(computed)
    await read.stream.lanes.drained()
    assert committable(read) == {TP0: 2}


async def test_what_was_refused_is_not_committed_and_the_partition_is_wanted_again(read: Read) -> None:
    read.stream.keeper.on_assigned(read.consumer, {TP0, TP1})
    await read.acquire(0)
    computed = await read.compute(0)
    read.stream.keeper._wanted.clear()
    await read.worker.store.acquire(0, LogBounds(0, 100, None))
    read.stream.lanes.push(computed)
    await read.stream.lanes.drained()
    assert committable(read) == {}
    assert read.stream.keeper._wanted == {TP0}


async def test_a_new_assignment_forgets_what_might_have_been_committed(read: Read) -> None:
    read.stream.lanes.push(await read.compute(0))
    await read.stream.lanes.drained()
    assert committable(read) == {TP0: 1}
    await read.consumer.perform_seek()
    assert committable(read) == {}


async def test_a_worker_that_stops_finishes_what_is_on_its_way(read: Read) -> None:
    read.stream.lanes.push(await read.compute(0))
    await read.stream._drain()
    assert committable(read) == {TP0: 1}


async def test_what_is_worked_out_after_a_worker_has_stopped_is_left_to_the_next_owner(read: Read) -> None:
    await read.stream._drain()
    await read.stream._take([batch([record(0, click(USER))])])
    await read.stream.lanes.drained()
    assert not read.producer.topics
    assert committable(read) == {}


async def test_a_worker_that_stops_abandons_what_takes_too_long_and_commits_nothing_of_it(
    read: Read, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.app.DRAIN_TIMEOUT_S", 0.05)
    stuck(read)
    read.stream.lanes.push(await read.compute(0))
    await read.stream._drain()
    assert committable(read) == {}
    assert isinstance(read.worker.store, MemoryStore)
    assert read.worker.store.partitions[0].position == 0
