"""Which partition a user belongs to.

The default partitioner of the Java client, kafka-python, aiokafka and kafkajs: murmur2 of the key,
made positive, modulo the number of partitions.
"""

from __future__ import annotations

import random
from functools import lru_cache

import numpy as np
from aiokafka.partitioner import murmur2 as murmur2_of

from encoders.compiled import Bytes, Int, IntArray, compiled
from encoders.hashing import murmur2

_REMEMBERED_KEYS = 1 << 16
"""Hashing a key takes fifteen times as long as looking it up, and users come again."""


def partition_of(user_id: str, n_partitions: int) -> int:
    """The partition that owns everything about a user.

    Example:
        >>> partition_of("user-1", 4)
        0
    """
    return _positive_hash(user_id.encode()) % n_partitions


def partition_of_key(key: bytes | None, n_partitions: int) -> int:
    """Where a record with this key goes; without a key, anywhere."""
    return random.randrange(n_partitions) if key is None else _positive_hash(key) % n_partitions


@compiled
def homes(data: Bytes, spans_N2: IntArray, n_partitions: Int) -> IntArray:
    """`partition_of` for many keys, by where they stand in the data. Shape: ``(N, 2)`` to ``(N,)``."""
    home_N = np.empty(len(spans_N2), dtype=np.int64)
    for n in range(len(spans_N2)):
        home_N[n] = (murmur2(data, spans_N2[n, 0], spans_N2[n, 1]) & 0x7FFFFFFF) % n_partitions
    return home_N


@lru_cache(_REMEMBERED_KEYS)
def _positive_hash(key: bytes) -> int:
    return int(murmur2_of(key)) & 0x7FFFFFFF
