"""The two ways in which interactions are read agree."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from encoders.events import EventType
from encoders.records import Interaction
from streams.decode import PlainInteraction, read_interaction

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


def agree(value: bytes) -> None:
    try:
        expected = Interaction.model_validate_json(value)
    except ValidationError:
        with pytest.raises(ValidationError):
            read_interaction(value)
        return
    found = read_interaction(value)
    assert {name: getattr(found, name) for name in FIELDS} == {name: getattr(expected, name) for name in FIELDS}
    assert [type(getattr(found, name)) for name in FIELDS] == [type(getattr(expected, name)) for name in FIELDS]


@given(records)
@settings(max_examples=400)
@example(VALID | {"catalogue": "a\n"})
def test_records_are_read_as_the_schema_says(record: dict[str, Any]) -> None:
    agree(json.dumps(record).encode())


@pytest.mark.parametrize("value", SPELT)
def test_spellings_are_read_as_the_schema_says(value: bytes) -> None:
    agree(value)


def test_an_ordinary_record_is_read_the_short_way() -> None:
    assert isinstance(read_interaction(json.dumps(VALID).encode()), PlainInteraction)


def test_both_have_the_same_fields() -> None:
    assert set(PlainInteraction.__struct_fields__) == set(FIELDS)
