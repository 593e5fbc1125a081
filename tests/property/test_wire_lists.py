"""Lists as they are written are those that whoever reads them gets, and those that the session holds."""

from __future__ import annotations

import json
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.compiled import as_bytes
from encoders.records import Recommendation
from streams import packing
from streams.advance import Numbers, advance
from streams.columns import events_of, stored_of
from streams.decode import Limits, decode
from streams.lists import ANN, POPULARITY, Head, Lists, Names, wire_lists
from streams.pipeline import Source
from streams.session import unpack
from streams.texts import texts
from tests.inmemory import NOW_MS, click, record

LARGEST = 9e11
"""A larger score is written as this."""
HALF_A_DECIMAL = 5.01e-7

awkward = st.sampled_from([*'"\\/\x00\x08\t\n\r\x1f\x7f\x80\u2028\ud7ff\uffff', "é", "ü", "\U0001f600", "a", "0"])


def names(longest: int) -> st.SearchStrategy[str]:
    """Ids of any characters, and long ones, which hypothesis alone would seldom draw."""
    long = st.text(awkward, min_size=1, max_size=3).map(lambda text: (longest * text)[:longest])
    return st.text(awkward, min_size=1, max_size=20) | st.text(min_size=1, max_size=longest) | long


class Item(NamedTuple):
    """One entry of a list."""

    item_id: str
    score: float
    source: str


class Made(NamedTuple):
    """One list."""

    partition: int
    offset: int
    event_id: str
    user_id: str
    items: list[Item]


scores = (
    st.floats(width=32, allow_nan=False, allow_infinity=False)
    | st.floats(0, 1)
    | st.floats(-10, 10)
    | st.sampled_from([0.0, -0.0, 5e-7, -5e-7, 1.0, 0.9999995, 0.9999994, -0.1, 1e12, -1e12, 123.456, 9.5, 99.9999999])
)
items = st.builds(Item, names(256), scores, st.sampled_from([ANN, POPULARITY]))
made_lists = st.lists(
    st.builds(
        Made,
        st.integers(0, 2**31 - 1),
        st.integers(0, 2**63 - 1) | st.integers(0, 1000) | st.integers(2**62, 2**63 - 1),
        names(128),
        names(256),
        st.lists(items, max_size=4) | st.lists(items, max_size=3).map(lambda few: 66 * few),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda made: made.user_id,
)
versions = st.none() | names(128).filter(lambda name: len(name.encode()) < 256)


def columns(made: list[Made]) -> tuple[Head, Lists, Names]:
    """The lists as the pipeline has them; each partition comes once."""
    partitions = sorted({each.partition for each in made})
    head = Head(
        as_bytes(b"".join(Source("c", "t", number).place for number in partitions)).reshape(-1, 16),
        np.array(partitions, dtype=np.int64),
        np.array([partitions.index(each.partition) for each in made]),
        np.array([each.offset for each in made], dtype=np.int64),
        texts([each.event_id for each in made]),
        texts([each.user_id for each in made]),
    )
    lists = Lists.empty(len(made), max(1, *(len(each.items) for each in made), 0))
    called: dict[str, list[str]] = {ANN: [], POPULARITY: []}
    for b, each in enumerate(made):
        lists.lengths_B[b] = len(each.items)
        for n, item in enumerate(each.items):
            called[item.source].append(item.item_id)
            number = len(called[item.source])
            lists.items_BN[b, n] = number if item.source == ANN else -number
            lists.scores_BN[b, n] = item.score
    return head, lists, Names(texts(called[ANN]), texts(called[POPULARITY]))


@given(made_lists, versions, st.integers(0, 2**62))
@settings(max_examples=200)
def test_what_is_written_is_what_is_read(made: list[Made], version: str | None, generated_at_ms: int) -> None:
    head, lists, called = columns(made)
    written = wire_lists(head, lists, called, version, generated_at_ms)
    for each, whole in zip(made, written, strict=True):
        read = Recommendation.model_validate_json(whole)
        assert (read.event_id, read.user_id) == (each.event_id, each.user_id)
        assert (read.source_partition, read.source_offset) == (each.partition, each.offset)
        assert read.recommendation_id == Source("c", "t", each.partition).recommendation_id(each.offset)
        assert (read.scenario, read.variant) == ("default", "default")
        assert (read.model_version, read.generated_at_ms) == (version, generated_at_ms)
        assert [(i.item_id, i.source, i.because) for i in read.items] == [(i.item_id, i.source, []) for i in each.items]
        for item, entry in zip(read.items, each.items, strict=True):
            wanted = min(max(entry.score, -LARGEST), LARGEST)
            assert item.score == pytest.approx(wanted, abs=HALF_A_DECIMAL, rel=1e-15)
            assert item.score == pytest.approx(round(wanted, 6), abs=1.01e-6, rel=1e-15)
        by_record = json.loads(read.to_json())
        assert list(json.loads(whole).items()) == list(by_record.items())


@given(made_lists, versions, st.integers(0, 2**62))
@settings(max_examples=200)
def test_the_session_holds_the_list_that_is_written(
    made: list[Made], version: str | None, generated_at_ms: int
) -> None:
    _, lists, called = columns(made)
    records = [record(each.offset, click(each.user_id, "1", each.event_id)) for each in made]
    received = decode(records, partition=0, n_partitions=1, limits=Limits(), now_ms=NOW_MS)
    found = events_of(received.events, None, frozenset())
    stored = stored_of(*[[b""] * len(received.events.keys)] * 2)
    advanced = advance(found, stored, as_bytes(b""), Numbers(2, -1, True, 0, 1, 0))
    no_states = packing.States(as_bytes(b""), np.empty((0, 1), dtype=np.float32), np.empty(0, dtype=np.bool_))
    listed = packing.Made(lists, called, as_bytes((version or "").encode()), generated_at_ms)
    packed = packing.packed_sessions(advanced, stored, found.offset_B, no_states, listed)
    for each, blob in zip(made, packed, strict=True):
        session = unpack(blob)
        assert session.applied_offset == each.offset
        assert session.latest is not None
        assert (session.latest.generated_at_ms, session.latest.model_version) == (generated_at_ms, version)
        assert session.latest.item_ids == [item.item_id for item in each.items]
        assert session.latest.sources == [item.source for item in each.items]
        assert session.latest.scores == [float(np.float32(item.score)) for item in each.items]
