"""Lists as Kafka record batches, written in one go: bytes that aiokafka's producer sends as they are.

aiokafka's own builder takes a record at a time, and with it a key, a value and a tuple of Python for each.

References:
    Apache Kafka, "Record Batch", message format version 2.
"""

from __future__ import annotations

import struct

import numpy as np
from crc32c import crc32c

from encoders.compiled import Bytes, Int, IntArray, as_bytes, compiled, copy_bytes
from encoders.records import SCHEMA_VERSION
from streams.lists import WireLists
from streams.texts import Texts

_START = struct.Struct(">qiibI")
"""Base offset, length of what follows, leader epoch, magic, CRC of what follows."""
_REST = struct.Struct(">hiqqqhii")
"""Attributes, last offset's delta, first and last timestamp, producer id, its epoch, base sequence, records."""
_HEAD_BYTES = _START.size + _REST.size
_UNCOUNTED_BYTES = 12
"""Base offset and length."""
_MAGIC, _NONE = 2, -1


def _schema_header() -> bytes:
    """The headers of every record: one, `schema`; lengths as zigzag varints of one byte."""
    name, value = b"schema", b"%d" % SCHEMA_VERSION
    return bytes([2, 2 * len(name)]) + name + bytes([2 * len(value)]) + value


_HEADERS = as_bytes(_schema_header())


class ReadyBatch:
    """A record batch whose bytes are there; stands for aiokafka's `BatchBuilder` where a producer sends it."""

    def __init__(self, data: bytes, n_records: int) -> None:
        self._data, self._n_records = data, n_records

    def append(self, **record: object) -> None:
        """Nothing: there is no room."""

    def close(self) -> None:
        """Nothing: it is closed."""

    def closed(self) -> bool:
        """That nothing can be added."""
        return True

    def size(self) -> int:
        """In bytes."""
        return len(self._data)

    def record_count(self) -> int:
        """How many records there are."""
        return self._n_records

    def _build(self) -> bytes:
        return self._data


def record_batches(lists: WireLists, timestamp_ms: int, most_bytes: int) -> list[tuple[ReadyBatch, WireLists]]:
    """Lists in their order, as batches of at most so many bytes, and what is in each; a single list may be longer."""
    batches, first = [], 0
    while first < len(lists):
        end = int(_fitting(lists.users.ends, lists.values.ends, first, most_bytes))
        part = lists[first:end]
        data = np.empty(_HEAD_BYTES + _records_bytes(part.users.ends, part.values.ends), dtype=np.uint8)
        _write_records(data, part.users, part.values, _HEADERS)
        n, view = end - first, data.data
        _REST.pack_into(view, _START.size, 0, n - 1, timestamp_ms, timestamp_ms, _NONE, _NONE, _NONE, n)
        checksum = crc32c(view[_START.size :])
        _START.pack_into(view, 0, 0, len(data) - _UNCOUNTED_BYTES, _NONE, _MAGIC, checksum)
        batches.append((ReadyBatch(data.tobytes(), n), part))
        first = end
    return batches


@compiled
def _varint_bytes(value: Int) -> Int:
    """How long a number that is not negative is as a zigzag varint."""
    n, rest = 1, value >> 6
    while rest:
        n += 1
        rest >>= 7
    return n


@compiled
def _write_varint(into: Bytes, at: Int, value: Int) -> Int:
    rest = value << 1
    while rest > 127:
        into[at] = (rest & 127) | 128
        rest >>= 7
        at += 1
    into[at] = rest
    return at + 1


@compiled
def _body_bytes(user_bytes: Int, value_bytes: Int, delta: Int) -> Int:
    """A record without its length; its headers take ten bytes."""
    lengths = _varint_bytes(delta) + _varint_bytes(user_bytes) + _varint_bytes(value_bytes)
    return 2 + lengths + user_bytes + value_bytes + len(_HEADERS)


@compiled
def _fitting(user_ends: IntArray, value_ends: IntArray, first: int, most_bytes: int) -> Int:
    """The end of as many lists from ``first`` on as a batch may hold; one at least."""
    total, end = _HEAD_BYTES, first
    while end < len(value_ends) - 1:
        body = _body_bytes(user_ends[end + 1] - user_ends[end], value_ends[end + 1] - value_ends[end], end - first)
        total += body + _varint_bytes(body)
        if total > most_bytes and end > first:
            break
        end += 1
    return end


@compiled
def _records_bytes(user_ends: IntArray, value_ends: IntArray) -> Int:
    total = 0
    for n in range(len(value_ends) - 1):
        body = _body_bytes(user_ends[n + 1] - user_ends[n], value_ends[n + 1] - value_ends[n], n)
        total += body + _varint_bytes(body)
    return total


@compiled
def _write_records(into: Bytes, users: Texts, values: Texts, headers: Bytes) -> None:
    """All records, behind the batch's head."""
    at = _HEAD_BYTES
    for n in range(len(values.ends) - 1):
        user_bytes, value_bytes = users.ends[n + 1] - users.ends[n], values.ends[n + 1] - values.ends[n]
        at = _write_varint(into, at, _body_bytes(user_bytes, value_bytes, n))
        into[at], into[at + 1] = 0, 0  # attributes, and as late as the batch's first
        at = _write_varint(into, at + 2, n)
        at = _write_varint(into, at, user_bytes)
        at = copy_bytes(into, at, users.data, users.ends[n], user_bytes)
        at = _write_varint(into, at, value_bytes)
        at = copy_bytes(into, at, values.data, values.ends[n], value_bytes)
        at = copy_bytes(into, at, headers, 0, len(headers))
