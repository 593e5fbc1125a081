"""Interactions are read alike a batch at a time and one by one."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, NamedTuple, Self

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from encoders.events import EVENT_TRAITS, EventType
from encoders.records import Interaction
from streams.columns import Received
from streams.decode import DeadLetter, Limits, Misplaced, decode, decode_one
from streams.parsing import read_fields
from streams.routing import homes, partition_of
from streams.session import SessionKey
from streams.texts import cut, distinct, joined
from tests.inmemory import NOW_MS, Record

LIMITS = Limits(max_record_bytes=2_000)
HEADERS = [(), (("schema", b"1"),), (("trace", b"x"),), (("schema", b"2"),), (("trace", b"x" * 1_900),)]
FIELDS = list(Interaction.model_fields)
VALID: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "i", "event_type": "click", "timestamp_ms": 1}
numbers = st.integers(-(2**70), 2**70) | st.floats() | st.sampled_from([0, 1, 1.0, -0.0, 1e300, 2**63, 2**64])
texts = st.text(max_size=3) | st.sampled_from(["a" * 128, "a" * 129, "a" * 256, "a" * 257, "a:b", "a/b", "a\n", "\0"])
scalars = st.none() | st.booleans() | numbers | texts
values = scalars | st.sampled_from(list(EventType)) | st.lists(scalars, max_size=2) | st.dictionaries(texts, scalars)
records = st.dictionaries(st.sampled_from([*FIELDS, "other"]), values, max_size=4).map(lambda given: VALID | given)
SPELT = [
    b'{"event_id":"e","user_id":"u","item_id":"i","event_type":"click","timestamp_ms":%s}' % number
    for number in (
        b"1",
        b"1.0",
        b"1e0",
        b"01",
        b"-0",
        b"1.5",
        b"99999999999999999999",
        b"true",
        b'"1"',
        b"NaN",
        b"1e999",
    )
]
SPELT += [
    b'{"event_id":"e","user_id":"u","item_id":"i","event_type":"click","timestamp_ms":1,"value":%s}' % number
    for number in (b"1", b"1.0", b"1e999", b"-1e999", b"NaN", b"Infinity", b"null", b"1.", b".5", b"9" * 400)
]
SPELT += [
    b'{"event_id":"%s","user_id":"u","item_id":"i","event_type":"click","timestamp_ms":1}' % text
    for text in (b"\\ud800", b"\\ud83d\\ude00", b"\t", b"\\u0000", b"\\x", b"\xff", b"\xc3\xbc", b"")
]
SPELT += [
    b'{"event_id":"a","event_id":"e","user_id":"u","item_id":"i","event_type":"click","timestamp_ms":1}',
    b'{"event_id":"e","user_id":"u","item_id":"i","event_type":"request","timestamp_ms":1,"item_id":null}',
    b'{"event_id":"e","user_id":"u","event_type":"click","timestamp_ms":1}',
    b'{"event_id":"e","user_id":"u","event_type":"request","timestamp_ms":1} ',
    b'{"event_id":"e","user_id":"u","event_type":"request","timestamp_ms":1}}',
    b'{"event_id":"e","user_id":"u","event_type":"request","timestamp_ms":1,}',
    b'{"event_id":"e","user_id":"u","event_type":"request","timestamp_ms":1,"x":"\xff"}',
    b'{"event_id":"e","user_id":"u","event_type":"request","timestamp_ms":1,"x":"\\ud800"}',
    b'{"event_id":"e","user_id":"u","event_type":"Request","timestamp_ms":1}',
    b"[]",
    b"",
    b"null",
    b"\xef\xbb\xbf{}",
]


class Read(NamedTuple):
    """What the pipeline needs of an event."""

    offset: int
    event_id: bytes
    user_id: bytes
    key: SessionKey
    item: tuple[str, str] | None
    type_code: int
    timestamp_ms: int

    @classmethod
    def of(cls, offset: int, interaction: Interaction) -> Self:
        return cls(
            offset,
            interaction.event_id.encode(),
            interaction.user_id.encode(),
            SessionKey(interaction.catalogue, interaction.user_id),
            None if interaction.item_id is None else (interaction.catalogue, interaction.item_id),
            EVENT_TRAITS[interaction.event_type].code,
            interaction.timestamp_ms,
        )


def read(received: Received) -> list[Read]:
    columns = (
        received.offset_B.tolist(),
        cut(*received.event_ids),
        cut(*received.user_ids),
        [received.keys[n] for n in received.session_B.tolist()],
        [received.items[n] if n >= 0 else None for n in received.item_B.tolist()],
        received.type_B.tolist(),
        received.timestamp_ms_B.tolist(),
    )
    return [Read(*each) for each in zip(*columns, strict=True)]


def agree(values: Sequence[bytes], n_partitions: int = 1) -> None:
    """A batch is sorted out as its records are one by one."""
    records = [Record(offset, value, b"u", HEADERS[offset % len(HEADERS)]) for offset, value in enumerate(values)]
    found = decode(records, partition=0, n_partitions=n_partitions, limits=LIMITS, now_ms=NOW_MS)
    expected: dict[type, list[Any]] = {Interaction: [], DeadLetter: [], Misplaced: []}
    for record in records:
        outcome = decode_one(record, 0, n_partitions, LIMITS, NOW_MS)
        is_event = isinstance(outcome, Interaction)
        expected[type(outcome)].append(Read.of(record.offset, outcome) if is_event else outcome)
    assert read(found.events) == expected[Interaction]
    assert found.dead == expected[DeadLetter]
    assert found.misplaced == expected[Misplaced]
    keys, items = found.events.keys, found.events.items
    assert (len(set(keys)), len(set(items))) == (len(keys), len(items))


def is_plain(value: bytes) -> bool:
    whole = joined([value])
    return bool(read_fields(*whole).is_plain_R[0])


@given(st.lists(records, max_size=6), st.sampled_from([None, (",", ":"), (" ,\n", "\t: ")]), st.booleans())
@settings(max_examples=400)
@example([VALID | {"catalogue": "a\n"}], None, True)
def test_records_are_read_as_the_schema_says(
    given_records: list[dict[str, Any]], separators: tuple[str, str] | None, escaped: bool
) -> None:
    agree(
        [
            json.dumps(each, separators=separators, ensure_ascii=escaped).encode(errors="surrogatepass")
            for each in given_records
        ],
        2,
    )


@given(records, st.data())
@settings(max_examples=400)
def test_a_record_with_a_byte_that_is_wrong_is_read_as_the_schema_says(
    record: dict[str, Any], data: st.DataObject
) -> None:
    value = bytearray(json.dumps(record).encode(errors="surrogatepass"))
    place = data.draw(st.integers(0, len(value) - 1))
    value[place : place + data.draw(st.integers(0, 2))] = data.draw(st.binary(max_size=2))
    agree([bytes(value)])


@pytest.mark.parametrize("value", SPELT)
def test_spellings_are_read_as_the_schema_says(value: bytes) -> None:
    agree([value])


@given(st.binary(min_size=1, max_size=5))
@settings(max_examples=1000)
@example(b"\xed\x9f\xbf\xf4\x8f")
@example(b"\xed\xa0\x80")
@example(b"\xf4\x8f\xbf\xbf")
@example(b"\xf4\x90\x80\x80")
@example(b"\xc1\xbf")
@example(b"\xe0\x9f\xbf")
@example(b"\xf0\x8f\xbf\xbf")
@example(b"\xe2\x82")
def test_text_is_plain_where_it_is_utf8_without_escapes(text: bytes) -> None:
    try:
        text.decode()
        expected = not any(byte < 32 or byte in b'"\\' for byte in text)
    except UnicodeDecodeError:
        expected = False
    assert is_plain(json.dumps(VALID | {"user_id": "?"}).encode().replace(b"?", text)) == expected


ESCAPES = [rb"\n", rb"\"", rb"\/", rb"\u00fc", rb"\uD7FF", rb"\ue000"]
NO_ESCAPES = [rb"\x", rb"\u12", rb"\u12g4", rb"\ud800", rb"\udfff", rb"\ud83d\ude00", b"\\"]


@pytest.mark.parametrize("text", ESCAPES + NO_ESCAPES)
def test_escapes_are_plain_where_the_text_is_not_kept(text: bytes) -> None:
    """Half a surrogate pair is no text, and whole pairs are for pydantic to tell."""
    for changes in ({"query": "?"}, {"context": {"?": 1}}, {"context": {"a": "?"}}, {"unknown": "?"}):
        value = json.dumps(VALID | changes).encode().replace(b"?", text)
        assert is_plain(value) == (text in ESCAPES)
        agree([value])
    value = json.dumps(VALID | {"item_id": "?"}).encode().replace(b"?", text)
    assert not is_plain(value)
    agree([value])


@pytest.mark.parametrize(
    "more",
    [
        {},
        {"scene": "home", "session_id": "s", "value": -0.5, "query": "", "recommendation_id": "r", "position": 0},
        {"scene": None, "session_id": None, "value": None, "query": None, "recommendation_id": None, "position": None},
        {"context": {}},
        {"context": {"device": "phone", "hour": 23, "temperature": -1.25, "is_new": True, "was": False, "city": None}},
        {"user_id": "Jürgen", "item_id": "電影", "catalogue": "películas"},
        {"query": '電影 "2046"', "scene": "Zürich", "context": {"Größe": "\n"}},
        {"unknown": "text", "more": 17},
        *({"event_type": kind.value} for kind in EventType),
    ],
    ids=str,
)
def test_what_producers_send_is_read_the_short_way(more: dict[str, Any]) -> None:
    for escaped in (True, False) if "user_id" not in more else (False,):
        value = json.dumps(VALID | more, ensure_ascii=escaped).encode()
        assert is_plain(value)
        agree([value, value])


@given(st.lists(st.binary(max_size=9) | st.sampled_from([b"a", b"b"]), max_size=40), st.integers(1, 3))
def test_texts_are_numbered_as_they_come_up(given_texts: list[bytes], n_groups: int) -> None:
    whole = joined(given_texts)
    spans = np.stack([whole.ends[:-1], whole.ends[1:]], axis=1)
    groups = np.arange(len(given_texts)) % n_groups
    number_of: dict[tuple[int, bytes], int] = {}
    expected = [
        number_of.setdefault((group, text), len(number_of)) if text else -1
        for group, text in zip(groups.tolist(), given_texts, strict=True)
    ]
    numbers, first = distinct(whole.data, spans, groups)
    assert numbers.tolist() == expected
    assert [(int(groups[n]), given_texts[n]) for n in first] == list(number_of)


@given(st.lists(st.text(min_size=1, max_size=40), max_size=20), st.integers(1, 1000))
def test_a_key_is_at_home_where_every_client_sends_it(keys: list[str], n_partitions: int) -> None:
    whole = joined([key.encode() for key in keys])
    spans = np.stack([whole.ends[:-1], whole.ends[1:]], axis=1)
    assert homes(whole.data, spans, n_partitions).tolist() == [partition_of(key, n_partitions) for key in keys]
