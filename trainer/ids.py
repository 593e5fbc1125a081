"""Ids of users and items as codes 0, 1, … in the order of their first appearance, without an object for each.

A table is three arrays: the ids' UTF-8 one after the other, where each begins, and slots in which a code is found by
the hash of its id. Ten million ids of ten bytes take some 300 MB while ids are being added, and 180 MB otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any, TypeVar, overload

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, Int, compiled
from encoders.hashing import murmur2
from encoders.protocols import IntArray

Codes = npt.NDArray[np.int32]
Hashes = npt.NDArray[np.uint64]

AnyCodes = npt.NDArray[np.int32] | npt.NDArray[np.int64]

A = TypeVar("A", bound=npt.NDArray[Any])

MOST_IDS = 2**31 - 2
"""Codes are kept in four bytes."""
_LEAST_ROOM = 1 << 10
_FNV_START, _FNV_PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIXER, _SHIFT = np.uint64(0xFF51AFD7ED558CCD), np.uint64(33)


class Ids(Sequence[str]):
    """Ids in the order of their codes; a `str` is made when one is asked for.

    Args:
        text: The ids' UTF-8, one after the other.
        offsets: Where each begins, and at the end where the last one ends.

    Shape:
        - offsets: ``(n_ids + 1,)``
    """

    def __init__(self, text: Bytes, offsets: IntArray) -> None:
        self.text, self.offsets = text, offsets

    @classmethod
    def of(cls, ids: Iterable[str]) -> Ids:
        """The given ids in their order."""
        encoded = [each.encode() for each in ids]
        offsets = np.zeros(len(encoded) + 1, dtype=np.int64)
        np.cumsum([len(each) for each in encoded], out=offsets[1:])
        return cls(np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> list[str]: ...
    def __getitem__(self, place: int | slice) -> str | list[str]:
        if isinstance(place, slice):
            return [self[code] for code in range(*place.indices(len(self)))]
        code = range(len(self))[place]
        return self.text[self.offsets[code] : self.offsets[code + 1]].tobytes().decode()

    def __iter__(self) -> Iterator[str]:
        text, places = self.text.tobytes(), np.ascontiguousarray(self.offsets).data
        return (text[start:end].decode() for start, end in pairwise(places))

    def take(self, codes: Codes) -> Ids:
        """The ids of the given codes, in that order. Shape: ``(n,)``."""
        offsets = np.zeros(len(codes) + 1, dtype=np.int64)
        np.cumsum(self.offsets[1:][codes] - self.offsets[:-1][codes], out=offsets[1:])
        text = np.empty(offsets[-1], dtype=np.uint8)
        _gather(self.text, self.offsets, codes, text)
        return Ids(text, offsets)


class IdTable:
    """Gives each id a code, and remembers it.

    Args:
        ids: Those that have codes already; copied.
    """

    def __init__(self, ids: Ids | None = None) -> None:
        ids = ids or Ids.of(())
        self._n = len(ids)
        self._text, self._offsets = np.array(ids.text), np.array(ids.offsets)
        self._slots = _filled_slots(self._text, self._offsets, self._n, 2 * self._n)

    def __len__(self) -> int:
        return self._n

    @property
    def ids(self) -> Ids:
        """What the table holds now; later additions do not change it."""
        return Ids(self._text[: self._offsets[self._n]], self._offsets[: self._n + 1])

    def codes(self, ids: Sequence[str]) -> Codes:
        """The code of each id; new ones are added.

        Raises:
            OverflowError: If there would be more ids than codes.
        """
        wanted = ids if isinstance(ids, Ids) else Ids.of(ids)
        if self._n + len(wanted) > MOST_IDS:
            raise OverflowError(f"more than {MOST_IDS:,} ids")
        self._text = _with_room(self._text, int(self._offsets[self._n]) + len(wanted.text))
        self._offsets = _with_room(self._offsets, self._n + len(wanted) + 1)
        if len(self._slots) < 2 * (self._n + len(wanted)):
            self._slots = _filled_slots(self._text, self._offsets, self._n, 4 * (self._n + len(wanted)))
        codes = np.empty(len(wanted), dtype=np.int32)
        self._n = _intern(self._slots, self._text, self._offsets, self._n, wanted.text, wanted.offsets, codes)
        return codes


def hashes(ids: Ids) -> Hashes:
    """64-bit FNV-1a of each id.

    Example:
        >>> [f"{each:x}" for each in hashes(Ids.of(["", "foobar"]))]
        ['cbf29ce484222325', '85944171f73967e8']
    """
    found = np.empty(len(ids), dtype=np.uint64)
    _hash_each(ids.text, ids.offsets, found)
    return found


def home_partitions(ids: Ids, n_partitions: int) -> Codes:
    """The partition of each user id, as the default partitioner of Kafka's clients chooses it.

    Example:
        >>> home_partitions(Ids.of(["user-1"]), 4).tolist()
        [0]
    """
    homes = np.empty(len(ids), dtype=np.int32)
    _find_homes(ids.text, ids.offsets, n_partitions, homes)
    return homes


def _with_room(held: A, n: int) -> A:
    """The array itself if ``n`` elements fit, else a copy of it in one of twice the size."""
    if n <= len(held):
        return held
    larger: A = np.zeros(max(2 * n, _LEAST_ROOM), dtype=held.dtype)  # type: ignore[assignment]  # of the same type
    larger[: len(held)] = held
    return larger


def _filled_slots(text: Bytes, offsets: IntArray, n: int, n_slots: int) -> Codes:
    """Slots for at least ``n_slots`` ids, half of them free, with the first ``n`` ids in them."""
    slots = np.zeros(max(_LEAST_ROOM, 1 << (n_slots - 1).bit_length() if n_slots else 0), dtype=np.int32)
    _fill(slots, text, offsets, n)
    return slots


@compiled
def hash_text(text: Bytes, start: Int, end: Int) -> Any:
    """64-bit FNV-1a of some bytes."""
    value = _FNV_START
    for i in range(start, end):
        value = (value ^ np.uint64(text[i])) * _FNV_PRIME
    return value


@compiled
def _hash_each(text: Bytes, offsets: IntArray, into: Hashes) -> None:
    for n in range(len(offsets) - 1):
        into[n] = hash_text(text, offsets[n], offsets[n + 1])


@compiled
def _slot_of(slots: Codes, text: Bytes, offsets: IntArray, wanted: Bytes, start: Int, end: Int) -> Int:
    """The slot that has an id, or the free one where it belongs. A slot holds a code plus one, 0 if it is free."""
    value = hash_text(wanted, start, end) * _MIXER
    slot = np.int64((value ^ (value >> _SHIFT)) & np.uint64(len(slots) - 1))
    while slots[slot] != 0:
        begin = offsets[slots[slot] - 1]
        if offsets[slots[slot]] - begin == end - start:
            n_same = 0
            while n_same < end - start and text[begin + n_same] == wanted[start + n_same]:
                n_same += 1
            if n_same == end - start:
                break
        slot = (slot + 1) & (len(slots) - 1)
    return slot


@compiled
def _fill(slots: Codes, text: Bytes, offsets: IntArray, n: Int) -> None:
    for code in range(n):
        slots[_slot_of(slots, text, offsets, text, offsets[code], offsets[code + 1])] = code + 1


@compiled
def _intern(
    slots: Codes, text: Bytes, offsets: IntArray, n: Int, wanted: Bytes, wanted_offsets: IntArray, codes: Codes
) -> Int:
    """Find or add every wanted id; the arrays have room for all. Returns how many ids there are then."""
    for i in range(len(codes)):
        start, end = wanted_offsets[i], wanted_offsets[i + 1]
        slot = _slot_of(slots, text, offsets, wanted, start, end)
        if slots[slot] == 0:
            begin = offsets[n]
            for k in range(end - start):
                text[begin + k] = wanted[start + k]
            offsets[n + 1] = begin + end - start
            n += 1
            slots[slot] = n
        codes[i] = slots[slot] - 1
    return n


@compiled
def _gather(text: Bytes, offsets: IntArray, codes: Codes, into: Bytes) -> None:
    at = 0
    for code in codes:
        for i in range(offsets[code], offsets[code + 1]):
            into[at] = text[i]
            at += 1


@compiled
def _find_homes(text: Bytes, offsets: IntArray, n_partitions: Int, homes: Codes) -> None:
    for n in range(len(homes)):
        homes[n] = (murmur2(text, offsets[n], offsets[n + 1]) & 0x7FFFFFFF) % n_partitions


def renumbered(codes: AnyCodes, kept: IntArray, n_codes: int) -> tuple[IntArray, Codes]:
    """Codes 0, 1, … by first appearance among the kept rows, and the old code of each."""
    new, old = np.empty(len(kept), dtype=np.int64), np.empty(n_codes, dtype=np.int32)
    n = _renumber(codes, kept, np.full(n_codes, -1, dtype=np.int32), new, old)
    return new, old[:n].copy()


@compiled
def _renumber(codes: AnyCodes, kept: IntArray, new_of_old: Codes, new: IntArray, old: Codes) -> int:
    n = 0
    for i in range(len(kept)):
        code = codes[kept[i]]
        if new_of_old[code] < 0:
            new_of_old[code] = n
            old[n] = code
            n += 1
        new[i] = new_of_old[code]
    return n
