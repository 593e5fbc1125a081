"""Decoding: every kind of bad record gets its reason, and nothing raises."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest

from streams.decode import Decoded, Limits, decode
from streams.routing import partition_of
from streams.session import SessionKey
from tests.inmemory import NOW_MS, Record, click, record, records, users_of

LEAST: dict[str, Any] = {
    "event_id": "e", "user_id": "u", "item_id": "i", "event_type": "click", "timestamp_ms": NOW_MS
}  # fmt: skip


def decoded(*given: Record, partition: int = 0, n_partitions: int = 1, limits: Limits | None = None) -> Decoded:
    return decode(given, partition=partition, n_partitions=n_partitions, limits=limits or Limits(), now_ms=NOW_MS)


def of(value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> Decoded:
    return decoded(Record(3, value, b"u", headers))


def wire(**changes: Any) -> bytes:
    return json.dumps({**LEAST, **changes}).encode()


def reason(value: bytes | None, headers: tuple[tuple[str, bytes | None], ...] = ()) -> str:
    outcome = of(value, headers)
    assert not outcome.events
    assert not outcome.misplaced
    (dead,) = outcome.dead
    assert dead.record.offset == 3
    return dead.reason


BAD: dict[str, tuple[bytes | None, str]] = {
    "no value": (None, "empty"),
    "an empty value": (b"", "empty"),
    "not JSON": (b"hello", "not-json"),
    "half of JSON": (wire()[:-1], "not-json"),
    "two JSON values": (wire() + wire(), "not-json"),
    "a byte order mark": (b"\xef\xbb\xbf" + wire(), "not-json"),
    "UTF-16": (wire().decode().encode("utf-16"), "not-utf8"),
    "Latin-1": (json.dumps({**LEAST, "user_id": "ü"}, ensure_ascii=False).encode("latin-1"), "not-utf8"),
    "half a surrogate pair": (wire().replace(b'"u"', b'"\\ud800"'), "not-json"),
    "brackets without end": (b"[" * 200_000, "not-json"),
    "a number without end": (wire().replace(str(NOW_MS).encode(), b"9" * 200_000), "not-json"),
    "null": (b"null", "invalid"),
    "a list": (b"[]", "invalid"),
    "an empty object": (b"{}", "invalid"),
    "a missing user": (json.dumps({k: v for k, v in LEAST.items() if k != "user_id"}).encode(), "invalid"),
    "an empty user": (wire(user_id=""), "invalid"),
    "a user id of 10 KB": (wire(user_id="x" * 10_240), "invalid"),
    "a number for a user": (wire(user_id=7), "invalid"),
    "an unknown type": (wire(event_type="teleport"), "invalid"),
    "no item": (wire(item_id=None), "invalid"),
    "a catalogue with a separator": (wire(catalogue="a:b"), "invalid"),
    "a negative time": (wire(timestamp_ms=-1), "timestamp"),
    "text for a time": (wire(timestamp_ms="now"), "timestamp"),
    "seconds with a fraction": (wire(timestamp_ms=1.5), "timestamp"),
    "a time of 4,000 digits": (wire().replace(str(NOW_MS).encode(), b"9" * 4000), "timestamp"),
    "a time and more wrong": (wire(timestamp_ms=-1, user_id=""), "invalid"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_a_bad_record_is_dead_with_its_reason(name: str) -> None:
    value, expected = BAD[name]
    assert reason(value) == expected


def test_headers_and_key_count_so_that_every_valid_record_can_be_forwarded() -> None:
    assert reason(wire(), (("trace", b"x" * 1_010_000),)) == "too-large"
    assert decoded(Record(0, wire(), b"k" * 1_010_000)).dead[0].reason == "too-large"


def test_a_missing_time_is_a_missing_field() -> None:
    assert reason(wire().replace(b"timestamp_ms", b"time")) == "invalid"


def test_a_valid_record_is_an_event_in_its_place() -> None:
    outcome = of(wire(unknown={"a": [1]}))
    assert (outcome.events.offset_B.tolist(), outcome.events.keys) == ([3], [SessionKey("default", "u")])
    assert not outcome.dead


@pytest.mark.parametrize("timestamp_ms", [0, NOW_MS, NOW_MS + 86_400_000])
def test_a_time_up_to_24_hours_ahead_is_valid(timestamp_ms: int) -> None:
    assert of(wire(timestamp_ms=timestamp_ms)).events


def test_a_time_a_millisecond_further_ahead_is_not() -> None:
    assert reason(wire(timestamp_ms=NOW_MS + 86_400_001)) == "timestamp"


def test_how_far_ahead_can_be_configured() -> None:
    limits = Limits(max_future=timedelta(milliseconds=1500))
    given = [Record(offset, wire(timestamp_ms=NOW_MS + ahead)) for offset, ahead in enumerate((1500, 1501))]
    outcome = decoded(*given, limits=limits)
    assert (outcome.events.offset_B.tolist(), [d.record.offset for d in outcome.dead]) == ([0], [1])


def test_the_largest_record_is_read_and_one_byte_more_is_not() -> None:
    limits = Limits(max_record_bytes=len(wire()))
    assert decoded(Record(0, wire()), limits=limits).events
    assert decoded(Record(0, wire() + b" "), limits=limits).dead[0].reason == "too-large"


@pytest.mark.parametrize("headers", [(), (("schema", b"1"),), (("trace", b"12"),)], ids=str)
@pytest.mark.parametrize("value_bytes", [150, 198, 199, 200, 201, 399])
def test_a_record_is_as_large_as_its_value_its_key_and_its_headers(
    value_bytes: int, headers: tuple[tuple[str, bytes], ...]
) -> None:
    limits, value = Limits(max_record_bytes=400), wire().ljust(value_bytes)
    for key_bytes in range(401):
        size = value_bytes + key_bytes + sum(len(name) + len(held) for name, held in headers)
        outcome = decoded(Record(0, value, b"k" * key_bytes, headers), limits=limits)
        assert [dead.reason for dead in outcome.dead] == (["too-large"] if size > 400 else [])
        assert len(outcome.events) == (size <= 400)


def test_a_record_of_the_brokers_maximal_size_is_dead_before_it_is_parsed() -> None:
    assert reason(b"[" * 1_048_576) == "too-large"


@pytest.mark.parametrize("headers", [(), (("schema", b"1"),), (("trace", b"\xff"), ("schema", b"1"))])
def test_schema_one_is_read_and_so_is_a_record_without_the_header(headers: tuple[tuple[str, bytes], ...]) -> None:
    assert of(wire(), headers).events


@pytest.mark.parametrize("version", [b"2", b"", b"01", b"one", None, b"x" * 5000])
def test_another_schema_is_dead(version: bytes | None) -> None:
    """A header's value may be null in Kafka."""
    assert reason(wire(), (("schema", version),)) == "schema"


def test_the_detail_is_short_and_tells_no_content() -> None:
    secret = "4111-1111"
    for changes in ({"user_id": [secret]}, {"event_type": secret}, {"context": {"a": [secret]}}, {"value": secret}):
        (dead,) = of(wire(**changes)).dead
        assert secret not in dead.detail
        assert dead.detail
    (dead,) = of(wire(context={f"{secret}{i}" * 20: [] for i in range(50)})).dead
    assert len(dead.detail) <= 500


def test_the_detail_names_the_field() -> None:
    assert of(wire(user_id="")).dead[0].detail.startswith("user_id: ")


def test_the_detail_names_the_key_of_the_context() -> None:
    assert of(wire(context={"device": "phone", "place": [1]})).dead[0].detail.startswith("context.place: ")


def test_a_record_outside_its_users_partition_is_misplaced_wherever_its_key_points() -> None:
    (user,) = users_of(2, 4, 1)
    given = record(9, click(user))
    outcome = decoded(given, partition=1, n_partitions=4)
    assert [(m.record, m.user_id, m.partition) for m in outcome.misplaced] == [(given, user, 2)]
    assert not outcome.events


def test_a_record_without_a_key_in_the_right_partition_is_an_event() -> None:
    (user,) = users_of(2, 4, 1)
    given = Record(9, click(user).to_json(), None)
    assert decoded(given, partition=2, n_partitions=4).events


def test_the_order_of_offsets_is_kept_in_each_list() -> None:
    users = [users_of(p, 2, 1)[0] for p in (0, 1)]
    given = [record(i, click(users[i % 2], str(i))) if i % 3 else Record(i, b"bad") for i in range(12)]
    outcome = decoded(*given, n_partitions=2)
    assert outcome.events.offset_B.tolist() == [2, 4, 8, 10]
    assert [m.record.offset for m in outcome.misplaced] == [1, 5, 7, 11]
    assert [d.record.offset for d in outcome.dead] == [0, 3, 6, 9]


def test_every_record_ends_in_exactly_one_list() -> None:
    given = [Record(i, value) for i, (value, _) in enumerate(BAD.values())] + records([click()], 100)
    outcome = decoded(*given)
    assert len(outcome.events) + len(outcome.dead) + len(outcome.misplaced) == len(given)


def test_dead_wins_over_misplaced() -> None:
    (user,) = users_of(1, 2, 1)
    outcome = decoded(Record(0, wire(user_id=user, timestamp_ms=2 * NOW_MS)), n_partitions=2)
    assert (len(outcome.dead), len(outcome.misplaced)) == (1, 0)
    assert partition_of(user, 2) == 1
