"""Lists as record batches: what aiokafka reads of them is what went in."""

from __future__ import annotations

from aiokafka.record.default_records import DefaultRecordBatch
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.lists import WireLists
from streams.record_batch import record_batches
from streams.texts import joined

sizes = st.sampled_from([0, 1, 2, 30, 62, 63, 64, 65, 127, 128, 8_190, 8_200, 1_048_570, 1_048_580])
"""Among them those at which a length takes a byte more."""


@given(st.lists(st.tuples(st.binary(max_size=300), sizes), max_size=200), st.integers(0, 5), st.integers(1, 60_000))
@settings(max_examples=100, deadline=None)
def test_batches_hold_all_lists_in_their_order(records: list[tuple[bytes, int]], first: int, most_bytes: int) -> None:
    values = [b"v" * size for _, size in records]
    lists = WireLists(joined([user for user, _ in records]), joined(values))[first:]
    found = []
    for batch, part in record_batches(lists, 1_700_000_000_000, most_bytes):
        data = batch._build()
        read = DefaultRecordBatch(bytearray(data))
        assert read.validate_crc()
        assert (read.magic, read.compression_type, read.is_transactional) == (2, 0, False)
        assert (read.base_offset, read.first_timestamp) == (0, 1_700_000_000_000)
        members = [*read]
        assert len(members) == len(part) == batch.record_count()
        assert [member.offset for member in members] == [*range(len(members))]
        assert all([*member.headers] == [("schema", b"1")] for member in members)
        assert len(data) == batch.size()
        assert len(data) <= most_bytes or len(members) == 1
        found += [(member.key, member.value) for member in members]
        assert [*part.records()] == found[-len(members) :]
    assert found == [(user, value) for (user, _), value in zip(records, values, strict=True)][first:]


def test_no_lists_are_no_batches() -> None:
    assert record_batches(WireLists(joined([]), joined([])), 0, 100) == []
