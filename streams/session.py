"""A user's session: what the stream remembers, and its stored form, version 3.

Stored compactly since every event writes one. Items are 64-bit hashes, never item numbers: numbers
change with every vocabulary. The parts of a session are kept in their stored form, as `bytes`: reading one is
cutting it, storing one is joining its parts, and a session and its successor share what did not change.

Layout, little endian::

    u8 version | i64 applied offset | u16 entries | u8 recent events | u8 states | u32 bytes of states
    entries:  u64 item hash … | u32 seconds … | u8 event type …
    recent events: u64 hash …
    states:   u8 length, text key | u16 size | f32 …
    latest:   u8 items (255: no list yet) | i64 generated at, ms | u8 length, text model version
              f32 score … | u8 source (place in `SOURCES`) … | u16 length of id … | ids

What left the window is stored beside it, under a key of its own, as u32 fingerprints: it grows with the
user's past and changes only when the window restarts.

What is here says what a session is, one at a time; the worker does the same to all sessions of a batch at once
(`streams.advance`, `streams.packing`), and property tests hold the two together.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from struct import Struct
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
from xxhash import xxh3_64_intdigest

from encoders.records import RecommendedItem
from encoders.window import Window
from streams.errors import StateFormatError
from streams.lists import SOURCES
from streams.texts import Texts, cut

T = TypeVar("T")
SESSION_VERSION = 3
NO_LIST = b"\xff"
"""Stored where no list was made yet."""
FINGERPRINT_MASK = 0xFFFFFFFF
_HEADER = Struct("<BqHBBI")
HEADER_BYTES = _HEADER.size
_LATEST = Struct("<Bq")
_HASH_BYTES, _FINGERPRINT_BYTES = 8, 4


class SessionKey(NamedTuple):
    """Whose session: one user in one catalogue."""

    catalogue: str
    user_id: str


class LatestList(NamedTuple):
    """The list made for the user's newest event, whose offset is the session's applied offset; items as columns."""

    generated_at_ms: int
    model_version: str | None
    item_ids: list[str]
    scores: list[float]
    sources: list[str]

    @property
    def items(self) -> list[RecommendedItem]:
        """The items, best first."""
        columns = zip(self.item_ids, self.scores, self.sources, strict=True)
        return [RecommendedItem(item_id=item_id, score=score, source=source) for item_id, score, source in columns]


@dataclass(slots=True)
class Session:
    """What is known of one user in one catalogue after `applied_offset`."""

    applied_offset: int = -1
    """Offset of the newest event that this session holds; -1 before the first."""
    window: Window = field(default_factory=Window)
    seen: bytes = b""
    """32-bit fingerprints of items that have left the window, oldest first, bounded; little endian."""
    recent_events: bytes = b""
    """64-bit hashes of the newest event ids, to count an event that was sent twice once; see `event_hash`."""
    states: dict[str, bytes] = field(default_factory=dict)
    """Encoder state by ``model@version``, float32; absent where the window holds no item that the model knows."""
    packed_latest: bytes = NO_LIST
    """The list made for the newest event, see `pack_list`."""

    @property
    def latest(self) -> LatestList | None:
        """The list made for the newest event.

        Raises:
            StateFormatError: If what was stored of it is damaged.
        """
        return _read_whole(self.packed_latest, _Reader.latest)

    @property
    def recent_event_hashes(self) -> tuple[int, ...]:
        """`recent_events` as numbers, oldest first."""
        return struct.unpack(f"<{len(self.recent_events) // _HASH_BYTES}Q", self.recent_events)


class StoredSession(NamedTuple):
    """What is stored of one session."""

    packed: bytes
    seen: bytes = b""

    def session(self) -> Session:
        """The session itself.

        Raises:
            StateFormatError: If this version of streamrec cannot read it.
        """
        return unpack(self.packed, self.seen)


def event_hash(event_id: str) -> int:
    """64-bit identity of an event id: XXH3, since nothing but an accident could make two of one user's ids meet."""
    return xxh3_64_intdigest(event_id.encode())


def event_hashes(event_ids: Texts) -> npt.NDArray[np.uint64]:
    """`event_hash` of many."""
    return np.array([xxh3_64_intdigest(event_id) for event_id in cut(*event_ids)], dtype=np.uint64)


def with_recent(recent_events: bytes, identity: int, limit: int) -> bytes:
    """Remember one more event id; the oldest go."""
    return (recent_events + identity.to_bytes(_HASH_BYTES, "little"))[-_HASH_BYTES * limit :] if limit else b""


def fingerprints_of(seen: bytes) -> list[int]:
    """The fingerprints in their stored form as numbers, oldest first."""
    return list(struct.unpack(f"<{len(seen) // _FINGERPRINT_BYTES}I", seen))


def with_seen(seen: bytes, left: Iterable[int], limit: int) -> bytes:
    """Fingerprints after items have left the window: one already there moves to the end, the oldest go.

    Args:
        seen: Fingerprints before, in their stored form.
        left: Item hashes, oldest first.
        limit: How many are kept.
    """
    memory = dict.fromkeys(fingerprints_of(seen))
    for identity in left:
        fingerprint = identity & FINGERPRINT_MASK
        memory.pop(fingerprint, None)
        memory[fingerprint] = None
    kept = list(memory)[max(0, len(memory) - limit) :]
    return struct.pack(f"<{len(kept)}I", *kept)


def state_of(state: bytes) -> npt.NDArray[np.float32]:
    """An encoder state as numbers. Shape: ``(S,)``."""
    return np.frombuffer(state, dtype="<f4")


def pack(session: Session) -> bytes:
    """The stored form of a session, without what is stored beside it (`Session.seen`)."""
    window, recent_events = session.window, session.recent_events
    states = b"".join(
        [_text(key) + (len(state) // 4).to_bytes(2, "little") + state for key, state in session.states.items()]
    )
    header = _HEADER.pack(
        SESSION_VERSION,
        session.applied_offset,
        len(window.type_column),
        len(recent_events) // _HASH_BYTES,
        len(session.states),
        len(states),
    )
    parts = (header, window.item_column, window.time_column, window.type_column, recent_events, states)
    return b"".join(parts) + session.packed_latest


def pack_list(latest: LatestList) -> bytes:
    """The stored form of a list."""
    ids = [item_id.encode() for item_id in latest.item_ids]
    n = len(ids)
    columns = struct.pack(f"<{n}f", *latest.scores) + bytes(map(SOURCES.index, latest.sources))
    lengths = struct.pack(f"<{n}H", *map(len, ids))
    return (
        _LATEST.pack(n, latest.generated_at_ms) + _text(latest.model_version or "") + columns + lengths + b"".join(ids)
    )


def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(1, "little") + encoded


def unpack(blob: bytes, seen: bytes = b"") -> Session:
    """The session that `pack` stored.

    Args:
        blob: What `pack` gave.
        seen: What was stored beside it, if anything was.

    Raises:
        StateFormatError: If the version is unknown or the blob is damaged.
    """
    if not blob or blob[0] != SESSION_VERSION:
        found = f"version {blob[0]}" if blob else "nothing"
        raise StateFormatError(
            f"session has {found}, this streamrec reads version {SESSION_VERSION}; `streamrec state reset` drops what"
            " another version stored, and the workers rebuild it from the log"
        )
    try:
        _, applied_offset, n, n_recent, n_states, states_bytes = _HEADER.unpack_from(blob)
    except struct.error as error:
        raise StateFormatError(f"session of {len(blob)} bytes is damaged: {error}") from error
    times = HEADER_BYTES + 8 * n
    types = times + 4 * n
    recent = types + n
    states = recent + _HASH_BYTES * n_recent
    latest = states + states_bytes
    if latest >= len(blob):
        raise StateFormatError(f"session of {len(blob)} bytes is damaged: it should have more than {latest}")
    if len(seen) % _FINGERPRINT_BYTES:
        raise StateFormatError(f"{len(seen)} bytes of seen items are no whole number of fingerprints")
    return Session(
        applied_offset,
        Window(blob[HEADER_BYTES:times], blob[times:types], blob[types:recent]),
        seen,
        blob[recent:states],
        _read_whole(blob[states:latest], lambda reader: reader.states(n_states)),
        blob[latest:],
    )


def applied_offset_of(blob: bytes) -> int:
    """`Session.applied_offset` of a packed session."""
    return int.from_bytes(blob[1:9], "little", signed=True)


def _read_whole(part: bytes, read: Callable[[_Reader], T]) -> T:
    reader = _Reader(part)
    try:
        found = read(reader)
        reader.insist_on_end()
    except (struct.error, IndexError, UnicodeDecodeError, ValueError) as error:
        raise StateFormatError(f"session is damaged: {error}") from error
    return found


class _Reader:
    """Reads a part from front to back."""

    def __init__(self, part: bytes) -> None:
        self._blob, self._at = part, 0

    def states(self, n: int) -> dict[str, bytes]:
        """What `pack` wrote of the encoder states."""
        return {self._text(): self._bytes(4 * int.from_bytes(self._bytes(2), "little")) for _ in range(n)}

    def latest(self) -> LatestList | None:
        """What `pack_list` wrote."""
        if self._blob[:1] == NO_LIST:
            self._at += 1
            return None
        n, generated_at_ms = self._struct(_LATEST)
        model_version = self._text() or None
        scores = struct.unpack(f"<{n}f", self._bytes(4 * n))
        sources = self._bytes(n)
        lengths = struct.unpack(f"<{n}H", self._bytes(2 * n))
        ids = [self._bytes(length).decode() for length in lengths]
        return LatestList(generated_at_ms, model_version, ids, list(scores), [SOURCES[source] for source in sources])

    def insist_on_end(self) -> None:
        """Raise if there is more."""
        if self._at != len(self._blob):
            raise ValueError(f"{len(self._blob) - self._at} bytes too many")

    def _bytes(self, n: int) -> bytes:
        chunk = self._blob[self._at : self._at + n]
        if len(chunk) != n:
            raise ValueError(f"ends {n - len(chunk)} bytes early")
        self._at += n
        return chunk

    def _struct(self, layout: Struct) -> tuple[int, ...]:
        return layout.unpack(self._bytes(layout.size))

    def _text(self) -> str:
        return self._bytes(self._bytes(1)[0]).decode()
