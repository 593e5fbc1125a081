"""Routing is the default partitioner of the other clients."""

from __future__ import annotations

import pytest
from aiokafka.partitioner import DefaultPartitioner as AiokafkaPartitioner
from kafka.partitioner.default import murmur2 as kafka_python_murmur2

from streams.routing import partition_of

USERS = ["1", "21", "foobar", "a-little-bit-long-string", "ü", "\U0001f600", "x" * 256, *map(str, range(500))]


@pytest.mark.parametrize(
    ("text", "hashed"),
    [("21", -973932308), ("foobar", -790332482), ("a-little-bit-long-string", -985981536), ("abc", 479470107)],
)
def test_it_is_the_java_clients(text: str, hashed: int) -> None:
    """Hashes from the Java client's own tests, `UtilsTest.testMurmur2`."""
    assert partition_of(text, 1_000_003) == (hashed & 0x7FFFFFFF) % 1_000_003


@pytest.mark.parametrize("n", [1, 2, 3, 8, 50])
def test_it_is_that_of_kafka_python_and_aiokafka(n: int) -> None:
    partitions = list(range(n))
    for user in USERS:
        key = user.encode()
        assert partition_of(user, n) == AiokafkaPartitioner()(key, partitions, partitions)
        assert partition_of(user, n) == (kafka_python_murmur2(key) & 0x7FFFFFFF) % n


def test_users_spread_over_all_partitions() -> None:
    assert {partition_of(user, 8) for user in USERS} == set(range(8))
