"""Popularity over all partitions, kept at hand."""

from __future__ import annotations

from datetime import timedelta

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.settings import TopicNames
from streams.store import MemoryStore
from streams.trending import PopularityBoard
from streams.worker import WorkerRules
from tests.inmemory import Bench, batch, click, record, users_of


class CountingStore(MemoryStore):
    """Says how often popularity was read, and can be away."""

    def __init__(self) -> None:
        super().__init__(n_partitions=2)
        self.reads: list[int] = []
        self.away = False

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        if self.away:
            raise RedisConnectionError("gone")
        self.reads.append(partition)
        return await super().popularity(partition)


@pytest.fixture
def store() -> CountingStore:
    return CountingStore()


@pytest.fixture
async def bench(store: CountingStore) -> Bench:
    """A worker that owns partition 0 of two."""
    bench = Bench(WorkerRules(TopicNames(), "cluster", 2), store)
    await bench.acquire(partition=0)
    store.reads.clear()
    return bench


@pytest.fixture
def board(bench: Bench) -> PopularityBoard:
    return PopularityBoard(bench.worker, timedelta(seconds=2), limit=3)


async def watch(bench: Bench, offset: int, item: str, catalogue: str = "default") -> None:
    (user,) = users_of(0, 2, 1)
    given = click(user, item, f"e{offset}", catalogue=catalogue)
    await bench.worker.handle(batch([record(offset, given)]))


async def test_before_the_first_count_nothing_is_popular(board: PopularityBoard) -> None:
    assert board.popular == {}
    await board.refresh()
    assert board.popular == {}


async def test_own_counts_come_from_memory_and_the_others_from_the_store(
    bench: Bench, board: PopularityBoard, store: CountingStore
) -> None:
    await watch(bench, 0, "mine")
    mine = bench.worker.partitions[0].popularity["default", "mine"]
    store.partitions[1].popularity = {("default", "theirs"): mine + 1}
    await board.refresh()
    assert board.popular["default"].item_ids == ["theirs", "mine"]
    assert store.reads == [1]


async def test_counts_of_one_item_in_two_partitions_add_up(
    bench: Bench, board: PopularityBoard, store: CountingStore
) -> None:
    await watch(bench, 0, "shared")
    one = bench.worker.partitions[0].popularity["default", "shared"]
    store.partitions[1].popularity = {("default", "shared"): one, ("default", "other"): one + 0.5}
    await board.refresh()
    assert board.popular["default"].item_ids == ["shared", "other"]


async def test_catalogues_stay_apart_and_each_is_cut(bench: Bench, board: PopularityBoard) -> None:
    for offset in range(5):
        await watch(bench, offset, f"item-{offset}", "books" if offset == 4 else "films")
    await board.refresh()
    assert len(board.popular["films"].item_ids) == 3
    assert board.popular["books"].item_ids == ["item-4"]


async def test_a_refresh_replaces_and_never_changes(bench: Bench, board: PopularityBoard) -> None:
    await watch(bench, 0, "1")
    await board.refresh()
    before = board.popular
    await watch(bench, 1, "2")
    await board.refresh()
    assert before["default"].item_ids == ["1"]
    assert set(board.popular["default"].item_ids) == {"1", "2"}


async def test_a_young_system_refreshes_whenever_its_counts_have_doubled(
    board: PopularityBoard, store: CountingStore
) -> None:
    refreshed = []
    for n in range(1, 33):
        before = len(store.reads)
        await board.counted(1)
        if len(store.reads) > before:
            refreshed.append(n)
    assert refreshed == [1, 3, 7, 15, 31]


async def test_the_very_first_event_makes_its_item_popular(bench: Bench, board: PopularityBoard) -> None:
    await watch(bench, 0, "1")
    await board.counted(1)
    assert board.popular["default"].item_ids == ["1"]


async def test_a_store_that_is_away_leaves_what_was_known(
    bench: Bench, board: PopularityBoard, store: CountingStore
) -> None:
    await watch(bench, 0, "1")
    await board.refresh()
    store.away = True
    with pytest.raises(RedisConnectionError):
        await board.refresh()
    assert board.popular["default"].item_ids == ["1"]
