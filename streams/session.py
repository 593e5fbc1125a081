"""A user's session: what the stream remembers, and its stored form, version 1.

Stored compactly since every event writes one. Items are 64-bit hashes, never item numbers: numbers
change with every vocabulary.

Layout, little endian::

    u8 version | i64 applied offset | u16 entries, u16 seen, u8 recent events, u8 states
    entries:  u64 item hash … | u32 seconds … | u8 event type …
    seen:     u32 fingerprint …          recent events: u64 hash …
    states:   u8 length, text key | u16 size | f32 …
    latest:   u8 items (255: no list yet) | i64 generated at, ms | u8 length, text model version
              u8 sources | (u8 length, text) … | per item: f32 score | u8 source | u16 length, text id
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass, field
from hashlib import blake2b
from struct import Struct, pack_into
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.window import Window
from streams.errors import StateFormatError

SESSION_VERSION = 1
NO_LIST = 255
_HEADER = Struct("<BqHHBB")
_LATEST = Struct("<Bq")
_ITEM = Struct("<fBH")
FINGERPRINT_MASK = 0xFFFFFFFF


class SessionKey(NamedTuple):
    """Whose session: one user in one catalogue."""

    catalogue: str
    user_id: str


class ListedItem(NamedTuple):
    """One entry of the latest list."""

    item_id: str
    score: float
    source: str


class LatestList(NamedTuple):
    """The list made for the user's newest event, whose offset is the session's applied offset."""

    generated_at_ms: int
    model_version: str | None
    items: list[ListedItem]


@dataclass(slots=True)
class Session:
    """What is known of one user in one catalogue after `applied_offset`."""

    applied_offset: int = -1
    """Offset of the newest event that this session holds; -1 before the first."""
    window: Window = field(default_factory=Window)
    seen: list[int] = field(default_factory=list)
    """32-bit fingerprints of items that have left the window, oldest first, bounded."""
    recent_events: list[int] = field(default_factory=list)
    """64-bit hashes of the newest event ids, to count an event that was sent twice once."""
    states: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)
    """Encoder state by ``model@version``; absent where the window holds no item that the model knows."""
    latest: LatestList | None = None

    def copy(self) -> Session:
        """A session that can change without changing this one; state vectors are replaced, never written."""
        return Session(
            self.applied_offset,
            self.window.copy(),
            self.seen.copy(),
            self.recent_events.copy(),
            self.states.copy(),
            self.latest,
        )

    def fingerprints(self) -> list[int]:
        """32-bit fingerprints of every item the user is known to have seen."""
        return self.seen + [item_hash & FINGERPRINT_MASK for item_hash in self.window.item_hashes]


def remember(memory: list[int], new: Iterable[int], limit: int) -> None:
    """Append to a bounded memory, in place: a value already there moves to the end, the oldest go."""
    for value in new:
        if value in memory:
            memory.remove(value)
        memory.append(value)
    del memory[: max(0, len(memory) - limit)]


def event_hash(event_id: str) -> int:
    """64-bit identity of an event id."""
    return int.from_bytes(blake2b(event_id.encode(), digest_size=8).digest(), "little")


def pack(session: Session) -> bytes:
    """The stored form of a session."""
    window, latest = session.window, session.latest
    out = bytearray(
        _HEADER.pack(
            SESSION_VERSION,
            session.applied_offset,
            len(window),
            len(session.seen),
            len(session.recent_events),
            len(session.states),
        )
    )
    _put_numbers(out, "Q", window.item_hashes)
    _put_numbers(out, "I", window.times_s)
    out += bytes(window.type_codes)
    _put_numbers(out, "I", session.seen)
    _put_numbers(out, "Q", session.recent_events)
    for key, state in session.states.items():
        _put_text(out, key)
        out += len(state).to_bytes(2, "little")
        out += np.ascontiguousarray(state, dtype="<f4").tobytes()
    if latest is None:
        out.append(NO_LIST)
        return bytes(out)
    out += _LATEST.pack(len(latest.items), latest.generated_at_ms)
    _put_text(out, latest.model_version or "")
    sources = sorted({item.source for item in latest.items})
    out.append(len(sources))
    for source in sources:
        _put_text(out, source)
    for item in latest.items:
        encoded = item.item_id.encode()
        out += _ITEM.pack(item.score, sources.index(item.source), len(encoded))
        out += encoded
    return bytes(out)


def unpack(blob: bytes) -> Session:
    """The session that `pack` stored.

    Raises:
        StateFormatError: If the version is unknown or the blob is damaged.
    """
    if not blob or blob[0] != SESSION_VERSION:
        found = f"version {blob[0]}" if blob else "nothing"
        raise StateFormatError(f"session has {found}, this streamrec reads version {SESSION_VERSION}")
    try:
        return _Reader(blob).session()
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise StateFormatError(f"session of {len(blob)} bytes is damaged: {error}") from error


def _put_numbers(out: bytearray, code: str, values: list[int]) -> None:
    size = {"I": 4, "Q": 8}[code] * len(values)
    start = len(out)
    out.extend(bytes(size))
    pack_into(f"<{len(values)}{code}", out, start, *values)


def _put_text(out: bytearray, text: str) -> None:
    encoded = text.encode()
    out.append(len(encoded))
    out += encoded


class _Reader:
    """Reads a blob from front to back."""

    def __init__(self, blob: bytes) -> None:
        self._blob, self._at = blob, 0

    def session(self) -> Session:
        _, applied_offset, n_entries, n_seen, n_recent, n_states = self._struct(_HEADER)
        window = Window(
            self._numbers("Q", 8, n_entries), self._numbers("I", 4, n_entries), list(self._bytes(n_entries))
        )
        seen = self._numbers("I", 4, n_seen)
        recent = self._numbers("Q", 8, n_recent)
        states = {}
        for _ in range(n_states):
            key = self._text(1)
            size = int.from_bytes(self._bytes(2), "little")
            states[key] = np.frombuffer(self._bytes(4 * size), dtype="<f4")
        latest = self._latest()
        if self._at != len(self._blob):
            raise ValueError(f"{len(self._blob) - self._at} bytes too many")
        return Session(applied_offset, window, seen, recent, states, latest)

    def _latest(self) -> LatestList | None:
        if self._blob[self._at] == NO_LIST:
            self._at += 1
            return None
        n_items, generated_at_ms = self._struct(_LATEST)
        model_version = self._text(1) or None
        sources = [self._text(1) for _ in range(self._bytes(1)[0])]
        items = []
        for _ in range(n_items):
            score, source, length = self._struct(_ITEM)
            items.append(ListedItem(self._bytes(length).decode(), score, sources[source]))
        return LatestList(generated_at_ms, model_version, items)

    def _bytes(self, n: int) -> bytes:
        chunk = self._blob[self._at : self._at + n]
        if len(chunk) != n:
            raise ValueError(f"ends {n - len(chunk)} bytes early")
        self._at += n
        return chunk

    def _struct(self, layout: Struct) -> tuple[int, ...]:
        return layout.unpack(self._bytes(layout.size))

    def _numbers(self, code: str, size: int, n: int) -> list[int]:
        return list(Struct(f"<{n}{code}").unpack(self._bytes(size * n)))

    def _text(self, length_bytes: int) -> str:
        return self._bytes(int.from_bytes(self._bytes(length_bytes), "little")).decode()
