"""Loads: numbered events in prebuilt record batches, and when they are due."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
from aiokafka.record.memory_records import MemoryRecords

from encoders.records import Interaction
from streams.cli.bench.events import Load, RecordBatch
from streams.cli.bench.open_loop import TICK_S, Schedule, poisson_schedule, ticks_of
from streams.routing import partition_of
from tests.processes import clicks


def values(batch: RecordBatch) -> list[dict[str, object]]:
    """The records of a batch, as a consumer reads them."""
    found = []
    records = MemoryRecords(batch.data)
    while records.has_next():
        for record in records.next_batch():
            value = json.loads(record.value)
            assert record.key == value["user_id"].encode()
            assert record.headers == [("schema", b"1")]
            found.append(value)
    assert len(found) == batch.n_records
    return found


def test_event_ids_are_numbers_in_the_order_of_publication() -> None:
    load = Load(clicks(30), 4)
    assert [json.loads(event.value)["event_id"] for event in load.events] == [str(n) for n in range(30)]
    Interaction.model_validate_json(load.events[7].value)


def test_events_lie_where_the_worker_expects_their_user() -> None:
    load = Load(clicks(50), 4)
    assert [event.partition for event in load.events] == [partition_of(e.key.decode(), 4) for e in load.events]


def test_an_event_is_ranked_within_its_partition() -> None:
    load = Load(clicks(50), 3)
    for partition in range(3):
        assert load.rank[load.partition == partition].tolist() == list(range((load.partition == partition).sum()))


def test_batches_hold_every_event_once_and_each_partition_in_order() -> None:
    load = Load(clicks(103), 4)
    seen: dict[int, list[int]] = {partition: [] for partition in range(4)}
    for batch in load.batches(size=10):
        assert batch.n_records <= 10
        seen[batch.partition] += [int(str(value["event_id"])) for value in values(batch)]
    assert sorted(sum(seen.values(), [])) == list(range(103))  # noqa: RUF017  # short
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_a_part_of_a_load_is_batched_alone() -> None:
    load = Load(clicks(20), 2)
    assert sorted(str(v["event_id"]) for b in load.batches(5, 8) for v in values(b)) == ["5", "6", "7"]


def test_a_schedule_has_the_rate_it_was_asked_for_and_is_the_same_again() -> None:
    schedule = poisson_schedule(10, rate=5000.0, seconds=10.0, seed=3)
    assert abs(len(schedule.due_s) - 50_000) < 1_000
    assert schedule.end == 10 + len(schedule.due_s)
    assert np.array_equal(schedule.due_s, poisson_schedule(10, 5000.0, 10.0, seed=3).due_s)
    assert 0 <= schedule.due_s[0] < schedule.due_s[-1] < 10.0


def test_due_times_lie_on_the_grid_of_ticks() -> None:
    due_s = poisson_schedule(0, 2000.0, 1.0).due_s
    assert np.allclose(due_s / TICK_S, np.round(due_s / TICK_S))


def test_each_tick_sends_what_is_due_then_one_batch_a_partition() -> None:
    load = Load(clicks(12), 2)
    moments, ends, ticks = ticks_of(load, Schedule(2, np.array([0.0, 0.0, 0.0, 0.004, 0.006, 0.006])))
    assert (moments, ends) == ([0.0, 0.004, 0.006], [3, 4, 6])
    assert [sorted(int(str(v["event_id"])) for batch in tick for v in values(batch)) for tick in ticks] == [
        [2, 3, 4],
        [5],
        [6, 7],
    ]
    assert all(a.partition != b.partition for tick in ticks for a, b in pairwise(tick))
