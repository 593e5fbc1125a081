"""Which partition a user belongs to.

The default partitioner of the Java client, kafka-python, aiokafka and kafkajs: murmur2 of the key,
made positive, modulo the number of partitions.
"""

from __future__ import annotations

from aiokafka.partitioner import murmur2


def partition_of(user_id: str, n_partitions: int) -> int:
    """The partition that owns everything about a user.

    Example:
        >>> partition_of("user-1", 4)
        0
    """
    return int(murmur2(user_id.encode()) & 0x7FFFFFFF) % n_partitions
