"""The sessions of a partition that its owner remembers, so that most events need not ask the store.

Kept as they are stored, one block each, which the collector need not look into.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from streams.session import SessionKey, StoredSession, applied_offset_of
from streams.store import SEEN_REFRESH, Changes

_SEEN_REFRESH_MS = SEEN_REFRESH.total_seconds() * 1000


class _Seen(NamedTuple):
    """What has left a user's window."""

    fingerprints: bytes
    stored_ms: int = 0
    """When the store last heard of it, so that it is not told again with every event that it is still wanted."""


class SessionCache:
    """Sessions as of the last event that was worked out, least recently used first."""

    def __init__(self) -> None:
        self._packed: OrderedDict[SessionKey, bytes] = OrderedDict()
        self._seen: dict[SessionKey, _Seen] = {}
        """Of those sessions whose windows something has left."""

    def __len__(self) -> int:
        return len(self._packed)

    def __iter__(self) -> Iterator[SessionKey]:
        return iter(self._packed)

    def find(self, keys: Sequence[SessionKey]) -> list[bytes | None]:
        """Packed sessions, in the order of the keys; None where there is none."""
        return list(map(self._packed.get, keys))

    def seen(self, keys: Sequence[SessionKey]) -> list[bytes]:
        """What has left the windows, in the order of the keys."""
        if not self._seen:
            return [b""] * len(keys)
        return [b"" if found is None else found.fingerprints for found in map(self._seen.get, keys)]

    def to_refresh(self, keys: Sequence[SessionKey], now_ms: int) -> list[SessionKey]:
        """Whose `seen` the store was last told of so long ago that it must hear again that it is wanted."""
        if not self._seen:
            return []
        before_ms = now_ms - _SEEN_REFRESH_MS
        pairs = zip(keys, map(self._seen.get, keys), strict=True)
        return [key for key, found in pairs if found is not None and found.stored_ms < before_ms]

    def add(self, key: SessionKey, stored: StoredSession) -> None:
        """Remember a session as the store has it."""
        self._packed[key] = stored.packed
        if stored.seen:
            self._seen[key] = _Seen(stored.seen)

    def update(self, changes: Changes, now_ms: int) -> None:
        """Remember sessions as a batch leaves them."""
        packed = self._packed
        for key, session in changes.sessions.items():
            packed[key] = session
            packed.move_to_end(key)
        for key, fingerprints in changes.seen.items():
            self._seen[key] = _Seen(fingerprints, now_ms)
        for key in changes.unchanged_seen:
            self._seen[key] = _Seen(self._seen[key].fingerprints, now_ms)

    def forget(self, limit: int, position: int) -> None:
        """Keep memory bounded. What is not durable yet must be remembered: the store does not have it.

        Args:
            limit: How many sessions to keep.
            position: Offset after the last event that is durable.
        """
        while len(self._packed) > limit:
            key, packed = next(iter(self._packed.items()))
            if applied_offset_of(packed) >= position:
                return
            del self._packed[key]
            self._seen.pop(key, None)
