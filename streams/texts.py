"""Many texts in UTF-8 as arrays, so that a batch of them costs no object each.

Shape letters: ``N`` texts. A span is where a text begins and ends in the data, ``(…, 2)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from encoders.compiled import Bytes, Int, IntArray, as_bytes, compiled, copy_bytes
from encoders.hashing import murmur2


class Texts(NamedTuple):
    """Many texts in UTF-8, one after the other."""

    data: Bytes
    ends: IntArray
    """Where each begins, and at the end where the last one ends. Shape: ``(n + 1,)``."""


def chained(parts: Sequence[Texts]) -> Texts:
    """Several arrays of texts as one."""
    data = b"".join([part.data[part.ends[0] : part.ends[-1]].tobytes() for part in parts])
    lengths = np.concatenate([np.diff(part.ends) for part in parts])
    return Texts(as_bytes(data), ends_of(lengths))


def joined(parts: Sequence[bytes]) -> Texts:
    """Texts in UTF-8 as one array."""
    return Texts(as_bytes(b"".join(parts)), ends_of([len(part) for part in parts]))


def ends_of(lengths: Sequence[int] | IntArray) -> IntArray:
    """Where parts of these lengths begin that lie one after the other, and where the last one ends."""
    ends = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.asarray(lengths, dtype=np.int64).cumsum(out=ends[1:])
    return ends


def texts(strings: list[str]) -> Texts:
    """Strings as one array of bytes."""
    whole = "".join(strings)
    encoded = whole.encode()
    lengths = list(map(len, strings if len(encoded) == len(whole) else map(str.encode, strings)))
    return Texts(as_bytes(encoded), ends_of(lengths))


def cut(data: Bytes, places: IntArray) -> list[bytes]:
    """Bytes between places that follow one another."""
    whole, cuts = data[places[0] : places[-1]].tobytes(), (places - places[0]).tolist()
    return [whole[start:end] for start, end in pairwise(cuts)]


def texts_at(whole: bytes, spans_N2: IntArray) -> list[str]:
    """Texts as Python has them. Shape: ``(N, 2)`` to ``N`` of them."""
    spans = spans_N2.tolist()
    if whole.isascii():
        text = whole.decode()
        return [text[first:end] for first, end in spans]
    return [whole[first:end].decode() for first, end in spans]


def gathered(data: Bytes, spans_N2: IntArray) -> Texts:
    """Texts from wherever they lie, one after the other."""
    found = _gather(data, spans_N2)
    found.data.flags.writeable = False  # as of all texts: to Numba, one that may be written to is of another type
    return found


@compiled
def _gather(data: Bytes, spans_N2: IntArray) -> Texts:
    ends = np.zeros(len(spans_N2) + 1, dtype=np.int64)
    for n in range(len(spans_N2)):
        ends[n + 1] = ends[n] + spans_N2[n, 1] - spans_N2[n, 0]
    out = np.empty(ends[-1], dtype=np.uint8)
    for n in range(len(spans_N2)):
        copy_bytes(out, ends[n], data, spans_N2[n, 0], spans_N2[n, 1] - spans_N2[n, 0])
    return Texts(out, ends)


@compiled
def distinct(data: Bytes, spans_N2: IntArray, group_N: IntArray) -> tuple[IntArray, IntArray]:
    """Number texts in the order in which they come up; the same text in another group is another one.

    Returns:
        The number of each, -1 of an empty text, and of each number where its text came first.

    Shape:
        - spans_N2: ``(N, 2)``
        - group_N: ``(N,)``
        - Output: ``(N,)`` and ``(numbers,)``
    """
    n_slots = 4
    while n_slots < 2 * len(spans_N2):
        n_slots *= 2
    slots, number_N = np.full(n_slots, -1, dtype=np.int64), np.full(len(spans_N2), -1, dtype=np.int64)
    first, n_found = np.empty(len(spans_N2), dtype=np.int64), 0
    for n in range(len(spans_N2)):
        start, length = spans_N2[n, 0], spans_N2[n, 1] - spans_N2[n, 0]
        slot = (murmur2(data, start, start + length) ^ group_N[n]) & (n_slots - 1)
        while length > 0 and number_N[n] < 0:
            number = slots[slot]
            if number < 0:
                slots[slot], first[n_found] = n_found, n
                number_N[n] = n_found
                n_found += 1
            else:
                other = first[number]
                if (
                    group_N[other] == group_N[n]
                    and spans_N2[other, 1] - spans_N2[other, 0] == length
                    and _same(data, start, data, spans_N2[other, 0], length)
                ):
                    number_N[n] = number
            slot = (slot + 1) & (n_slots - 1)
    return number_N, first[:n_found].copy()


@compiled
def place_of(data: Bytes, first: Int, end: Int, of: Texts) -> Int:
    """Which of some texts this is; -1 if it is none of them."""
    for n in range(len(of.ends) - 1):
        if of.ends[n + 1] - of.ends[n] == end - first and _same(data, first, of.data, of.ends[n], end - first):
            return n
    return -1


@compiled
def _same(one: Bytes, at: Int, other: Bytes, start: Int, n: Int) -> bool:
    for i in range(n):  # noqa: SIM110  # Numba does not compile generators
        if one[at + i] != other[start + i]:
            return False
    return True
