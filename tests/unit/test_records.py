"""The wire records: what is accepted, what is refused, what is left out."""

from __future__ import annotations

import json
from typing import Any

import pytest
from pydantic import ValidationError

from encoders.events import EVENT_BY_CODE, EVENT_TRAITS, EventType
from encoders.records import BundleReference, Interaction, Item, ModelUpdate, Recommendation, UserProfile

LEAST: dict[str, Any] = {
    "event_id": "e", "user_id": "u", "item_id": "i", "event_type": "click", "timestamp_ms": 0
}  # fmt: skip


def read(**changes: Any) -> Interaction:
    return Interaction.model_validate_json(json.dumps({**LEAST, **changes}))


def test_the_least_interaction_gets_the_defaults() -> None:
    assert read() == Interaction(event_id="e", user_id="u", item_id="i", event_type=EventType.CLICK, timestamp_ms=0)
    assert read().catalogue == "default"


@pytest.mark.parametrize("name", sorted(LEAST))
def test_no_required_field_may_be_missing(name: str) -> None:
    without = {key: value for key, value in LEAST.items() if key != name}
    with pytest.raises(ValidationError):
        Interaction.model_validate_json(json.dumps(without))


@pytest.mark.parametrize(
    "changes",
    [
        {"user_id": ""},
        {"user_id": "x" * 257},
        {"user_id": 7},
        {"user_id": None},
        {"item_id": ""},
        {"item_id": 7},
        {"item_id": "x" * 257},
        {"event_id": ""},
        {"event_id": "x" * 129},
        {"event_type": "clicks"},
        {"event_type": "CLICK"},
        {"event_type": 2},
        {"event_type": None},
        {"timestamp_ms": -1},
        {"timestamp_ms": "0"},
        {"timestamp_ms": 0.0},
        {"timestamp_ms": True},
        {"timestamp_ms": None},
        {"value": "4"},
        {"position": -1},
        {"context": {"a": [1]}},
        {"context": []},
        {"catalogue": ""},
    ],
    ids=str,
)
def test_a_wrong_value_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        read(**changes)


@pytest.mark.parametrize("catalogue", ["a:b", "a/b", "a\0b"])
def test_a_catalogue_has_no_separator_in_its_name(catalogue: str) -> None:
    """Keys in Redis and Kafka join it to an id with `:` and `/`, the item hash with a zero byte."""
    with pytest.raises(ValidationError):
        read(catalogue=catalogue)
    with pytest.raises(ValidationError):
        Item(item_id="1", catalogue=catalogue)


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400"])
def test_a_value_must_be_finite(number: str) -> None:
    with pytest.raises(ValidationError):
        Interaction.model_validate_json(json.dumps(LEAST)[:-1] + f', "value": {number}}}')


@pytest.mark.parametrize("user_id", ["u" * 256, "ü" * 256, "a b:c/d", "{x}:0", "\U0001f600", " "])
def test_an_id_of_any_text_up_to_256_characters_is_accepted(user_id: str) -> None:
    assert read(user_id=user_id).user_id == user_id


@pytest.mark.parametrize("event_type", EventType)
def test_an_item_is_needed_exactly_where_the_table_says_so(event_type: EventType) -> None:
    if EVENT_TRAITS[event_type].needs_item:
        with pytest.raises(ValidationError, match=f"item_id is required for event_type '{event_type.value}'"):
            read(event_type=event_type.value, item_id=None)
    else:
        assert read(event_type=event_type.value, item_id=None).item_id is None


def test_every_event_type_has_a_code_of_its_own_that_fits_one_byte() -> None:
    assert set(EVENT_TRAITS) == set(EventType)
    assert len(EVENT_BY_CODE) == len(EventType)
    assert all(1 <= code <= 255 for code in EVENT_BY_CODE)


def test_the_codes_are_what_stored_sessions_hold() -> None:
    """A changed code would give stored windows another meaning."""
    names = [EVENT_BY_CODE[code].value for code in sorted(EVENT_BY_CODE)]
    assert names == [
        "view", "click", "cart", "purchase", "rating", "search", "impression", "follow", "skip", "dislike", "cancel",
        "feedback", "request",
    ]  # fmt: skip
    assert sorted(EVENT_BY_CODE) == list(range(1, 14))


def test_what_enters_the_window_has_an_item() -> None:
    assert all(traits.needs_item for traits in EVENT_TRAITS.values() if traits.enters_window)


def test_a_record_cannot_be_changed() -> None:
    with pytest.raises(ValidationError):
        read().user_id = "v"  # type: ignore[misc]


def test_a_field_that_is_not_set_is_left_out() -> None:
    assert json.loads(read().to_json()) == {**LEAST, "catalogue": "default", "context": {}}


def test_an_unknown_value_in_the_context_survives() -> None:
    context = {"none": None, "yes": True, "one": 1, "one.0": 1.0, "text": "1"}
    again = Interaction.model_validate_json(read(context=context).to_json())
    assert [(type(v), v) for v in again.context.values()] == [(type(v), v) for v in context.values()]


def test_an_items_key_is_catalogue_and_id() -> None:
    assert Item(item_id="50/1", catalogue="films").key == b"films/50/1"


@pytest.mark.parametrize("digest", ["", "0" * 63, "0" * 65, "G" * 64, "A" * 64])
def test_a_bundles_hash_is_64_lower_case_hex_digits(digest: str) -> None:
    with pytest.raises(ValidationError):
        BundleReference(version="v", uri="/b", manifest_sha256=digest)


def test_a_recommendation_may_be_empty_and_without_a_model() -> None:
    record = Recommendation(
        recommendation_id="r",
        event_id="e",
        user_id="u",
        source_partition=0,
        source_offset=0,
        generated_at_ms=0,
        items=[],
    )
    assert Recommendation.model_validate_json(record.to_json()) == record
    assert "model_version" not in json.loads(record.to_json())


def test_a_profile_needs_a_user_only() -> None:
    assert UserProfile.model_validate_json(b'{"user_id": "u"}').consent is None


def test_an_update_without_previous_is_the_first() -> None:
    update = ModelUpdate(model="gru", version="v", uri="/b", manifest_sha256="0" * 64)
    assert ModelUpdate.model_validate_json(update.to_json()).previous is None
