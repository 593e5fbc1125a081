"""What leaves a worker, and whether it arrived."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from hashlib import sha256

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from streams.decode import DeadLetter, Misplaced
from streams.lists import WireLists
from streams.output import (
    OutgoingRecord,
    dead_letter_record,
    deliver,
    deliver_lists,
    forwarded_record,
)
from streams.routing import partition_of
from streams.settings import TopicNames
from streams.texts import joined, texts
from tests.inmemory import Fault, MemoryProducer, Record, click

TOPICS = TopicNames()


def outgoing(n: int) -> list[OutgoingRecord]:
    return [OutgoingRecord("t", b"%d" % i, b"v", ()) for i in range(n)]


async def test_all_records_are_delivered_in_their_order() -> None:
    producer = MemoryProducer()
    assert await deliver(producer, outgoing(5)) == []
    assert producer.topics["t"] == outgoing(5)


async def test_nothing_to_deliver_is_nothing_to_wait_for() -> None:
    assert await deliver(MemoryProducer(), []) == []


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.FAILED, Fault.UNANSWERED])
async def test_a_record_that_fails_is_named_and_the_others_arrive(fault: Fault) -> None:
    producer = MemoryProducer(lambda record: fault if record.key in (b"1", b"3") else Fault.NONE)
    failures = await deliver(producer, outgoing(5))
    assert sorted(failure.record.key or b"" for failure in failures) == [b"1", b"3"]
    assert {record.key for record in producer.topics["t"]} >= {b"0", b"2", b"4"}


async def test_every_acknowledgement_is_awaited() -> None:
    producer = MemoryProducer(lambda record: Fault.SILENT if record.key == b"2" else Fault.NONE)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(deliver(producer, outgoing(4)), 0.02)
    assert producer.attempts == 4


async def test_a_partition_that_does_not_exist_is_a_failure() -> None:
    """aiokafka asserts that it does."""

    class Asserting(MemoryProducer):
        async def send(self, topic, value=None, key=None, partition=None, timestamp_ms=None, headers=None):  # type: ignore[no-untyped-def]
            raise AssertionError("Unrecognized partition")

    (failure,) = await deliver(Asserting(), outgoing(1))
    assert isinstance(failure.error, AssertionError)


async def test_a_producer_that_is_stopped_fails_its_records() -> None:
    producer = MemoryProducer()

    class Stopped(MemoryProducer):
        async def send(self, *args, **kwargs):  # type: ignore[no-untyped-def]
            answer = await producer.send(*args, **kwargs)
            stopped: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            stopped.cancel()
            return stopped if answer.done() else answer

    failures = await deliver(Stopped(), outgoing(2))
    assert [failure.record for failure in failures] == outgoing(2)


@pytest.mark.parametrize("key", [None, b"wrong"])
def test_a_forwarded_record_is_as_it_came_but_in_its_users_partition(key: bytes | None) -> None:
    value = b' {"future": 1, ' + click("ü").to_json()[1:]
    record = Record(5, value, key, (("trace", b"\xff"), ("empty", None)))
    sent = forwarded_record(Misplaced(record, "ü", 6), "interactions")
    assert sent == OutgoingRecord("interactions", "ü".encode(), value, record.headers, 6)


def dead_letter(record: Record, limit_bytes: int = 100) -> OutgoingRecord:
    return dead_letter_record(DeadLetter(record, "not-json", "line 1"), TOPICS, "interactions", 3, limit_bytes)


def test_a_dead_letter_is_the_record_with_its_reason_and_its_place() -> None:
    sent = dead_letter(Record(17, b"\xff\x00", b"\xfe", (("trace", b"1"),)))
    assert (sent.topic, sent.key, sent.value, sent.partition) == ("dead-letters", b"\xfe", b"\xff\x00", None)
    assert dict(sent.headers) == {
        "schema": b"1",
        "reason": b"not-json",
        "detail": b"line 1",
        "source-topic": b"interactions",
        "source-partition": b"3",
        "source-offset": b"17",
    }


@pytest.mark.parametrize(("key", "value"), [(None, None), (b"", b""), (None, b"x")])
def test_what_is_not_there_stays_so(key: bytes | None, value: bytes | None) -> None:
    sent = dead_letter(Record(0, value, key))
    assert (sent.key, sent.value) == (key, value)


def test_a_value_of_exactly_the_limit_is_whole() -> None:
    sent = dead_letter(Record(0, b"x" * 100))
    assert sent.value == b"x" * 100
    assert "value-sha256" not in dict(sent.headers)


def test_a_longer_value_is_cut_and_its_length_and_hash_are_told() -> None:
    value = bytes(range(256)) * 4096
    sent = dead_letter(Record(0, value, b"k" * 101))
    headers = dict(sent.headers)
    assert sent.value == value[:100]
    assert headers["value-bytes"] == b"1048576"
    assert headers["value-sha256"] == sha256(value).hexdigest().encode()
    assert (sent.key, headers["key-bytes"]) == (b"k" * 100, b"101")


def test_a_limit_of_nothing_keeps_the_hash_alone() -> None:
    sent = dead_letter(Record(0, b"abc"), limit_bytes=0)
    assert sent.value == b""
    assert dict(sent.headers)["value-sha256"] == sha256(b"abc").hexdigest().encode()


# --- lists, in whole batches


def wire_lists(n: int, users: Sequence[str] = ()) -> WireLists:
    names = users or [f"user-{i}" for i in range(n)]
    return WireLists(texts(list(names)), joined([b"{%d}" % i for i in range(n)]))


async def deliver_to(producer: MemoryProducer, *lists: WireLists, n_partitions: int = 1, most_bytes: int = 10_000):  # type: ignore[no-untyped-def]
    return await deliver_lists(producer, "t", 0, n_partitions, lists, most_bytes)


async def test_a_list_is_keyed_by_its_user_and_carries_the_schema() -> None:
    producer = MemoryProducer()
    assert await deliver_to(producer, wire_lists(2, ["ü", "v"])) == []
    assert producer.topics["t"] == [
        OutgoingRecord("t", "ü".encode(), b"{0}", (("schema", b"1"),), 0),
        OutgoingRecord("t", b"v", b"{1}", (("schema", b"1"),), 0),
    ]


async def test_lists_go_where_their_events_come_from_if_the_topics_have_as_many_partitions() -> None:
    producer = MemoryProducer()
    producer.n_partitions = 4
    assert await deliver_lists(producer, "t", 3, 4, [wire_lists(5)], 10_000) == []
    assert producer.attempts == 1
    assert {record.partition for record in producer.topics["t"]} == {3}


async def test_lists_go_where_their_users_belong_if_the_topics_differ_in_partitions() -> None:
    producer = MemoryProducer()
    producer.n_partitions = 4
    users = [f"user-{i}" for i in range(50)]
    assert await deliver_to(producer, wire_lists(50, users), n_partitions=7) == []
    assert producer.attempts == 4
    assert {record.key: record.partition for record in producer.topics["t"]} == {
        user.encode(): partition_of(user, 4) for user in users
    }
    assert {record.key: record.value for record in producer.topics["t"]} == {
        user.encode(): b"{%d}" % i for i, user in enumerate(users)
    }


async def test_lists_keep_their_order_and_a_full_batch_is_followed_by_another() -> None:
    producer = MemoryProducer()
    assert await deliver_to(producer, wire_lists(5), wire_lists(4), most_bytes=150) == []
    assert producer.attempts == 3
    assert [record.value for record in producer.topics["t"]] == [b"{%d}" % i for i in (*range(5), *range(4))]


async def test_what_has_waited_goes_out_as_one_batch() -> None:
    """The producer has one request under way for a partition: as many batches would wait for one another."""
    producer = MemoryProducer()
    assert await deliver_to(producer, wire_lists(2), wire_lists(6)[3:], wire_lists(1)) == []
    assert producer.attempts == 1
    assert [record.value for record in producer.topics["t"]] == [b"{%d}" % i for i in (0, 1, 3, 4, 5, 0)]


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.FAILED, Fault.UNANSWERED])
async def test_of_a_batch_that_fails_every_list_is_named(fault: Fault) -> None:
    producer = MemoryProducer(lambda record: fault if record.key == b"user-3" else Fault.NONE)
    failures = await deliver_to(producer, wire_lists(2), wire_lists(5)[2:])
    (failure,) = failures
    given = [*wire_lists(2).records(), *wire_lists(5)[2:].records()]
    assert [*failure.lists.records()] == given
    again = MemoryProducer()
    assert await deliver_to(again, failure.lists) == []
    assert [record.key for record in again.topics["t"]] == [user for user, _ in given]


async def test_a_batch_that_is_too_large_goes_in_halves_and_a_list_that_is_too_large_is_named() -> None:
    class Small(MemoryProducer):
        async def send_batch(self, batch, topic, *, partition):  # type: ignore[no-untyped-def]
            if batch.record_count() > 2 or b"{4}" in batch._build():
                answer = asyncio.get_running_loop().create_future()
                answer.set_exception(MessageSizeTooLargeError())
                return answer
            return await super().send_batch(batch, topic, partition=partition)

    producer = Small()
    (failure,) = await deliver_to(producer, wire_lists(7))
    assert isinstance(failure.error, MessageSizeTooLargeError)
    assert [*failure.lists] == [b"{4}"]
    assert sorted(record.value or b"" for record in producer.topics["t"]) == [b"{%d}" % i for i in (0, 1, 2, 3, 5, 6)]


async def test_a_topic_that_cannot_be_asked_for_fails_all_its_lists() -> None:
    class Away(MemoryProducer):
        async def partitions_for(self, topic: str) -> set[int]:
            raise KafkaConnectionError("no broker")

    failures = await deliver_to(Away(), wire_lists(2), wire_lists(1))
    assert [[*failure.lists] for failure in failures] == [[b"{0}", b"{1}"], [b"{0}"]]


async def test_lists_of_a_partition_that_does_not_exist_fail() -> None:
    class Asserting(MemoryProducer):
        async def send_batch(self, batch, topic, *, partition):  # type: ignore[no-untyped-def]
            raise AssertionError("Unrecognized partition")

    (failure,) = await deliver_to(Asserting(), wire_lists(2))
    assert isinstance(failure.error, AssertionError)
