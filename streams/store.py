"""Where sessions, counts and offsets live: one protocol, in Redis and in memory.

All keys of a source partition carry one hash tag, ``{topic:partition}``, so that one script can change
them together, on one server or on a Redis Cluster. Two scripts hold the whole protocol:

* *acquire* writes a fresh random token and says where to go on;
* *apply* refuses if another token stands there (another worker has the partition), says *done* if the
  offset already is the batch's end (a retry after a lost answer), refuses if it is not the batch's start,
  and else sets sessions, counts and the offset, all at once.
"""

from __future__ import annotations

import secrets
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from enum import Enum
from typing import Any, NamedTuple, Protocol, cast

import redis.asyncio

from streams.errors import StateAheadError, StateMismatchError
from streams.session import SessionKey, StoredSession

SEEN_REFRESH = timedelta(hours=1)
"""How long `Changes.unchanged_seen` may leave out what it named before: so much longer does `seen` live."""


class LogBounds(NamedTuple):
    """What Kafka says of a partition at the moment of assignment."""

    start: int
    """Offset of the oldest record that is still there."""
    end: int
    """Offset of the next record to come."""
    committed: int | None
    """Offset committed by the consumer group, if any."""


class Ownership(NamedTuple):
    """The right to write a partition's state, and where to go on."""

    token: str
    position: int
    """Offset of the next record to apply."""
    answered_until: int
    """Events before this offset have been answered already. Where Redis has lost what it held, this lies
    ahead of `position`, and the events between only rebuild the state."""
    lost_to_retention: int
    """How many offsets the log has dropped before they were applied."""


class Applied(Enum):
    """What became of a batch."""

    OK = "ok"
    DONE = "done"
    """It had been applied before; the answer to the earlier call was lost."""
    FENCED = "fenced"
    """Another worker has taken the partition."""
    REFUSED = "refused"
    """The batch does not begin where the state ends."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What a batch changes in the state of its partition."""

    start: int
    end: int
    sessions: Mapping[SessionKey, bytes] = field(default_factory=dict)
    """Packed sessions, whole."""
    popularity: Mapping[tuple[str, str], float] = field(default_factory=dict)
    """New base-2 logarithm of the decayed count, by catalogue and item id."""
    counters: Mapping[str, int] = field(default_factory=dict)
    """What to add to the partition's counters, by name."""
    seen: Mapping[SessionKey, bytes] = field(default_factory=dict)
    """`Session.seen` where it changed."""
    unchanged_seen: Sequence[SessionKey] = ()
    """Changed sessions whose stored `seen` stays as it is, and must not be forgotten before they are; each named at
    least every `SEEN_REFRESH`."""


class SessionStore(Protocol):
    """State of the partitions of one topic on one cluster.

    Every method may raise `redis.exceptions.RedisError` where the store cannot be reached: nothing is
    known then of whether a call to `apply` took effect, and it may be repeated.
    """

    async def acquire(self, partition: int, log: LogBounds) -> Ownership:
        """Take a partition from whoever had it.

        Raises:
            StateMismatchError: If the stored state is of another cluster or partition count.
            StateAheadError: If it is of a longer log.
        """

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        """Stored sessions, in the order of the keys; None where there is none."""

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        """Base-2 logarithms of all decayed counts of a partition, by catalogue and item id."""

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        """Make a batch part of the state, wholly or not at all."""


class Keys(NamedTuple):
    """Names of the keys of one partition."""

    tag: str

    @classmethod
    def of(cls, prefix: str, topic: str, partition: int) -> Keys:
        """Keys of ``partition`` of ``topic``."""
        return cls(f"{prefix}{{{topic}:{partition}}}")

    @property
    def owner(self) -> str:
        """Token of the worker that may write."""
        return f"{self.tag}:owner"

    @property
    def applied(self) -> str:
        """Hash: `offset`, `cluster`, `partitions`."""
        return f"{self.tag}:applied"

    @property
    def counters(self) -> str:
        """Hash of running totals."""
        return f"{self.tag}:counters"

    @property
    def catalogues(self) -> str:
        """Set of the catalogues that have popularity counts."""
        return f"{self.tag}:catalogues"

    def popularity(self, catalogue: str) -> str:
        """Hash: item id to 8 bytes of little-endian double."""
        return f"{self.tag}:popularity:{catalogue}"

    def session(self, key: SessionKey) -> str:
        """One packed session."""
        return f"{self.tag}:s:{key.catalogue}:{key.user_id}"

    def seen(self, key: SessionKey) -> str:
        """Fingerprints of what has left one session's window."""
        return f"{self.tag}:seen:{key.catalogue}:{key.user_id}"

    @property
    def every_session(self) -> str:
        """Pattern that matches all sessions, for SCAN."""
        escaped = "".join(f"\\{c}" if c in "*?[]\\" else c for c in self.tag)
        return f"{escaped}:s:*"


_ACQUIRE = """
-- KEYS: owner, applied. ARGV: token, cluster, partitions, log start, log end, committed (or -1).
local stored = redis.call('HMGET', KEYS[2], 'offset', 'cluster', 'partitions')
local first, last, committed = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local position, lost = first, 0
if stored[1] then
  if stored[2] ~= ARGV[2] then return {'cluster', stored[2]} end
  if stored[3] ~= ARGV[3] then return {'partitions', stored[3]} end
  position = tonumber(stored[1])
  if position > last then return {'ahead', position} end
  if position < first then
    lost, position = first - position, first
    redis.call('HSET', KEYS[2], 'offset', position)
  end
else
  redis.call('HSET', KEYS[2], 'offset', position, 'cluster', ARGV[2], 'partitions', ARGV[3])
end
redis.call('SET', KEYS[1], ARGV[1])
return {'ok', position, math.max(position, committed), lost}
"""

_APPLY = """
-- KEYS: owner, applied, counters, catalogues, popularity…, sessions…, seen…, then seen that only lives on.
-- ARGV: token, start, end, ttl ms, that of seen, number of sessions, of seen, of popularity keys, then catalogue
--       and number of items for each, number of counters, then (name, increment)…, (item, count)… in the order
--       of keys, session blobs…, seen blobs…
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 'fenced' end
local offset = redis.call('HGET', KEYS[2], 'offset')
if offset == ARGV[3] then return 'done' end
if offset ~= ARGV[2] then return 'refused' end
local n, catalogues, sizes, at = tonumber(ARGV[6]), tonumber(ARGV[8]), {}, 9
for i = 1, catalogues do
  redis.call('SADD', KEYS[4], ARGV[at])
  sizes[i] = tonumber(ARGV[at + 1])
  at = at + 2
end
local counters = tonumber(ARGV[at])
at = at + 1
for _ = 1, counters do
  redis.call('HINCRBY', KEYS[3], ARGV[at], ARGV[at + 1])
  at = at + 2
end
for i = 1, catalogues do
  local last = at + 2 * sizes[i] - 1
  while at <= last do
    local upto = math.min(at + 1999, last)
    redis.call('HSET', KEYS[4 + i], unpack(ARGV, at, upto))
    at = upto + 1
  end
end
local first = 5 + catalogues
for i = first, first + n + ARGV[7] - 1 do
  redis.call('SET', KEYS[i], ARGV[at], 'PX', i < first + n and ARGV[4] or ARGV[5])
  at = at + 1
end
for i = first + n + ARGV[7], #KEYS do
  redis.call('PEXPIRE', KEYS[i], ARGV[5])
end
redis.call('HSET', KEYS[2], 'offset', ARGV[3])
return 'ok'
"""


class RedisStore:
    """State in Redis or Valkey.

    Args:
        client: Returns bytes (``decode_responses=False``).
        topic: The source topic.
        cluster: Id of the Kafka cluster, so that the state of another one is not taken for this one's.
        n_partitions: Partitions of the topic; the state is bound to the number.
        session_ttl: A session that no event touches for this long is forgotten.
        prefix: Put before every key.
    """

    def __init__(
        self,
        client: redis.asyncio.Redis,
        *,
        topic: str,
        cluster: str,
        n_partitions: int,
        session_ttl: timedelta = timedelta(days=30),
        prefix: str = "",
    ) -> None:
        self._client = client
        self._topic, self._prefix = topic, prefix
        self._cluster, self._n_partitions = cluster, n_partitions
        self._ttls_ms = [int(ttl.total_seconds() * 1000) for ttl in (session_ttl, session_ttl + SEEN_REFRESH)]
        self._acquire: Any = client.register_script(_ACQUIRE)
        self._apply: Any = client.register_script(_APPLY)

    def _keys(self, partition: int) -> Keys:
        return Keys.of(self._prefix, self._topic, partition)

    async def acquire(self, partition: int, log: LogBounds) -> Ownership:
        """See `SessionStore.acquire`."""
        keys, token = self._keys(partition), secrets.token_hex(16)
        committed = -1 if log.committed is None else log.committed
        answer = await self._acquire(
            keys=[keys.owner, keys.applied],
            args=[token, self._cluster, self._n_partitions, log.start, log.end, committed],
        )
        if answer[0] != b"ok":
            raise _mismatch(answer[0].decode(), _text(answer[1]), self._topic, partition, self._stored_as(log))
        position, answered_until, lost = map(int, answer[1:])
        return Ownership(token, position, answered_until, lost)

    def _stored_as(self, log: LogBounds) -> dict[str, str]:
        return {"cluster": self._cluster, "partitions": str(self._n_partitions), "ahead": str(log.end)}

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        """See `SessionStore.load`."""
        if not keys:
            return []
        names = self._keys(partition)
        wanted = [*map(names.session, keys), *map(names.seen, keys)]
        found = cast("list[bytes | None]", await self._client.mget(wanted))
        pairs = zip(found[: len(keys)], found[len(keys) :], strict=True)
        return [None if packed is None else StoredSession(packed, seen or b"") for packed, seen in pairs]

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        """See `SessionStore.popularity`."""
        keys = self._keys(partition)
        counts: dict[tuple[str, str], float] = {}
        members: Any = await self._client.smembers(keys.catalogues)
        for catalogue in sorted(name.decode() for name in members):
            stored: Any = await self._client.hgetall(keys.popularity(catalogue))
            for item_id, count in stored.items():
                counts[catalogue, item_id.decode()] = struct.unpack("<d", count)[0]
        return counts

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        """See `SessionStore.apply`."""
        keys = self._keys(partition)
        by_catalogue: dict[str, list[str | bytes]] = {}
        for (catalogue, item_id), count in changes.popularity.items():
            by_catalogue.setdefault(catalogue, []).extend((item_id, struct.pack("<d", count)))
        args: list[Any] = [token, changes.start, changes.end, *self._ttls_ms]
        args += (len(changes.sessions), len(changes.seen), len(by_catalogue))
        for catalogue, pairs in by_catalogue.items():
            args += (catalogue, len(pairs) // 2)
        args.append(len(changes.counters))
        for name, increment in changes.counters.items():
            args += (name, increment)
        for pairs in by_catalogue.values():
            args += pairs
        args += changes.sessions.values()
        args += changes.seen.values()
        answer = await self._apply(
            keys=[
                keys.owner,
                keys.applied,
                keys.counters,
                keys.catalogues,
                *(keys.popularity(catalogue) for catalogue in by_catalogue),
                *map(keys.session, changes.sessions),
                *map(keys.seen, changes.seen),
                *map(keys.seen, changes.unchanged_seen),
            ],
            args=args,
        )
        return Applied(answer.decode())


def _text(value: bytes | int) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _mismatch(kind: str, stored: str, topic: str, partition: int, found: Mapping[str, str]) -> StateMismatchError:
    what = {
        "cluster": "is of Kafka cluster {stored}, this one is {found}",
        "partitions": "was written with {stored} partitions of the topic, now it has {found}; a user's state would be"
        " looked for in another partition. Let the workers drain the topic before its partitions are changed",
        "ahead": "has applied everything before offset {stored}, but the log ends at {found}: the topic was truncated"
        " or made anew",
    }[kind].format(stored=stored, found=found[kind])
    error = StateAheadError if kind == "ahead" else StateMismatchError
    return error(
        f"the state of {topic!r}, partition {partition}, {what}. If that state is no longer wanted,"
        " `streamrec state reset` drops it and the workers rebuild it from the log."
    )


@dataclass
class _MemoryPartition:
    owner: str = ""
    position: int | None = None
    sessions: dict[SessionKey, bytes] = field(default_factory=dict)
    seen: dict[SessionKey, bytes] = field(default_factory=dict)
    popularity: dict[tuple[str, str], float] = field(default_factory=dict)
    counters: dict[str, int] = field(default_factory=dict)


class MemoryStore:
    """The same protocol in memory, for tests and simulations; sessions never expire."""

    def __init__(self, *, topic: str = "interactions", cluster: str = "memory", n_partitions: int = 1) -> None:
        self._topic, self._cluster, self._n_partitions = topic, cluster, n_partitions
        self.partitions = {partition: _MemoryPartition() for partition in range(n_partitions)}

    async def acquire(self, partition: int, log: LogBounds) -> Ownership:
        """See `SessionStore.acquire`; cluster and partition count cannot differ here."""
        stored = self.partitions[partition]
        lost = 0
        if stored.position is None:
            stored.position = log.start
        else:
            if stored.position > log.end:
                raise _mismatch("ahead", str(stored.position), self._topic, partition, {"ahead": str(log.end)})
            lost = max(0, log.start - stored.position)
            stored.position = max(log.start, stored.position)
        stored.owner = secrets.token_hex(16)
        return Ownership(stored.owner, stored.position, max(stored.position, log.committed or 0), lost)

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        """See `SessionStore.load`."""
        stored = self.partitions[partition]
        return [
            StoredSession(stored.sessions[key], stored.seen.get(key, b"")) if key in stored.sessions else None
            for key in keys
        ]

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        """See `SessionStore.popularity`."""
        return dict(self.partitions[partition].popularity)

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        """See `SessionStore.apply`."""
        stored = self.partitions[partition]
        if stored.owner != token:
            return Applied.FENCED
        if stored.position == changes.end:
            return Applied.DONE
        if stored.position != changes.start:
            return Applied.REFUSED
        stored.sessions.update(changes.sessions)
        stored.seen.update(changes.seen)
        stored.popularity.update(changes.popularity)
        for name, increment in changes.counters.items():
            stored.counters[name] = stored.counters.get(name, 0) + increment
        stored.position = changes.end
        return Applied.OK
