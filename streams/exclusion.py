"""What users have come by as item numbers, for an index that can leave it out.

Shape letters: ``T`` entries of all windows, ``F`` fingerprints of what has left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import IntArray, compiled
from index.protocol import Excluded
from streams.strategy import FingerprintArray, Passed

NumberArray = npt.NDArray[np.int32]
_MOST_REMEMBERED_BYTES = 64 << 20


class ByFingerprint(NamedTuple):
    """Item numbers by fingerprint: a hash table with open addressing, a power of two long."""

    fingerprints: FingerprintArray
    numbers: NumberArray
    """0 where the table is empty."""

    @classmethod
    def of(cls, fingerprints: FingerprintArray) -> ByFingerprint | None:
        """A table of the given fingerprints, by item number; None if two items share one.

        Shape:
            - fingerprints: ``(n_items + 1,)``
        """
        if len(np.unique(fingerprints[1:])) < len(fingerprints) - 1:
            return None
        size = 1 << (4 * len(fingerprints)).bit_length()
        table = cls(np.zeros(size, dtype=np.uint32), np.zeros(size, dtype=np.int32))
        _put(table, fingerprints)
        return table


@compiled
def _put(table: ByFingerprint, fingerprints: FingerprintArray) -> None:
    """Enter all items."""
    mask = len(table.numbers) - 1
    for number in range(1, len(fingerprints)):
        place = np.int64(fingerprints[number]) & mask
        while table.numbers[place]:
            place = (place + 1) & mask
        table.fingerprints[place], table.numbers[place] = fingerprints[number], number


@compiled
def look_up(table: ByFingerprint, fingerprints: FingerprintArray, numbers: NumberArray) -> None:
    """Put the item numbers of fingerprints in place; 0 where there is no such item."""
    mask = np.uint64(len(table.numbers) - 1)
    for i in range(len(fingerprints)):
        place = np.uint64(fingerprints[i]) & mask
        while table.numbers[place] and table.fingerprints[place] != fingerprints[i]:
            place = (place + np.uint64(1)) & mask
        numbers[i] = table.numbers[place]


class Exclusion:
    """Turns what users have come by into item numbers.

    What has left a window stays the same until the next restart, and may be a thousand items: its numbers are
    remembered by its bytes, which Python hashes once.

    Args:
        table: The items.
    """

    def __init__(self, table: ByFingerprint) -> None:
        self._table = table
        self._known: dict[bytes, bytes] = {}
        self._known_bytes = 0

    def of(self, passed: Passed, stored_seen: Sequence[bytes], rows_R: IntArray) -> Excluded:
        """What a search is to leave out.

        Args:
            passed: What each user has come by.
            stored_seen: Of each session what had left its window before the batch: what `Passed.seen_F` begins with.
            rows_R: The events that are searched for.
        """
        n_window, n_stored = len(passed.window_T), sum(map(len, stored_seen)) // 4
        numbers = np.empty(n_window + len(passed.seen_F), dtype=np.int32)
        look_up(self._table, passed.window_T, numbers[:n_window])
        if n_stored:
            stored = b"".join([self._numbers(seen) for seen in stored_seen if seen])
            numbers[n_window : n_window + n_stored] = np.frombuffer(stored, dtype=np.int32)
        look_up(self._table, passed.seen_F[n_stored:], numbers[n_window + n_stored :])
        ranges_RR2 = np.empty((len(rows_R), 2, 2), dtype=np.int64)
        ranges_RR2[:, 0, 0], ranges_RR2[:, 0, 1] = passed.window_first_B[rows_R], passed.window_end_B[rows_R]
        ranges_RR2[:, 1, 0], ranges_RR2[:, 1, 1] = passed.seen_first_B[rows_R], passed.seen_end_B[rows_R]
        ranges_RR2[:, 1] += n_window
        return Excluded(numbers, ranges_RR2)

    def _numbers(self, seen: bytes) -> bytes:
        found = self._known.get(seen)
        if found is None:
            numbers = np.empty(len(seen) // 4, dtype=np.int32)
            look_up(self._table, np.frombuffer(bytearray(seen), dtype=np.uint32), numbers)
            found = numbers.tobytes()
            if self._known_bytes > _MOST_REMEMBERED_BYTES:
                self._known.clear()
                self._known_bytes = 0
            self._known[seen] = found
            self._known_bytes += 2 * len(seen)
        return found
