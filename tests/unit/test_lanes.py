"""Deliveries beside each other: order within a partition, no waiting between them, and bounds in bytes."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict

import pytest

from streams.batches import Computed, Handled
from streams.errors import StateMismatchError, StreamsError
from streams.lanes import Lanes
from streams.settings import TopicNames
from streams.store import LogBounds
from streams.worker import WorkerRules
from tests.inmemory import Bench, batch, click, record, users_of

N_PARTITIONS = 2
HOMES = [users_of(partition, N_PARTITIONS, 1)[0] for partition in range(N_PARTITIONS)]
"""A user of each partition."""


class Place:
    """Lanes over a whole worker in memory; a delivery waits until its partition's gate is open."""

    def __init__(self, limit_bytes: int = 1_000_000) -> None:
        self.bench = Bench(WorkerRules(TopicNames(), "cluster", N_PARTITIONS))
        self.gates = [asyncio.Event() for _ in range(N_PARTITIONS)]
        self.begun: list[tuple[int, int]] = []
        """Partition and first offset of every delivery, in the order of their beginnings."""
        self.results: dict[int, list[tuple[int, Handled]]] = defaultdict(list)
        """First offset and what became of it, by partition."""
        self.valve: list[str] = []
        self.fatal: list[StreamsError] = []
        self.errors: list[Exception] = []
        """Raised by the next deliveries, one each."""
        self.after_errors: list[Exception] = []
        """Raised where the next results are told, one each."""
        self.lanes = Lanes(self._deliver, self._handled, self, limit_bytes, self.fatal.append)
        self._next = [0] * N_PARTITIONS

    async def _deliver(self, computed: Computed) -> Handled:
        self.begun.append((computed.partition, computed.changes.start))
        await self.gates[computed.partition].wait()
        if self.errors:
            raise self.errors.pop(0)
        return await self.bench.worker.deliver(computed)

    async def _handled(self, computed: Computed, handled: Handled) -> None:
        self.results[computed.partition].append((computed.changes.start, handled))
        if self.after_errors:
            raise self.after_errors.pop(0)

    def pause(self, partition: int) -> None:
        self.valve.append(f"pause {partition}")

    def resume(self, partition: int) -> None:
        self.valve.append(f"resume {partition}")

    async def acquire(self, partition: int) -> None:
        """Take a partition, for the first time or anew."""
        await self.bench.acquire(partition=partition)
        self._next[partition] = self.bench.worker.partitions[partition].position

    async def compute(self, partition: int) -> Computed:
        """The next event of a partition, worked out."""
        offset = self._next[partition]
        self._next[partition] += 1
        given = batch([record(offset, click(HOMES[partition], "1", f"{offset:04}"))], partition)
        (computed,), _ = await self.bench.worker.compute([given])
        return computed

    async def push(self, partition: int, n: int = 1) -> list[Computed]:
        """Work out so many batches and hand them over."""
        pushed = [await self.compute(partition) for _ in range(n)]
        for computed in pushed:
            self.lanes.push(computed)
        await settle()
        return pushed

    def position(self, partition: int) -> int:
        """Up to where a partition is durable."""
        return self.bench.worker.partitions[partition].position


async def settle() -> None:
    """Let everything run that can."""
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
async def place() -> Place:
    """Both partitions are owned, and their gates are shut."""
    made = Place()
    for partition in range(N_PARTITIONS):
        await made.acquire(partition)
    return made


async def test_deliveries_of_a_partition_follow_each_other_and_each_takes_all_that_waits(place: Place) -> None:
    await place.push(0)
    await place.push(0)
    await place.push(0, 2)
    assert place.begun == [(0, 0)]
    place.gates[0].set()
    await place.lanes.drained()
    assert place.begun == [(0, 0), (0, 1)]
    assert place.results[0] == [(0, Handled.DONE), (1, Handled.DONE)]
    assert place.position(0) == 4
    assert [made["source_offset"] for made in place.bench.producer.lists()] == [0, 1, 2, 3]
    assert place.lanes.waiting_bytes == 0


async def test_what_is_pushed_while_a_lane_runs_comes_behind(place: Place) -> None:
    place.gates[0].set()
    for _ in range(3):
        place.lanes.push(await place.compute(0))
        await asyncio.sleep(0)
    await place.lanes.drained()
    assert {handled for _, handled in place.results[0]} == {Handled.DONE}
    assert place.position(0) == 3


async def test_a_lane_that_is_stuck_holds_up_no_other(place: Place) -> None:
    await place.push(0, 2)
    place.gates[1].set()
    await place.push(1, 2)
    assert (place.position(0), place.position(1)) == (0, 2)
    assert place.results == {1: [(0, Handled.DONE)]}


async def test_a_lane_that_ran_empty_runs_again(place: Place) -> None:
    place.gates[0].set()
    await place.push(0)
    await place.lanes.drained()
    await place.push(0)
    await place.lanes.drained()
    assert place.position(0) == 2


# --- back-pressure


@pytest.fixture
async def narrow(place: Place) -> Place:
    """Four batches fill a lane exactly."""
    size = (await place.compute(0)).size_bytes
    narrow = Place(limit_bytes=4 * size)
    for partition in range(N_PARTITIONS):
        await narrow.acquire(partition)
    return narrow


def step(place: Place, partition: int = 0) -> None:
    """Let one delivery through."""
    place.gates[partition].set()
    asyncio.get_running_loop().call_soon(place.gates[partition].clear)


async def filled(place: Place, partition: int = 0) -> None:
    """Fill a lane beyond its limit; the sizes of the batches differ in a few bytes."""
    while not place.valve:
        await place.push(partition)
    assert place.valve == [f"pause {partition}"]


async def test_a_lane_pauses_its_partition_above_its_limit_and_not_before(narrow: Place) -> None:
    limit = narrow.lanes._limit_bytes
    while narrow.lanes.waiting_bytes <= limit:
        assert narrow.valve == []
        await narrow.push(0)
    assert narrow.valve == ["pause 0"]
    await narrow.push(0)
    assert narrow.valve == ["pause 0"]


async def test_a_lane_resumes_its_partition_when_half_is_done_and_not_before(narrow: Place) -> None:
    await filled(narrow)
    while 2 * narrow.lanes.waiting_bytes > narrow.lanes._limit_bytes:
        assert narrow.valve == ["pause 0"]
        step(narrow)
        await settle()
    assert narrow.valve == ["pause 0", "resume 0"]
    narrow.gates[0].set()
    await narrow.lanes.drained()
    assert narrow.valve == ["pause 0", "resume 0"]


async def test_a_full_lane_pauses_no_other_partition(narrow: Place) -> None:
    await filled(narrow)
    narrow.gates[1].set()
    for _ in range(8):
        await narrow.push(1)
    assert narrow.position(1) == 8
    assert narrow.valve == ["pause 0"]


async def test_one_batch_larger_than_the_limit_is_delivered_all_the_same() -> None:
    place = Place(limit_bytes=1)
    await place.acquire(0)
    place.gates[0].set()
    await place.push(0)
    await place.lanes.drained()
    assert place.position(0) == 1
    assert place.valve == ["pause 0", "resume 0"]


# --- ownership


async def test_what_waits_for_an_earlier_ownership_is_dropped_and_does_not_touch_the_new_one(place: Place) -> None:
    await place.push(0, 2)
    await place.acquire(0)
    await place.push(0, 2)
    place.gates[0].set()
    await settle()
    assert place.position(0) == 2
    assert sorted(place.results[0], key=lambda result: (result[0], result[1].value)) == [
        (0, Handled.DONE),
        (0, Handled.STALE),
    ]
    assert len(place.bench.producer.lists()) == 2


async def test_a_full_lane_of_an_earlier_ownership_neither_fills_nor_resumes_the_new_one(narrow: Place) -> None:
    await filled(narrow)
    await narrow.acquire(0)
    await narrow.push(0)
    assert narrow.valve == ["pause 0"]
    narrow.gates[0].set()
    await settle()
    assert narrow.valve == ["pause 0"]  # who acquires a partition lets it be read
    assert narrow.position(0) == 1


async def test_after_a_refusal_the_rest_of_the_lane_is_stale(place: Place) -> None:
    await place.push(0)
    await place.push(0, 2)
    await place.bench.store.acquire(0, LogBounds(0, 100, None))
    place.gates[0].set()
    await place.lanes.drained()
    assert place.results[0] == [(0, Handled.LOST), (1, Handled.STALE)]


# --- the end


async def test_drained_waits_for_every_lane(place: Place) -> None:
    await place.push(0, 2)
    await place.push(1, 1)
    drained = asyncio.create_task(place.lanes.drained())
    place.gates[0].set()
    await settle()
    assert not drained.done()
    place.gates[1].set()
    await asyncio.wait_for(drained, 5)
    assert (place.position(0), place.position(1)) == (2, 1)


async def test_what_is_abandoned_is_neither_delivered_nor_told(place: Place) -> None:
    await place.push(0, 3)
    place.lanes.abandon()
    place.gates[0].set()
    await settle()
    await place.lanes.drained()
    assert place.results == {}
    assert place.position(0) == 0
    assert place.lanes.waiting_bytes == 0


async def test_what_waits_for_an_earlier_ownership_is_abandoned_too(place: Place) -> None:
    await place.push(0, 2)
    await place.acquire(0)
    await place.push(0, 1)
    place.lanes.abandon()
    place.gates[0].set()
    await settle()
    assert place.results == {}


# --- errors


async def test_a_defect_is_tried_again_in_place(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.errors = [ValueError("a defect")]
    place.gates[0].set()
    with caplog.at_level(logging.ERROR):
        await place.push(0, 2)
        await asyncio.wait_for(place.lanes.drained(), 5)
    assert place.begun == [(0, 0), (0, 0)]
    assert place.results[0] == [(0, Handled.DONE)]
    assert "offsets 0 to 2 failed; trying again" in caplog.text


async def test_an_error_that_forbids_going_on_is_told_once_and_nothing_behind_it_is_delivered(place: Place) -> None:
    place.errors = [error := StateMismatchError("another log")]
    place.gates[0].set()
    await place.push(0, 2)
    await asyncio.wait_for(place.lanes.drained(), 5)
    await place.push(0, 1)
    assert place.fatal == [error]
    assert place.begun == [(0, 0)]
    assert place.results == {}


async def test_trouble_after_a_batch_does_not_hold_up_the_next(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    place.after_errors = [RuntimeError("a rebalance")]
    place.gates[0].set()
    with caplog.at_level(logging.WARNING):
        await place.push(0, 2)
    assert place.position(0) == 2
    assert "after a batch: RuntimeError: a rebalance" in caplog.text
