"""Records survive the wire, whatever they hold."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from encoders.events import EVENT_TRAITS, EventType
from encoders.records import (
    BundleReference,
    Interaction,
    Item,
    ModelUpdate,
    Recommendation,
    RecommendedItem,
    Record,
    UserProfile,
)
from streams.decode import Limits, decode
from tests.inmemory import NOW_MS
from tests.inmemory import Record as Consumed

names = st.text(min_size=1, max_size=128)
ids = st.text(min_size=1, max_size=256)
catalogues = st.text(st.characters(exclude_characters=":/\0", exclude_categories=["Cs"]), min_size=1, max_size=128)
numbers = st.floats(allow_nan=False, allow_infinity=False)
flat = st.dictionaries(st.text(), st.none() | st.booleans() | st.integers() | numbers | st.text(), max_size=4)
times = st.integers(0, 2**63)
texts = st.lists(st.text(), max_size=3)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


@st.composite
def interactions(draw: st.DrawFn) -> Interaction:
    kind = draw(st.sampled_from(EventType))
    return Interaction(
        event_id=draw(names),
        user_id=draw(ids),
        item_id=draw(ids if EVENT_TRAITS[kind].needs_item else maybe(ids)),
        event_type=kind,
        timestamp_ms=draw(times),
        catalogue=draw(catalogues),
        scene=draw(maybe(names)),
        session_id=draw(maybe(names)),
        value=draw(maybe(numbers)),
        query=draw(maybe(st.text())),
        recommendation_id=draw(maybe(names)),
        position=draw(maybe(times)),
        context=draw(flat),
    )


references = st.builds(
    BundleReference, version=names, uri=st.text(), manifest_sha256=st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
)
listed = st.builds(RecommendedItem, item_id=ids, score=numbers, source=st.text(), because=texts)
RECORDS: dict[str, st.SearchStrategy[Record]] = {
    "interaction": interactions(),
    "item": st.builds(
        Item,
        item_id=ids,
        catalogue=catalogues,
        title=maybe(st.text()),
        categories=texts,
        tags=texts,
        text=maybe(st.text()),
        price=maybe(numbers),
        brand=maybe(st.text()),
        stock=maybe(st.integers()),
        available=st.booleans(),
        published_ms=maybe(times),
        attributes=flat,
        embeddings=st.dictionaries(st.text(), st.lists(numbers, max_size=4), max_size=2),
    ),
    "user": st.builds(UserProfile, user_id=ids, attributes=flat, interests=texts, consent=maybe(st.booleans())),
    "recommendation": st.builds(
        Recommendation,
        recommendation_id=names,
        event_id=names,
        user_id=ids,
        source_partition=times,
        source_offset=times,
        scenario=st.text(),
        variant=st.text(),
        model_version=maybe(st.text()),
        generated_at_ms=times,
        items=st.lists(listed, max_size=3),
    ),
    "model-update": st.builds(
        lambda update, model, metrics, previous: ModelUpdate(
            **update.model_dump(), model=model, metrics=metrics, previous=previous
        ),
        references,
        names,
        st.dictionaries(st.text(), numbers, max_size=3),
        maybe(references),
    ),
}


@pytest.mark.parametrize("name", RECORDS)
@given(data=st.data())
def test_what_is_written_reads_back(name: str, data: st.DataObject) -> None:
    record = data.draw(RECORDS[name])
    wire = record.to_json()
    again = type(record).model_validate_json(wire)
    assert again == record
    assert repr(again) == repr(record)
    assert again.to_json() == wire


@given(interactions())
def test_a_valid_interaction_on_the_wire_is_an_event_or_too_far_ahead(interaction: Interaction) -> None:
    given_records = [Consumed(0, interaction.to_json())]
    outcome = decode(given_records, partition=0, n_partitions=1, limits=Limits(), now_ms=NOW_MS)
    if interaction.timestamp_ms <= NOW_MS + 86_400_000:
        assert outcome.events.keys == [(interaction.catalogue, interaction.user_id)]
        assert outcome.events.items == [(interaction.catalogue, interaction.item_id)][: interaction.item_id is not None]
        assert outcome.events.timestamp_ms_B.tolist() == [interaction.timestamp_ms]
    else:
        assert [dead.reason for dead in outcome.dead] == ["timestamp"]


@given(st.binary(max_size=300) | st.text().map(str.encode))
def test_no_bytes_make_decoding_raise(value: bytes) -> None:
    outcome = decode([Consumed(0, value)], partition=0, n_partitions=1, limits=Limits(), now_ms=NOW_MS)
    assert len(outcome.dead) == 1


@given(interactions(), st.data())
def test_a_damaged_interaction_is_an_event_or_dead_with_a_short_detail(
    interaction: Interaction, data: st.DataObject
) -> None:
    value = bytearray(interaction.to_json())
    for _ in range(data.draw(st.integers(1, 3))):
        value[data.draw(st.integers(0, len(value) - 1))] = data.draw(st.integers(0, 255))
    outcome = decode([Consumed(0, bytes(value))], partition=0, n_partitions=1, limits=Limits(), now_ms=NOW_MS)
    assert len(outcome.events) + len(outcome.dead) == 1
    for dead in outcome.dead:
        assert dead.detail.encode()
        assert len(dead.detail) <= 500
