"""A user's session: what the stream remembers, and its stored form, version 2.

Stored compactly since every event writes one. Items are 64-bit hashes, never item numbers: numbers
change with every vocabulary. The parts of a session are kept in their stored form, as `bytes`: reading one is
cutting it, storing one is joining its parts, and a session and its successor share what did not change.

Layout, little endian::

    u8 version | i64 applied offset | u16 entries | u8 recent events | u8 states | u32 bytes of states
    entries:  u64 item hash … | u32 seconds … | u8 event type …
    recent events: u64 hash …
    states:   u8 length, text key | u16 size | f32 …
    latest:   u8 items (255: no list yet) | i64 generated at, ms | u8 length, text model version
              u8 sources | (u8 length, text) … | f32 score … | u8 source … | u16 length of id … | ids

What left the window is stored beside it, under a key of its own, as u32 fingerprints: it grows with the
user's past and changes only when the window restarts.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache
from hashlib import blake2b
from struct import Struct
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from encoders.window import Window
from streams.errors import StateFormatError
from streams.lists import ListedItem

T = TypeVar("T")
SESSION_VERSION = 2
NO_LIST = b"\xff"
"""Stored where no list was made yet."""
_HEADER = Struct("<BqHBBI")
_LATEST = Struct("<Bq")
FINGERPRINT_MASK = 0xFFFFFFFF
_REMEMBERED_TEXTS = 64
"""Keys of states and versions of models are few."""
_HASH_BYTES, _FINGERPRINT_BYTES = 8, 4


class SessionKey(NamedTuple):
    """Whose session: one user in one catalogue."""

    catalogue: str
    user_id: str


class LatestList(NamedTuple):
    """The list made for the user's newest event, whose offset is the session's applied offset.

    Its items are kept as columns: a list is made for every event and read by few.
    """

    generated_at_ms: int
    model_version: str | None
    item_ids: list[str]
    scores: list[float]
    sources: list[str]

    @property
    def items(self) -> list[ListedItem]:
        """The items, best first."""
        columns = zip(self.item_ids, self.scores, self.sources, strict=True)
        return [ListedItem(item_id, score, source, ()) for item_id, score, source in columns]


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
    seen_items: frozenset[int] | None = field(default=None, compare=False, repr=False)
    """What `seen_set` worked out."""

    def successor(self) -> Session:
        """A session that can change without changing this one."""
        return Session(
            self.applied_offset,
            self.window.copy(),
            self.seen,
            self.recent_events,
            self.states,
            self.packed_latest,
            self.seen_items,
        )

    @property
    def latest(self) -> LatestList | None:
        """The list made for the newest event.

        Raises:
            StateFormatError: If what was stored of it is damaged.
        """
        return _read_whole(self.packed_latest, _Reader.latest)

    def see(self, left: Sequence[int], limit: int) -> None:
        """Remember items that have left the window, oldest first; no more than ``limit`` are remembered.

        Items that are all new, the ordinary case, cost no walk over those that are remembered already.
        """
        fingerprints = [identity & FINGERPRINT_MASK for identity in left]
        known, new = self.seen_set(), frozenset(fingerprints)
        if len(new) < len(fingerprints) or not known.isdisjoint(new) or len(new) > limit:
            self.seen, self.seen_items = with_seen(self.seen, left, limit), None
            return
        seen = self.seen + struct.pack(f"<{len(fingerprints)}I", *fingerprints)
        surplus = max(0, len(seen) - _FINGERPRINT_BYTES * limit)
        self.seen, self.seen_items = seen[surplus:], (known | new).difference(fingerprints_of(seen[:surplus]))

    def seen_set(self) -> frozenset[int]:
        """`seen` as numbers; worked out once for this session and its successors, until it changes."""
        if self.seen_items is None:
            self.seen_items = frozenset(fingerprints_of(self.seen))
        return self.seen_items


def event_hash(event_id: str) -> bytes:
    """64-bit identity of an event id."""
    return blake2b(event_id.encode(), digest_size=_HASH_BYTES).digest()


def is_recent(recent_events: bytes, identity: bytes) -> bool:
    """Whether an event id is among the remembered ones.

    Example:
        >>> is_recent(event_hash("a") + event_hash("b"), event_hash("b"))
        True
    """
    place = recent_events.find(identity)
    while place % _HASH_BYTES > 0:  # found across two of them; -1 % 8 is 7
        if place < 0:
            return False
        place = recent_events.find(identity, place + 1)
    return True


def with_recent(recent_events: bytes, identity: bytes, limit: int) -> bytes:
    """Remember one more event id; the oldest go."""
    return (recent_events + identity)[-_HASH_BYTES * limit :] if limit else b""


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


class ListPacker:
    """The stored form of the lists of one batch, which have much in common.

    Args:
        generated_at_ms: When they were made.
        model_version: What made them.
    """

    def __init__(self, generated_at_ms: int, model_version: str | None) -> None:
        self._generated_at_ms, self._version = generated_at_ms, _text(model_version or "")
        self._heads: dict[tuple[int, tuple[str, ...]], bytes] = {}

    def pack(self, item_ids: list[str], scores: list[float], sources: list[str]) -> bytes:
        """One list."""
        n, text = len(item_ids), "".join(item_ids)
        lengths = map(len, item_ids) if text.isascii() else (len(item_id.encode()) for item_id in item_ids)
        names = (sources[0],) if n and sources.count(sources[0]) == n else tuple(sorted(set(sources)))
        places = bytes(n) if len(names) == 1 else bytes(map(names.index, sources))
        head = self._heads.get((n, names))
        if head is None:
            head = self._heads[n, names] = self._head(n, names)
        return head + _columns(n).pack(*scores, places, *lengths) + text.encode()

    def _head(self, n: int, names: tuple[str, ...]) -> bytes:
        return _LATEST.pack(n, self._generated_at_ms) + self._version + b"%c" % len(names) + b"".join(map(_text, names))


def pack_list(latest: LatestList) -> bytes:
    """The stored form of a list."""
    return ListPacker(latest.generated_at_ms, latest.model_version).pack(*latest[2:])


@cache
def _columns(n: int) -> Struct:
    """Scores, sources and lengths of ids of a list of ``n``."""
    return Struct(f"<{n}f{n}s{n}H")


@lru_cache(_REMEMBERED_TEXTS)
def _text(text: str) -> bytes:
    encoded = text.encode()
    return len(encoded).to_bytes(1, "little") + encoded


def unpack(blob: bytes, seen: bytes | None = None) -> Session:
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
    times = _HEADER.size + 8 * n
    types = times + 4 * n
    recent = types + n
    states = recent + _HASH_BYTES * n_recent
    latest = states + states_bytes
    if latest >= len(blob):
        raise StateFormatError(f"session of {len(blob)} bytes is damaged: it should have more than {latest}")
    if seen and len(seen) % _FINGERPRINT_BYTES:
        raise StateFormatError(f"{len(seen)} bytes of seen items are no whole number of fingerprints")
    return Session(
        applied_offset,
        Window(blob[_HEADER.size : times], blob[times:types], blob[types:recent]),
        seen or b"",
        blob[recent:states],
        _states(blob[states:latest], n_states),
        blob[latest:],
    )


def _states(part: bytes, n: int) -> dict[str, bytes]:
    """What `pack` wrote of the encoder states."""
    if not n and not part:
        return {}
    if n == 1 and part and len(part) > part[0] + 2:  # the ordinary case
        start = part[0] + 3
        if len(part) - start == 4 * int.from_bytes(part[start - 2 : start], "little"):
            return {_key(part[1 : start - 2]): part[start:]}
    return _read_whole(part, lambda reader: reader.states(n))


@lru_cache(_REMEMBERED_TEXTS)
def _key(text: bytes) -> str:
    try:
        return text.decode()
    except UnicodeDecodeError as error:
        raise StateFormatError(f"session is damaged: {error}") from error


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
        names = [self._text() for _ in range(self._bytes(1)[0])]
        scores = struct.unpack(f"<{n}f", self._bytes(4 * n))
        sources = self._bytes(n)
        lengths = struct.unpack(f"<{n}H", self._bytes(2 * n))
        ids = [self._bytes(length).decode() for length in lengths]
        return LatestList(generated_at_ms, model_version, ids, list(scores), [names[source] for source in sources])

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
