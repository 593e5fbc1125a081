"""Codes and homes of ids, compared with a dictionary and with kafka-python's partitioner."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from kafka.partitioner.default import murmur2

from trainer.ids import Ids, IdTable, home_partitions

texts = st.text(min_size=1, max_size=12)


@given(st.lists(st.lists(texts, max_size=30), max_size=5))
def test_codes_are_those_of_a_dictionary(batches: list[list[str]]) -> None:
    table, known = IdTable(), dict[str, int]()
    for batch in batches:
        assert table.codes(batch).tolist() == [known.setdefault(each, len(known)) for each in batch]
    assert list(table.ids) == list(known)


@given(st.lists(texts, min_size=1, max_size=20), st.integers(1, 64))
def test_a_home_is_where_kafka_clients_send_a_key(users: list[str], n_partitions: int) -> None:
    expected = [(murmur2(user.encode()) & 0x7FFFFFFF) % n_partitions for user in users]
    assert home_partitions(Ids.of(users), n_partitions).tolist() == expected
