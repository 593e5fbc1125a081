"""What users have come by as item numbers, for an index that can leave it out.

Shape letters: ``T`` entries of all windows, ``F`` fingerprints of what has left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from encoders.compiled import IntArray, compiled
from index.protocol import Excluded, NumberArray
from streams.strategy import FingerprintArray, Passed

_MOST_REMEMBERED_BYTES = 64 << 20


class ByFingerprint(NamedTuple):
    """Item numbers by fingerprint: a hash table with open addressing, a power of two long."""

    fingerprints: FingerprintArray
    numbers: NumberArray
    """0 where the table is empty. In two bytes if they fit, since pasts of a thousand items pass through memory."""

    @classmethod
    def of(cls, fingerprints: FingerprintArray) -> ByFingerprint | None:
        """A table of the given fingerprints, by item number; None if two items share one.

        Shape:
            - fingerprints: ``(n_items + 1,)``
        """
        if len(np.unique(fingerprints[1:])) < len(fingerprints) - 1:
            return None
        size = 1 << (4 * len(fingerprints)).bit_length()
        dtype: Any = np.uint16 if len(fingerprints) <= 1 << 16 else np.int32
        table = cls(np.zeros(size, dtype=np.uint32), np.zeros(size, dtype=dtype))
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
        parts = [self._look_up(passed.window_T)]
        parts += [self._known.get(seen) or self._learn(seen) for seen in stored_seen if seen]
        parts.append(self._look_up(passed.seen_F[n_stored:]))
        numbers: Any = np.frombuffer(bytearray().join(parts), dtype=self._table.numbers.dtype)
        ranges_RR2 = np.empty((len(rows_R), 2, 2), dtype=np.int64)
        ranges_RR2[:, 0, 0], ranges_RR2[:, 0, 1] = passed.window_first_B[rows_R], passed.window_end_B[rows_R]
        ranges_RR2[:, 1, 0], ranges_RR2[:, 1, 1] = passed.seen_first_B[rows_R], passed.seen_end_B[rows_R]
        ranges_RR2[:, 1] += n_window
        return Excluded(numbers, ranges_RR2)

    def _look_up(self, fingerprints: FingerprintArray) -> bytes:
        numbers = np.empty(len(fingerprints), dtype=self._table.numbers.dtype)
        look_up(self._table, fingerprints, numbers)
        return numbers.tobytes()

    def _learn(self, seen: bytes) -> bytes:
        if self._known_bytes > _MOST_REMEMBERED_BYTES:
            self._known.clear()
            self._known_bytes = 0
        found = self._known[seen] = self._look_up(np.frombuffer(bytearray(seen), dtype=np.uint32))
        self._known_bytes += len(seen) + len(found)
        return found
