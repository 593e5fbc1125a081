"""What leaves a worker, and whether it arrived."""

from __future__ import annotations

import asyncio
from hashlib import sha256

import pytest
from aiokafka.errors import KafkaConnectionError, MessageSizeTooLargeError

from streams.decode import DeadLetter, Misplaced
from streams.output import (
    OutgoingRecord,
    dead_letter_record,
    deliver,
    deliver_batched,
    forwarded_record,
    list_records,
)
from streams.routing import partition_of
from streams.settings import TopicNames
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


def test_a_list_is_keyed_by_its_user_and_carries_the_schema() -> None:
    first, second = list_records(["ü", "v"], [b"{}", b"[]"], "recommendations")
    assert (first.topic, first.key, first.value, first.partition) == ("recommendations", "ü".encode(), b"{}", None)
    assert (second.key, second.value) == (b"v", b"[]")
    assert list(first.headers) == list(second.headers) == [("schema", b"1")]


def test_a_list_without_a_user_is_a_defect() -> None:
    with pytest.raises(ValueError, match="longer"):
        list_records(["u"], [b"{}", b"{}"], "recommendations")


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


# --- whole batches


async def test_records_go_out_in_one_batch_for_each_partition() -> None:
    producer = MemoryProducer()
    producer.n_partitions = 4
    users = [f"user-{i}" for i in range(50)]
    assert await deliver_batched(producer, list_records(users, [b"{}"] * 50, "t")) == []
    assert producer.attempts == 4
    assert {record.key: record.partition for record in producer.topics["t"]} == {
        user.encode(): partition_of(user, 4) for user in users
    }


async def test_within_a_partition_records_keep_their_order() -> None:
    producer = MemoryProducer()
    assert await deliver_batched(producer, outgoing(5)) == []
    assert [record.key for record in producer.topics["t"]] == [record.key for record in outgoing(5)]


async def test_a_full_batch_is_followed_by_another() -> None:
    producer = MemoryProducer()
    producer.room = 2
    assert await deliver_batched(producer, outgoing(5)) == []
    assert producer.attempts == 3
    assert [record.key for record in producer.topics["t"]] == [record.key for record in outgoing(5)]


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.FAILED, Fault.UNANSWERED])
async def test_of_a_batch_that_fails_every_record_is_named(fault: Fault) -> None:
    producer = MemoryProducer(lambda record: fault if record.partition == 1 else Fault.NONE)
    given = [OutgoingRecord("t", b"%d" % i, b"v", (), i % 2) for i in range(6)]
    failures = await deliver_batched(producer, given)
    assert [failure.record for failure in failures] == given[1::2]


async def test_a_batch_that_is_too_large_goes_record_by_record() -> None:
    class Small(MemoryProducer):
        async def send_batch(self, batch, topic, *, partition):  # type: ignore[no-untyped-def]
            answer = asyncio.get_running_loop().create_future()
            answer.set_exception(MessageSizeTooLargeError())
            return answer

    producer = Small()
    assert await deliver_batched(producer, outgoing(3)) == []
    assert producer.topics["t"] == outgoing(3)


async def test_a_topic_that_cannot_be_asked_for_fails_all_its_records() -> None:
    class Away(MemoryProducer):
        async def partitions_for(self, topic: str) -> set[int]:
            raise KafkaConnectionError("no broker")

    failures = await deliver_batched(Away(), outgoing(2))
    assert [failure.record for failure in failures] == outgoing(2)
