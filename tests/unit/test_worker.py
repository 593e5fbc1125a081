"""The loop around the pipeline, with every dependency in memory and every one of them able to fail."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from itertools import count
from typing import Any

import pytest
from aiokafka.errors import MessageSizeTooLargeError
from redis.exceptions import ConnectionError as RedisConnectionError

from encoders.vocabulary import item_hash
from encoders.window import WindowRule
from streams.batches import Computed, Handled, RecordBatch, together
from streams.errors import OvertakenError, StateFormatError, StateMismatchError
from streams.output import OutgoingRecord
from streams.pipeline import Rules, Serving
from streams.record_batch import ReadyBatch
from streams.session import FINGERPRINT_MASK, SessionKey, StoredSession, fingerprints_of, unpack
from streams.settings import TopicNames
from streams.store import SEEN_REFRESH, Applied, Changes, LogBounds, MemoryStore
from streams.worker import WorkerRules
from tests.inmemory import Bench, Fault, Record, batch, click, model, record, records, users_of

TOPICS = TopicNames()
U = SessionKey("default", "u")


class FaultyStore(MemoryStore):
    """Fails as often as it is told to, before or after the call took effect."""

    def __init__(self) -> None:
        super().__init__()
        self.fail_before = self.fail_after = 0
        self.loads = 0
        self.while_loading: Callable[[], Awaitable[None]] | None = None

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        self.loads += 1
        if self.while_loading:
            await self.while_loading()
        if self.fail_before:
            self.fail_before -= 1
            raise RedisConnectionError("gone")
        return await super().load(partition, keys)

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        if self.fail_before:
            self.fail_before -= 1
            raise RedisConnectionError("gone")
        answer = await super().apply(partition, token, changes)
        if self.fail_after:
            self.fail_after -= 1
            raise RedisConnectionError("the answer was lost")
        return answer


@pytest.fixture
def store() -> FaultyStore:
    return FaultyStore()


@pytest.fixture
async def bench(store: FaultyStore) -> Bench:
    """A worker that owns partition 0."""
    bench = Bench(store=store)
    await bench.acquire()
    return bench


def stored_window(store: MemoryStore, key: SessionKey = U) -> list[int]:
    return unpack(store.partitions[0].sessions[key]).window.item_hashes


def windows(*items: str) -> list[int]:
    return [item_hash(i) for i in items]


# --- the ordinary way


async def test_a_batch_is_answered_counted_and_durable(bench: Bench, store: FaultyStore) -> None:
    assert await bench.worker.handle(batch(records([click(item=i) for i in "12"]))) is Handled.DONE
    assert [r["event_id"] for r in bench.producer.lists()] == ["u-1", "u-2"]
    partition = store.partitions[0]
    assert (partition.position, stored_window(store)) == (2, windows("1", "2"))
    assert partition.counters == {"events": 2, "duplicates": 0, "dead_letters": 0, "forwarded": 0}
    assert bench.figure("events_total") == 2
    assert bench.figure("batch_size_count") == 1
    assert bench.figure("lists_total", source="none") == 2


async def test_lists_are_counted_by_the_source_of_their_best_item(store: FaultyStore) -> None:
    bench = Bench(store=store, serving=Serving(model()))
    await bench.acquire()
    await bench.worker.handle(batch(records([click(item="1"), click("v", "unknown"), click(item="2")])))
    assert (bench.figure("lists_total", source="ann"), bench.figure("lists_total", source="none")) == (2, 1)


async def test_popularity_of_batches_adds_up(bench: Bench, store: FaultyStore) -> None:
    for offset in range(3):
        await bench.worker.handle(batch([record(offset, click(item="1", event_id=str(offset)))]))
    once = Bench()
    await once.acquire()
    await once.worker.handle(batch(records([click(item="1", event_id=str(n)) for n in range(3)])))
    assert isinstance(once.store, MemoryStore)
    assert store.partitions[0].popularity == once.store.partitions[0].popularity
    assert bench.worker.partitions[0].popularity == store.partitions[0].popularity


async def test_sessions_are_read_from_the_store_once_and_then_remembered(bench: Bench, store: FaultyStore) -> None:
    for offset in range(3):
        await bench.worker.handle(batch([record(offset, click(item=str(offset)))]))
    assert store.loads == 1
    assert stored_window(store) == windows("0", "1", "2")


async def test_the_memory_of_sessions_is_bounded_and_its_least_used_go_first(store: FaultyStore) -> None:
    bench = Bench(WorkerRules(TOPICS, "cluster", 1, cached_sessions=2), store)
    await bench.acquire()
    for offset, user in enumerate("abac"):
        await bench.worker.handle(batch([record(offset, click(user, str(offset)))]))
    await bench.worker.handle(batch([record(4, click("b", "9"))]))
    assert [key.user_id for key in bench.worker.partitions[0].sessions] == ["a", "c", "b"]
    assert store.loads == 4
    assert stored_window(store, SessionKey("default", "b")) == windows("1", "9")


async def test_without_memory_every_batch_reads_the_store(store: FaultyStore) -> None:
    bench = Bench(WorkerRules(TOPICS, "cluster", 1, cached_sessions=0), store)
    await bench.acquire()
    for offset in range(3):
        await bench.worker.handle(batch([record(offset, click(item=str(offset)))]))
    assert stored_window(store) == windows("0", "1", "2")
    assert store.loads == 3


async def test_the_model_is_read_once_for_each_batch(bench: Bench) -> None:
    bench.serving = Serving(model("a"))
    await bench.worker.handle(batch(records([click(item=i) for i in "12"])))
    bench.serving = Serving(model("b", seed=3))
    await bench.worker.handle(batch([record(2, click(item="3"))]))
    assert [r["model_version"] for r in bench.producer.lists()] == ["a", "a", "b"]


async def test_a_batch_of_gaps_alone_moves_the_offset(bench: Bench, store: FaultyStore) -> None:
    """Compaction and aborted transactions leave offsets without records."""
    assert await bench.worker.handle(RecordBatch(0, 0, 40, [])) is Handled.DONE
    assert await bench.worker.handle(RecordBatch(0, 40, 60, [record(55, click())])) is Handled.DONE
    assert store.partitions[0].position == 60
    assert unpack(store.partitions[0].sessions[U]).applied_offset == 55


# --- batches that do not fit


async def test_a_batch_of_a_partition_that_is_not_owned_is_dropped(bench: Bench) -> None:
    bench.worker.release([0])
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.STALE
    assert bench.producer.attempts == 0


async def test_a_batch_that_was_applied_is_dropped(bench: Bench) -> None:
    given = batch(records([click(item=i) for i in "12"]))
    await bench.worker.handle(given)
    assert await bench.worker.handle(given) is Handled.STALE
    assert len(bench.producer.lists()) == 2


async def test_of_a_batch_that_was_applied_in_part_the_rest_is_applied(bench: Bench, store: FaultyStore) -> None:
    log = records([click(item=i) for i in "1234"])
    await bench.worker.handle(batch(log[:2]))
    assert await bench.worker.handle(batch(log[1:])) is Handled.DONE
    assert stored_window(store) == windows("1", "2", "3", "4")
    assert store.partitions[0].counters["events"] == 4
    assert len(bench.producer.lists()) == 4


async def test_a_batch_after_a_gap_is_not_applied(bench: Bench, store: FaultyStore) -> None:
    assert await bench.worker.handle(batch([record(1, click())])) is Handled.GAP
    assert store.partitions[0].position == 0
    assert 0 in bench.worker.partitions


# --- bad input


async def test_bad_records_go_to_the_dead_letters_and_the_stream_goes_on(bench: Bench, store: FaultyStore) -> None:
    big = b"[" * 300_000
    given = [Record(0, b"\xff"), record(1, click()), Record(2, big, b"k"), Record(3, None)]
    assert await bench.worker.handle(batch(given)) is Handled.DONE
    dead = bench.producer.topics[TOPICS.dead_letters]
    assert [dict(d.headers)["reason"] for d in dead] == [b"not-utf8", b"too-large", b"empty"]
    assert dead[1].value == big[:65_536]
    assert dict(dead[1].headers)["value-sha256"] == sha256(big).hexdigest().encode()
    assert len(bench.producer.lists()) == 1
    assert store.partitions[0].counters["dead_letters"] == 3
    assert bench.figure("dead_letters_total", reason="too-large") == 1


async def test_a_misplaced_record_is_forwarded_and_not_applied(store: FaultyStore) -> None:
    bench = Bench(WorkerRules(TOPICS, "cluster", 4), MemoryStore(n_partitions=4))
    await bench.acquire(partition=1)
    (user,) = users_of(3, 4, 1)
    given = Record(0, click(user).to_json(), None, (("trace", None),))
    assert await bench.worker.handle(batch([given], 1)) is Handled.DONE
    (sent,) = bench.producer.topics[TOPICS.interactions]
    assert sent == OutgoingRecord(TOPICS.interactions, user.encode(), given.value, given.headers, 3)
    assert bench.producer.lists() == []
    assert isinstance(bench.store, MemoryStore)
    assert bench.store.partitions[1].sessions == {}
    assert bench.store.partitions[1].counters["forwarded"] == 1


async def patient(store: MemoryStore, patience_s: float) -> Bench:
    bench = Bench(replace(Bench().rules, dead_letter_patience_s=patience_s), store)
    await bench.acquire()
    return bench


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.FAILED, Fault.SILENT])
async def test_a_dead_letter_that_cannot_be_written_is_given_up_and_said(
    fault: Fault, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await patient(store, 0.05)
    bench.producer.fault = lambda outgoing: fault if outgoing.topic == TOPICS.dead_letters else Fault.NONE
    assert await bench.worker.handle(batch([Record(0, b"bad"), record(1, click())])) is Handled.DONE
    assert len(bench.producer.lists()) == 1
    assert store.partitions[0].position == 2
    assert bench.figure("dead_letters_lost_total") == 1
    assert "'source-offset': '0'" in caplog.text


async def test_a_dead_letter_waits_for_kafka_as_long_as_the_patience_lasts(store: FaultyStore) -> None:
    """A broker that is away for a moment must not cost a dead letter."""
    bench = await patient(store, 30.0)
    failing = iter([Fault.REFUSED, Fault.FAILED, Fault.REFUSED])
    bench.producer.fault = lambda outgoing: next(failing, Fault.NONE)
    assert await bench.worker.handle(batch([Record(0, b"bad")])) is Handled.DONE
    assert len(bench.producer.topics[TOPICS.dead_letters]) == 1
    assert bench.figure("dead_letters_lost_total") == 0


async def test_a_dead_letter_that_is_too_large_for_the_broker_is_given_up_at_once(store: FaultyStore) -> None:
    bench = await patient(store, 30.0)
    send = bench.producer.send

    async def refuse(topic: str, *args: object, **kwargs: object) -> asyncio.Future[object]:
        if topic == TOPICS.dead_letters:
            raise MessageSizeTooLargeError
        return await send(topic, *args, **kwargs)  # type: ignore[arg-type]

    bench.producer.send = refuse  # type: ignore[method-assign, assignment]
    assert await bench.worker.handle(batch([Record(0, b"bad"), record(1, click())])) is Handled.DONE
    assert bench.figure("dead_letters_lost_total") == 1
    assert bench.slept == []


async def test_a_list_that_is_too_large_for_the_broker_is_given_up_and_the_others_arrive(
    store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    bench = await patient(store, 30.0)
    send_batch = bench.producer.send_batch

    async def refuse(given: ReadyBatch, topic: str, *, partition: int) -> asyncio.Future[object]:
        if b'"event_id":"large"' in given._build():
            raise MessageSizeTooLargeError
        return await send_batch(given, topic, partition=partition)

    bench.producer.send_batch = refuse  # type: ignore[method-assign]
    given = [click(item=str(n), event_id="large" if n == 2 else str(n)) for n in range(1, 4)]
    assert await bench.worker.handle(batch(records(given))) is Handled.DONE
    assert [made["event_id"] for made in bench.producer.lists()] == ["1", "3"]
    assert bench.figure("dead_letters_lost_total") == 1
    assert "large" in caplog.text


# --- dependencies that are down


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.FAILED])
async def test_kafka_down_and_back_loses_nothing_and_repeats_nothing(
    fault: Fault, bench: Bench, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    failing = iter([fault] * 7)
    bench.producer.fault = lambda outgoing: next(failing, Fault.NONE)
    with caplog.at_level(logging.WARNING):
        assert await bench.worker.handle(batch(records([click(item=i) for i in "123"]))) is Handled.DONE
    assert sorted(r["event_id"] for r in bench.producer.lists()) == ["u-1", "u-2", "u-3"]
    assert store.partitions[0].position == 3
    assert [m for m in caplog.messages if "Waiting" in m] == caplog.messages[:1]
    assert "Kafka answers again" in caplog.messages[-1]


async def test_state_is_not_touched_before_every_list_is_acknowledged(bench: Bench, store: FaultyStore) -> None:
    bench.producer.fault = lambda outgoing: Fault.SILENT
    task = asyncio.create_task(bench.worker.handle(batch([record(0, click())])))
    await asyncio.sleep(0.01)
    assert (store.partitions[0].position, store.partitions[0].sessions) == (0, {})
    task.cancel()


async def test_an_acknowledgement_that_was_lost_repeats_the_list_with_the_same_id(bench: Bench) -> None:
    failing = iter([Fault.UNANSWERED])
    bench.producer.fault = lambda outgoing: next(failing, Fault.NONE)
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE
    first, second = bench.producer.lists()
    assert first == second


async def test_redis_down_and_back_loses_nothing(
    bench: Bench, store: FaultyStore, caplog: pytest.LogCaptureFixture
) -> None:
    store.fail_before = 9
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE
    assert len(bench.producer.lists()) == 1
    assert store.partitions[0].position == 1
    assert "Redis does not take offset 0" in caplog.text
    assert bench.slept == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0])


async def test_a_lost_answer_of_redis_counts_the_batch_once(bench: Bench, store: FaultyStore) -> None:
    store.fail_after = 1
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE
    assert await bench.worker.handle(batch([record(1, click(item="2"))])) is Handled.DONE
    assert store.partitions[0].counters["events"] == 2
    assert stored_window(store) == windows("1", "2")


async def test_revoked_while_kafka_is_down_the_batch_is_dropped(bench: Bench, store: FaultyStore) -> None:
    bench.producer.fault = lambda outgoing: Fault.REFUSED
    task = asyncio.create_task(bench.worker.handle(batch([record(0, click())])))
    await bench.waiting.wait()
    bench.worker.release([0])
    assert await asyncio.wait_for(task, 5) is Handled.STALE
    assert store.partitions[0].position == 0


async def test_revoked_while_redis_is_down_the_batch_is_dropped(bench: Bench, store: FaultyStore) -> None:
    store.fail_before = 10**9
    task = asyncio.create_task(bench.worker.handle(batch([record(0, click())])))
    await bench.waiting.wait()
    bench.worker.release([0])
    assert await asyncio.wait_for(task, 5) is Handled.STALE


async def test_revoked_while_a_dead_letter_waits_it_is_left_to_the_next_owner(store: FaultyStore) -> None:
    bench = await patient(store, 30.0)
    bench.producer.fault = lambda outgoing: Fault.REFUSED
    task = asyncio.create_task(bench.worker.handle(batch([Record(0, b"bad")])))
    await bench.waiting.wait()
    bench.worker.release([0])
    assert await asyncio.wait_for(task, 5) is Handled.STALE
    assert bench.figure("dead_letters_lost_total") == 0


async def test_taken_anew_while_it_waited_the_old_batch_is_dropped_all_the_same(
    bench: Bench, store: FaultyStore
) -> None:
    """Revoked and assigned again: what was remembered before is no longer true."""
    bench.producer.fault = lambda outgoing: Fault.REFUSED
    task = asyncio.create_task(bench.worker.handle(batch([record(0, click())])))
    await bench.waiting.wait()
    await bench.acquire()
    bench.producer.fault = lambda outgoing: Fault.NONE
    assert await asyncio.wait_for(task, 5) is Handled.STALE
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE
    assert store.partitions[0].counters["events"] == 1


# --- other owners


async def test_a_worker_that_was_overtaken_cannot_write(bench: Bench, store: FaultyStore) -> None:
    other = Bench(store=store)
    await other.acquire()
    assert await bench.worker.handle(batch([record(0, click(item="9"))])) is Handled.LOST
    assert bench.worker.partitions == {}
    assert store.partitions[0].position == 0
    assert bench.figure("batches_refused_total", reason="fenced") == 1
    assert await other.worker.handle(batch([record(0, click(item="1"))])) is Handled.DONE
    assert stored_window(store) == windows("1")


async def test_after_losing_a_partition_it_can_be_taken_anew(bench: Bench, store: FaultyStore) -> None:
    await Bench(store=store).acquire()
    await bench.worker.handle(batch([record(0, click())]))
    await bench.acquire()
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE


async def test_a_store_that_fell_back_refuses_the_batch(bench: Bench, store: FaultyStore) -> None:
    await bench.worker.handle(batch([record(0, click())]))
    store.partitions[0].position = 0
    assert await bench.worker.handle(batch([record(1, click(item="2"))])) is Handled.LOST
    assert bench.figure("batches_refused_total", reason="refused") == 1


async def test_a_session_ahead_of_the_batch_is_never_built_upon(bench: Bench, store: FaultyStore) -> None:
    other = Bench(store=store)
    await other.acquire()
    await other.worker.handle(batch(records([click(item=i) for i in "12"])))
    assert await bench.worker.handle(batch([record(0, click(item="1"))])) is Handled.LOST
    assert bench.figure("batches_refused_total", reason="overtaken") == 1
    assert bench.producer.lists() == []


async def test_a_session_ahead_of_the_state_that_nobody_else_wrote_is_a_contradiction(
    bench: Bench, store: FaultyStore
) -> None:
    """As where Redis evicted keys: going on would count events twice."""
    await bench.worker.handle(batch(records([click(item=i) for i in "12"])))
    store.partitions[0].position = 1
    await bench.acquire()
    assert await bench.worker.handle(batch([record(1, click(item="2"))])) is Handled.LOST
    await bench.acquire()
    with pytest.raises(
        StateMismatchError, match=r"contradicts itself: a session holds offset 1.*streamrec state reset"
    ):
        await bench.worker.handle(batch([record(1, click(item="2"))]))
    assert store.partitions[0].counters["events"] == 2


async def test_a_store_that_falls_back_between_two_looks_is_no_contradiction(bench: Bench, store: FaultyStore) -> None:
    await bench.worker.handle(batch([record(0, click())]))
    ahead = dict(store.partitions[0].sessions)
    for _ in range(3):
        store.partitions[0].position, store.partitions[0].sessions = 0, dict(ahead)
        await bench.acquire()
        assert await bench.worker.handle(batch([record(0, click())])) is Handled.LOST
        store.partitions[0].sessions.clear()
        await bench.acquire()
        assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE


async def test_counts_that_another_owner_has_moved_on_are_not_taken_over(store: FaultyStore) -> None:
    """A store that falls back later would give this worker its old place, but not the old counts."""
    other, popularity = Bench(store=store), store.popularity

    async def overtaken(partition: int) -> dict[tuple[str, str], float]:
        store.popularity = popularity  # type: ignore[method-assign]
        await other.acquire()
        await other.worker.handle(batch([record(0, click())]))
        return await popularity(partition)

    store.popularity = overtaken  # type: ignore[method-assign]
    bench = Bench(store=store)
    with pytest.raises(OvertakenError):
        await bench.acquire()
    assert bench.worker.partitions == {}


async def test_a_release_forgets_the_sessions(bench: Bench, store: FaultyStore) -> None:
    await bench.worker.handle(batch([record(0, click())]))
    bench.worker.release([0])
    store.partitions[0].sessions.clear()
    await bench.acquire()
    await bench.worker.handle(batch([record(1, click(item="2"))]))
    assert stored_window(store) == windows("2")


# --- taking over


async def test_a_new_worker_goes_on_where_the_state_ends(bench: Bench, store: FaultyStore) -> None:
    log = records([click(item=i) for i in "1234"])
    await bench.worker.handle(batch(log[:2]))
    other = Bench(store=store)
    await other.acquire(committed=1)
    assert other.worker.partitions[0].position == 2
    assert other.worker.partitions[0].popularity == store.partitions[0].popularity
    await other.worker.handle(batch(log[2:]))
    assert stored_window(store) == windows("1", "2", "3", "4")


async def test_state_that_was_lost_is_rebuilt_without_answering_again(store: FaultyStore) -> None:
    bench = Bench(store=store)
    await bench.acquire(committed=3)
    given = [record(0, click(item="1")), Record(1, b"bad"), record(2, click(item="3")), record(3, click(item="4"))]
    assert await bench.worker.handle(batch(given)) is Handled.DONE
    assert [r["source_offset"] for r in bench.producer.lists()] == [3]
    assert bench.producer.topics[TOPICS.dead_letters] == []
    assert stored_window(store) == windows("1", "3", "4")
    assert store.partitions[0].counters["events"] == 3


async def test_what_retention_took_is_counted_and_said(store: FaultyStore, caplog: pytest.LogCaptureFixture) -> None:
    bench = Bench(store=store)
    await bench.acquire()
    await bench.worker.acquire(0, LogBounds(25, 100, 0))
    assert bench.worker.partitions[0].position == 25
    assert bench.figure("retention_lost_total") == 25
    assert "retention removed 25 events" in caplog.text
    assert await bench.worker.handle(batch([record(25, click())])) is Handled.DONE


async def test_a_log_shorter_than_the_state_is_refused(bench: Bench) -> None:
    await bench.worker.handle(batch([record(0, click())]))
    with pytest.raises(StateMismatchError, match="streamrec state reset"):
        await bench.acquire(end=0)
    assert bench.worker.partitions == {}


async def test_a_session_that_cannot_be_read_is_not_overwritten(bench: Bench, store: FaultyStore) -> None:
    store.partitions[0].sessions[U] = b"\x09from the future"
    with pytest.raises(StateFormatError, match="version 9"):
        await bench.worker.handle(batch([record(0, click())]))
    assert store.partitions[0].sessions[U] == b"\x09from the future"
    assert store.partitions[0].position == 0


async def test_an_idle_partition_notices_that_the_store_fell_back(bench: Bench, store: FaultyStore) -> None:
    await bench.worker.handle(batch([record(0, click())]))
    assert await bench.worker.still_owns(0)
    store.partitions[0].position = 0
    assert not await bench.worker.still_owns(0)
    assert 0 not in bench.worker.partitions


async def test_an_idle_partition_notices_another_owner(bench: Bench, store: FaultyStore) -> None:
    await store.acquire(0, LogBounds(0, 100, None))
    assert not await bench.worker.still_owns(0)


async def test_a_partition_with_a_batch_on_its_way_is_not_suspected(bench: Bench, store: FaultyStore) -> None:
    """The batch's script may have run, and its answer may come after the answer to the question."""
    (computed,), _ = await bench.worker.compute([batch([record(0, click())])])
    await store.apply(0, bench.worker.partitions[0].ownership.token, computed.changes)
    assert await bench.worker.still_owns(0)
    assert await bench.worker.deliver(computed) is Handled.DONE


# --- batches that are worked out ahead


async def ahead(bench: Bench, *given: RecordBatch) -> list[Computed]:
    """Batches of one fetch each, worked out and not delivered."""
    computed = []
    for each in given:
        (one,), others = await bench.worker.compute([each])
        assert others == {}
        computed.append(one)
    return computed


async def test_a_batch_builds_on_sessions_that_are_not_durable_yet(bench: Bench, store: FaultyStore) -> None:
    one, two, three = await ahead(bench, *(batch([record(n, click(item=str(n + 1)))]) for n in range(3)))
    owned = bench.worker.partitions[0]
    assert (owned.position, owned.computed) == (0, 3)
    assert store.partitions[0].sessions == {}
    assert store.loads == 1
    for given, end in ((one, 1), (two, 2), (three, 3)):
        assert await bench.worker.deliver(given) is Handled.DONE
        assert store.partitions[0].position == owned.position == end
        assert stored_window(store) == windows(*"123"[:end])
    assert [r["event_id"] for r in bench.producer.lists()] == ["u-1", "u-2", "u-3"]


async def test_counts_of_batches_ahead_add_up(bench: Bench, store: FaultyStore) -> None:
    clicks = [click(item="1", event_id=str(n)) for n in range(3)]
    for given in await ahead(bench, *(batch([record(n, made)]) for n, made in enumerate(clicks))):
        await bench.worker.deliver(given)
    once = Bench()
    await once.acquire()
    await once.worker.handle(batch(records(clicks)))
    assert isinstance(once.store, MemoryStore)
    assert store.partitions[0].popularity == once.store.partitions[0].popularity


async def test_an_event_that_comes_twice_is_known_before_it_is_durable(bench: Bench, store: FaultyStore) -> None:
    for given in await ahead(bench, *(batch([record(n, click())]) for n in range(2))):
        await bench.worker.deliver(given)
    assert store.partitions[0].counters["duplicates"] == 1


async def test_what_is_not_durable_is_remembered_whatever_the_bound(store: FaultyStore) -> None:
    bench = Bench(WorkerRules(TOPICS, "cluster", 1, cached_sessions=1), store)
    await bench.acquire()
    one, two, three = await ahead(bench, *(batch([record(n, click(u, str(n)))]) for n, u in enumerate("abc")))
    sessions = bench.worker.partitions[0].sessions
    assert [key.user_id for key in sessions] == ["a", "b", "c"]
    await bench.worker.deliver(one)
    (four,) = await ahead(bench, batch([record(3, click("b", "9"))]))
    assert [key.user_id for key in sessions] == ["c", "b"]
    for each in (two, three, four):
        await bench.worker.deliver(each)
    await bench.worker.handle(batch([record(4, click("b", "8"))]))
    assert [key.user_id for key in sessions] == ["b"]
    assert stored_window(store, SessionKey("default", "b")) == windows("1", "9", "8")


async def test_a_session_is_not_forgotten_while_its_batch_waits_for_others() -> None:
    """What is found in memory when a batch begins stays there, even if earlier batches become durable meanwhile."""
    log = [
        batch([record(n, click("a", str(n))) for n in range(9)]),
        batch([record(9, click("b", "1"))]),
        batch([record(10, click("a", "9")), record(11, click("c", "1"))]),
        batch([record(12, click("a", "10")), record(13, click("a", "11"))]),
    ]
    left = []
    for cached_sessions in (1, 1000):
        store = FaultyStore()
        rules = WorkerRules(TOPICS, "cluster", 1, Rules(window=WindowRule(max_len=2)), cached_sessions=cached_sessions)
        bench = Bench(rules, store)
        await bench.acquire()
        waiting = await ahead(bench, *log[:2])

        async def deliver(bench: Bench = bench, waiting: list[Computed] = waiting) -> None:
            while waiting:
                assert await bench.worker.deliver(waiting.pop(0)) is Handled.DONE

        store.while_loading = deliver
        for each in log[2:]:
            assert await bench.worker.handle(each) is Handled.DONE
        left.append((store.partitions[0].sessions, store.partitions[0].seen))
    assert left[0] == left[1]
    assert left[0][1]


async def test_once_one_batch_is_refused_all_that_builds_on_it_is_dropped(bench: Bench, store: FaultyStore) -> None:
    log = [batch([record(n, click(item=str(n)))]) for n in range(4)]
    await bench.worker.handle(log[0])
    computed = await ahead(bench, *log[1:])
    store.partitions[0].position = 0  # the store fell back behind the first batch
    store.partitions[0].sessions.clear()
    store.partitions[0].counters.clear()
    assert [await bench.worker.deliver(each) for each in computed] == [Handled.LOST, Handled.STALE, Handled.STALE]
    assert store.partitions[0].sessions == {}
    await bench.acquire()
    owned = bench.worker.partitions[0]
    assert (owned.position, owned.computed, len(owned.sessions)) == (0, 0, 0)
    for each in log:
        assert await bench.worker.handle(each) is Handled.DONE
    assert stored_window(store) == windows("0", "1", "2", "3")
    assert store.partitions[0].counters["events"] == 4


async def test_what_was_worked_out_before_the_partition_was_taken_anew_is_dropped(
    bench: Bench, store: FaultyStore
) -> None:
    old = await ahead(bench, *(batch([record(n, click(item=str(n)))]) for n in range(2)))
    await bench.worker.deliver(old[0])
    await bench.acquire()
    assert bench.worker.partitions[0].computed == 1
    new = await ahead(bench, batch([record(1, click(item="1"))]))
    assert await bench.worker.deliver(old[1]) is Handled.STALE
    assert await bench.worker.deliver(new[0]) is Handled.DONE
    assert len(bench.producer.lists()) == 2
    assert store.partitions[0].counters["events"] == 2


async def test_a_refusal_of_what_was_worked_out_before_does_not_take_the_partition_anew_once_more(
    bench: Bench, store: FaultyStore
) -> None:
    """Its script is on its way while the partition is acquired."""
    (computed,) = await ahead(bench, batch([record(0, click())]))
    apply = store.apply

    async def overtaken(partition: int, token: str, changes: Changes) -> Applied:
        store.apply = apply  # type: ignore[method-assign]
        await bench.acquire()
        return await apply(partition, token, changes)

    store.apply = overtaken  # type: ignore[method-assign]
    assert await bench.worker.deliver(computed) is Handled.STALE
    assert await bench.worker.handle(batch([record(0, click())])) is Handled.DONE
    assert store.partitions[0].counters["events"] == 1


async def test_a_batch_that_skips_what_is_worked_out_is_a_gap_and_one_within_it_is_stale(bench: Bench) -> None:
    await ahead(bench, batch(records([click(item=i) for i in "12"])))
    assert await bench.worker.compute([batch([record(3, click())])]) == ([], {0: Handled.GAP})
    assert await bench.worker.compute([batch([record(1, click())])]) == ([], {0: Handled.STALE})


async def test_a_batch_is_delivered_only_after_the_one_before_it(bench: Bench, store: FaultyStore) -> None:
    one, two = await ahead(bench, *(batch([record(n, click(item=str(n)))]) for n in range(2)))
    assert await bench.worker.deliver(two) is Handled.STALE
    assert (bench.producer.attempts, store.partitions[0].position) == (0, 0)
    assert await bench.worker.deliver(one) is Handled.DONE
    assert await bench.worker.deliver(two) is Handled.DONE


@pytest.mark.parametrize("n_records", [1, 3])
async def test_all_that_waits_counts_as_bytes_dead_letters_too(n_records: int, bench: Bench) -> None:
    """Else a topic that takes no dead letters would let them fill the memory."""
    (computed,) = await ahead(bench, batch([Record(n, b"[" * 1000) for n in range(n_records)]))
    assert computed.size_bytes >= 1000 * n_records


async def test_all_that_waits_counts_as_bytes_sessions_what_was_seen_and_lists_too(store: FaultyStore) -> None:
    rules = WorkerRules(TOPICS, "cluster", 1, Rules(window=WindowRule(max_len=2)))
    bench = Bench(rules, store, Serving(model(max_len=2)))
    await bench.acquire()
    (computed,) = await ahead(bench, batch(records([click(item=str(n)) for n in range(1, 40)])))
    changes = computed.changes
    assert changes.seen
    written = [
        *changes.sessions.values(),
        *changes.seen.values(),
        *(made for lists in computed.lists for made in lists),
    ]
    assert computed.size_bytes == sum(map(len, written))


async def test_batches_delivered_together_are_what_they_are_one_by_one(store: FaultyStore) -> None:
    """Sessions, what was seen, counts, figures and lists; what two batches change is written once."""
    rules = WorkerRules(TOPICS, "cluster", 1, Rules(window=WindowRule(max_len=3)))
    log = [record(n, click("uv"[n % 2], str(n % 7), event_id=str(n % 9))) for n in range(12)]
    log[5] = Record(5, b"bad")
    benches = []
    for at_once in (False, True):
        bench = Bench(rules)
        await bench.acquire()
        computed = await ahead(bench, *(batch(log[n : n + 4]) for n in range(0, 12, 4)))
        for each in [together(computed)] if at_once else computed:
            assert await bench.worker.deliver(each) is Handled.DONE
        benches.append(bench)
    one, other = benches
    assert isinstance(one.store, MemoryStore)
    assert isinstance(other.store, MemoryStore)
    assert replace(one.store.partitions[0], owner="") == replace(other.store.partitions[0], owner="")
    assert one.store.partitions[0].seen
    assert one.producer.lists() == other.producer.lists()
    for name in ("events_total",):
        assert one.figure(name) == other.figure(name) > 0
    assert one.figure("dead_letters_total", reason="not-json") == other.figure("dead_letters_total", reason="not-json")


async def test_the_store_hears_once_an_hour_that_what_was_seen_is_still_wanted(store: FaultyStore) -> None:
    """And at once of what has changed, or was read from the store; nothing of those who have seen nothing."""
    bench = Bench(WorkerRules(TOPICS, "cluster", 1, Rules(window=WindowRule(max_len=4))), store)
    await bench.acquire()
    heard = []
    interactions = iter([click(item=str(n)) for n in range(1, 12)])
    hour_ms = int(SEEN_REFRESH.total_seconds() * 1000)
    log = [*(next(interactions) for _ in range(5)), click("v")]
    for offset, passed_ms in ((0, 0), (6, 0), (7, hour_ms), (8, 1), (9, 1), (10, hour_ms + 1)):
        bench.now_ms += passed_ms
        if offset == 9:
            await bench.acquire()  # it begins with an empty memory
        log = log if offset == 0 else [click(item=None, event_id=str(offset)), click("v", event_id=f"v{offset}")]
        start = bench.worker.partitions[0].computed
        (computed,), _ = await bench.worker.compute([batch(records(log, start))])
        await bench.worker.deliver(computed)
        heard.append((len(computed.changes.seen), [key.user_id for key in computed.changes.unchanged_seen]))
    assert heard == [(1, []), (0, []), (0, []), (0, ["u"]), (0, ["u"]), (0, ["u"])]
    (computed,), _ = await bench.worker.compute([batch(records(list(interactions), 16))])
    assert (len(computed.changes.seen), computed.changes.unchanged_seen) == (1, [])


async def test_what_was_seen_goes_on_from_memory_and_from_the_store(store: FaultyStore) -> None:
    rules = WorkerRules(TOPICS, "cluster", 1, Rules(window=WindowRule(max_len=2)))
    bench = Bench(rules, store)
    await bench.acquire()
    for offset in range(12):
        if offset == 6:
            bench = Bench(rules, store)
            await bench.acquire()
        await bench.worker.handle(
            batch([record(offset, click(item=str(offset) if offset % 3 else None, event_id=str(offset)))])
        )
    whole = store.partitions[0]
    session = unpack(whole.sessions[U], whole.seen[U])
    items = [item_hash(str(n)) for n in range(12) if n % 3]
    assert session.window.item_hashes == items[-len(session.window) :]
    assert fingerprints_of(session.seen) == [i & FINGERPRINT_MASK for i in items[: -len(session.window)]]


# --- several partitions


@pytest.fixture
async def pair() -> Bench:
    """A worker that owns both partitions."""
    bench = Bench(WorkerRules(TOPICS, "cluster", 2))
    for partition in range(2):
        await bench.acquire(partition=partition)
    return bench


HOMES = [users_of(partition, 2, 1)[0] for partition in range(2)]
"""A user of each partition."""


def fetch(offset: int) -> list[RecordBatch]:
    """One event of each partition."""
    return [batch([record(offset, click(user, str(offset)))], partition) for partition, user in enumerate(HOMES)]


def positions(bench: Bench) -> list[int | None]:
    assert isinstance(bench.store, MemoryStore)
    return [bench.store.partitions[partition].position for partition in range(2)]


async def test_partitions_of_one_fetch_are_worked_out_together_and_delivered_apart(pair: Bench) -> None:
    (zero, one), others = await pair.worker.compute(fetch(0))
    assert others == {}
    assert await pair.worker.deliver(one) is Handled.DONE
    assert positions(pair) == [0, 1]
    assert await pair.worker.deliver(zero) is Handled.DONE
    assert sorted(made["source_partition"] for made in pair.producer.lists()) == [0, 1]


async def test_a_batch_that_fails_holds_up_its_own_partition_alone(pair: Bench) -> None:
    """A of partition 0 is not acknowledged, B of partition 1 is: nothing past A is durable in partition 0."""
    pair.producer.fault = lambda outgoing: Fault.FAILED if outgoing.key == HOMES[0].encode() else Fault.NONE
    first, _ = await pair.worker.compute(fetch(0))
    second, _ = await pair.worker.compute(fetch(1))
    stuck = asyncio.create_task(pair.worker.deliver(first[0]))
    await pair.waiting.wait()
    assert [await pair.worker.deliver(first[1]), await pair.worker.deliver(second[1])] == [Handled.DONE] * 2
    assert positions(pair) == [0, 2]
    assert await pair.worker.deliver(second[0]) is Handled.STALE  # not before the first
    assert [owned.position for owned in pair.worker.partitions.values()] == [0, 2]
    pair.producer.fault = lambda outgoing: Fault.NONE
    assert await asyncio.wait_for(stuck, 5) is Handled.DONE
    assert await pair.worker.deliver(second[0]) is Handled.DONE
    assert positions(pair) == [2, 2]


async def test_a_partition_that_fits_goes_on_beside_one_that_does_not(pair: Bench) -> None:
    zero, one = fetch(0)
    (computed,), others = await pair.worker.compute([zero, fetch(5)[1]])
    assert (computed.partition, others) == (0, {1: Handled.GAP})
    pair.worker.release([0])
    (computed,), others = await pair.worker.compute([zero, one])
    assert (computed.partition, others) == (1, {0: Handled.STALE})


async def test_a_partition_that_was_overtaken_holds_up_no_other(pair: Bench) -> None:
    other = Bench(pair.rules, pair.store)
    await other.acquire()
    await other.worker.handle(fetch(0)[0])
    (computed,), others = await pair.worker.compute(fetch(0))
    assert (computed.partition, others) == (1, {0: Handled.LOST})
    assert await pair.worker.deliver(computed) is Handled.DONE


async def test_a_partition_that_is_revoked_while_another_loads_is_dropped(pair: Bench) -> None:
    load = pair.store.load

    async def revoked(partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        if partition == 1:
            pair.worker.release([0])
        return await load(partition, keys)

    pair.store.load = revoked  # type: ignore[method-assign]
    (computed,), others = await pair.worker.compute(fetch(0))
    assert (computed.partition, others) == (1, {0: Handled.STALE})


async def test_where_one_partition_cannot_be_worked_out_none_has_moved(
    pair: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A defect is retried with the whole fetch: what had moved already would be taken for applied."""
    calls = count(1)

    def fails_at_the_second(*given: Any) -> Changes:
        if next(calls) == 2:
            raise ValueError("a defect")
        return Changes(*given)

    monkeypatch.setattr("streams.worker.Changes", fails_at_the_second)
    with pytest.raises(ValueError, match="a defect"):
        await pair.worker.compute(fetch(0))
    assert [owned.computed for owned in pair.worker.partitions.values()] == [0, 0]
    computed, others = await pair.worker.compute(fetch(0))
    assert others == {}
    assert [await pair.worker.deliver(each) for each in computed] == [Handled.DONE, Handled.DONE]
    assert positions(pair) == [1, 1]
