"""The hash by which Kafka's clients choose a record's partition, compiled, for many keys at a time."""

from __future__ import annotations

from encoders.compiled import Bytes, Int, compiled, read_int


@compiled
def murmur2(data: Bytes, first: Int, end: Int) -> Int:
    """A text's hash in 32 bits, as Kafka's clients work it out (Appleby, MurmurHash2)."""
    low, factor = 0xFFFFFFFF, 0x5BD1E995
    value: Int = 0x9747B28C ^ (end - first)
    at = first
    while at + 4 <= end:
        k = (read_int(data, at, 4) * factor) & low
        k = ((k ^ (k >> 24)) * factor) & low
        value = ((value * factor) & low) ^ k
        at += 4
    if at < end:
        value = ((value ^ read_int(data, at, end - at)) * factor) & low
    value = ((value ^ (value >> 13)) * factor) & low
    return value ^ (value >> 15)
