"""Taking partitions over: what is acquired, when reading begins, and what a rebalance meanwhile does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from typing import cast

import pytest
from aiokafka.errors import ConsumerStoppedError, KafkaConnectionError
from faust.types import TP
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from streams.batches import Handled
from streams.errors import StateMismatchError, StreamsError
from streams.ownership import PartitionKeeper
from streams.settings import TopicNames
from streams.store import LogBounds, MemoryStore, Ownership
from streams.transport import Consumer
from streams.worker import WorkerRules
from tests.inmemory import TOPIC, Bench, batch, click, record, users_of

ALL = [TP(TOPIC, partition) for partition in range(3)]
END = 1000


class FakeConsumer:
    """Says where logs end, and remembers from where it was told to read."""

    def __init__(self) -> None:
        self.started: list[dict[TP, int]] = []
        self.end = END
        self.errors: list[Exception] = []
        self.on_bounds: Callable[[], None] = lambda: None
        self.on_start: Callable[[], None] = lambda: None

    async def log_bounds(self, partitions: Iterable[TP]) -> dict[TP, LogBounds]:
        if self.errors:
            raise self.errors.pop(0)
        bounds = {tp: LogBounds(0, self.end, None) for tp in partitions}
        self.on_bounds()
        return bounds

    async def start_at(self, offsets: Mapping[TP, int]) -> None:
        self.started.append(dict(offsets))
        self.on_start()


class WatchedStore(MemoryStore):
    """Calls back before a partition is acquired."""

    def __init__(self) -> None:
        super().__init__(n_partitions=3)
        self.before: Callable[[int], None] = lambda partition: None
        self.errors: list[Exception] = []
        self.acquired: list[int] = []

    async def acquire(self, partition: int, log: LogBounds) -> Ownership:
        if self.errors:
            raise self.errors.pop(0)
        ownership = await super().acquire(partition, log)
        self.acquired.append(partition)
        self.before(partition)
        return ownership


class Place:
    """A keeper that runs, and what is around it."""

    def __init__(self) -> None:
        self.store = WatchedStore()
        self.bench = Bench(WorkerRules(TopicNames(), "cluster", 3), self.store)
        self.consumer = FakeConsumer()
        self.fatal: list[StreamsError] = []
        self.keeper = PartitionKeeper(self.bench.worker, self.fatal.append)

    def assign(self, *partitions: int) -> None:
        self.keeper.on_assigned(cast(Consumer, self.consumer), [ALL[p] for p in partitions])

    async def settled(self) -> None:
        """Until every assigned partition is acquired."""
        async with asyncio.timeout(5):
            while self.keeper.waiting and not self.fatal:  # noqa: ASYNC110  # the keeper has no event to wait for
                await asyncio.sleep(0.005)

    @property
    def owned(self) -> set[int]:
        return set(self.bench.worker.partitions)


@pytest.fixture
async def place() -> Place:
    return Place()


@pytest.fixture
async def running(place: Place):  # type: ignore[no-untyped-def]
    async with place.keeper:
        yield place


async def test_every_assigned_partition_is_acquired_and_read_from_where_its_state_ends(running: Place) -> None:
    running.store.partitions[1].position = 40
    running.assign(0, 1)
    await running.settled()
    assert running.owned == {0, 1}
    assert running.consumer.started == [{ALL[0]: 0, ALL[1]: 40}]
    assert running.keeper.assigned == {ALL[0], ALL[1]}


async def test_before_the_first_assignment_nothing_is_known(running: Place) -> None:
    assert running.keeper.assigned is None
    assert running.keeper.waiting == 0


@pytest.mark.parametrize("may_join", [True, False])
async def test_a_group_that_does_not_answer_is_told_once(
    place: Place, may_join: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("streams.ownership._WATCH_S", 0.005)
    async with PartitionKeeper(place.bench.worker, place.fatal.append, lambda: may_join):
        await asyncio.sleep(0.2)
    told = [record for record in caplog.records if "consumer group" in record.message]
    assert len(told) == may_join


async def test_a_new_assignment_gives_up_what_is_not_in_it(running: Place) -> None:
    running.assign(0, 1)
    await running.settled()
    running.assign(1, 2)
    assert running.owned == set()
    await running.settled()
    assert running.owned == {1, 2}


async def test_an_empty_assignment_is_an_assignment(running: Place) -> None:
    running.assign()
    assert (running.keeper.assigned, running.keeper.waiting) == (set(), 0)


async def test_a_revoked_partition_is_given_up_at_once(running: Place) -> None:
    running.assign(0, 1)
    await running.settled()
    running.keeper.on_revoked([ALL[0]])
    assert running.owned == {1}


async def test_a_consumer_that_stops_meanwhile_is_no_defect(running: Place) -> None:
    asked = asyncio.Event()
    running.consumer.on_bounds = asked.set
    running.consumer.errors.append(ConsumerStoppedError())
    running.assign(0)
    await asyncio.sleep(0.05)
    assert not running.keeper.crashed
    assert not asked.is_set()
    assert (running.owned, running.fatal) == (set(), [])


@pytest.mark.parametrize("error", [RedisConnectionError("gone"), KafkaConnectionError("gone"), OSError("gone")])
async def test_a_dependency_that_is_down_is_waited_for(running: Place, error: Exception) -> None:
    where = running.consumer.errors if isinstance(error, KafkaConnectionError) else running.store.errors
    where.extend([error, error])
    running.assign(0)
    await asyncio.sleep(0.02)
    assert running.keeper.waiting == 1
    assert "gone" in running.keeper.trouble
    assert running.consumer.started == []
    await running.settled()
    assert (running.owned, running.keeper.trouble) == ({0}, "")


async def test_partitions_before_one_that_cannot_be_acquired_are_read_and_not_acquired_again(running: Place) -> None:
    """Else a store that fails now and then would let nobody begin."""

    def fail_once(partition: int) -> None:
        if partition == 1:
            running.store.before = lambda partition: None
            raise RedisConnectionError("gone")

    running.store.before = fail_once
    running.assign(0, 1, 2)
    await running.settled()
    assert running.store.acquired == [0, 1, 1, 2]
    assert running.consumer.started == [{ALL[0]: 0}, {ALL[1]: 0, ALL[2]: 0}]


async def test_a_partition_that_the_store_refuses_holds_up_no_other(running: Place) -> None:
    """As where another kind of key is in the way, or a cluster's shard is read-only."""
    running.store.errors = [ResponseError("WRONGTYPE")] * 2
    running.assign(0, 1, 2)
    await running.settled()
    assert running.owned == {0, 1, 2}
    assert running.store.acquired == [2, 0, 1]
    assert running.consumer.started == [{ALL[2]: 0}, {ALL[0]: 0, ALL[1]: 0}]


async def test_a_partition_overtaken_while_it_is_acquired_is_acquired_again(running: Place) -> None:
    def overtake(partition: int) -> None:
        running.store.before = lambda partition: None
        running.store.partitions[partition].owner = "another"

    running.store.before = overtake
    running.assign(0)
    await running.settled()
    assert (running.store.acquired, running.owned, running.fatal) == ([0, 0], {0}, [])


async def test_a_lost_partition_is_acquired_again(running: Place) -> None:
    running.assign(0)
    await running.settled()
    (user,) = users_of(0, 3, 1)
    await running.store.acquire(0, LogBounds(0, END, None))  # by another worker
    assert await running.bench.worker.handle(batch([record(0, click(user))])) is Handled.LOST
    running.keeper.lost(ALL[0])
    await running.settled()
    assert await running.bench.worker.handle(batch([record(0, click(user))])) is Handled.DONE
    assert len(running.consumer.started) == 2


async def test_a_partition_that_is_no_longer_assigned_is_not_acquired_again(running: Place) -> None:
    running.assign(0)
    await running.settled()
    running.assign(1)
    await running.settled()
    running.keeper.lost(ALL[0])
    assert running.keeper.waiting == 0


async def test_a_partition_revoked_before_its_turn_is_not_taken_from_its_new_owner(running: Place) -> None:
    """A new token would fence the worker that has it by now."""
    running.store.before = lambda partition: running.keeper.on_revoked([ALL[1]]) if partition == 0 else None
    running.assign(0, 1, 2)
    await running.settled()
    assert running.store.acquired == [0, 2]
    assert running.owned == {0, 2}
    assert running.consumer.started == [{ALL[0]: 0, ALL[2]: 0}]


async def test_a_partition_revoked_while_it_is_acquired_is_not_kept(running: Place) -> None:
    running.store.before = lambda partition: running.keeper.on_revoked([ALL[1]]) if partition == 1 else None
    running.assign(0, 1)
    await running.settled()
    assert running.owned == {0}
    assert running.consumer.started == [{ALL[0]: 0}]


async def test_a_batch_that_fails_after_its_partition_was_revoked_does_not_take_it_back(running: Place) -> None:
    running.assign(0, 1)
    await running.settled()
    running.keeper.on_revoked([ALL[0]])
    running.keeper.lost(ALL[0])
    assert running.keeper.waiting == 0


async def test_a_revocation_before_the_first_assignment_is_no_assignment(running: Place) -> None:
    running.keeper.on_revoked([])
    assert running.keeper.assigned is None


async def test_a_partition_assigned_again_while_reading_begins_is_acquired_again(running: Place) -> None:
    """Else it would stay paused for ever."""

    def rebalance() -> None:
        running.consumer.on_start = lambda: None
        running.assign(0, 1)

    running.consumer.on_start = rebalance
    running.assign(0)
    await running.settled()
    assert running.owned == {0, 1}
    assert running.consumer.started == [{ALL[0]: 0}, {ALL[0]: 0, ALL[1]: 0}]


async def test_state_ahead_of_the_log_is_fatal(running: Place) -> None:
    running.store.partitions[0].position = END + 1
    running.assign(0)
    await running.settled()
    (error,) = running.fatal
    assert isinstance(error, StateMismatchError)
    assert running.consumer.started == []


async def test_state_that_grew_while_the_log_was_looked_at_is_no_mismatch(running: Place) -> None:
    """Another worker may still apply new events between the look at the log's end and the take-over."""

    def grow() -> None:
        running.consumer.end = END + 50
        running.store.partitions[0].position = END + 20
        running.consumer.on_bounds = lambda: None

    running.consumer.on_bounds = grow
    running.assign(0)
    await running.settled()
    assert running.consumer.started == [{ALL[0]: END + 20}]


async def test_a_log_whose_end_is_seen_late_is_looked_at_again(running: Place) -> None:
    looks: list[int] = []

    def look() -> None:
        looks.append(running.consumer.end)
        if len(looks) == 3:
            running.consumer.end = END + 50

    running.store.partitions[0].position = END + 20
    running.consumer.on_bounds = look
    running.assign(0)
    await running.settled()
    assert running.fatal == []
    assert looks == [END, END, END, END + 50]
    assert running.consumer.started == [{ALL[0]: END + 20}]


async def test_a_partition_revoked_while_its_log_is_looked_at_again_is_not_taken_from_its_new_owner(
    running: Place,
) -> None:
    def grow() -> None:
        if running.store.acquired:
            running.keeper.on_revoked([ALL[1]])
            running.consumer.end = END + 50

    running.store.partitions[1].position = END + 20
    running.consumer.on_bounds = grow
    running.assign(0, 1)
    await running.settled()
    assert running.fatal == []
    assert running.store.acquired == [0]
    assert running.owned == {0}
