"""Reading and dropping stored state from outside the workers: for commands, the demo and tests."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from encoders.records import DEFAULT_CATALOGUE
from streams.routing import partition_of
from streams.session import Session, SessionKey, unpack
from streams.store import Keys

if TYPE_CHECKING:
    import redis

    from streams.settings import KafkaSettings, RedisSettings

_AT_ONCE = 500
"""Keys to a command."""

_RESET = """
-- KEYS: owner, which names the partition's slot. ARGV: pattern of all its keys.
local names = redis.call('KEYS', ARGV[1])
for _, name in ipairs(names) do redis.call('UNLINK', name) end
return #names
"""


class AppliedOffset(NamedTuple):
    """How far a partition's state has come."""

    offset: int
    """Offset of the next record to apply."""
    cluster: str
    partitions: int
    """How many partitions the topic had when the state was written."""


class StateReader:
    """State of one topic's partitions, as it is stored. Every method asks Redis and may raise its errors.

    Sessions are read one by one while workers write: each is consistent, all of them together are as of
    no single moment unless the stream stands still.

    Args:
        client: Returns bytes (``decode_responses=False``).
        topic: The source topic.
        prefix: What stands before every key.
    """

    def __init__(self, client: redis.Redis, topic: str, prefix: str = "") -> None:
        self._client: Any = client
        self._topic = topic
        self._prefix = prefix

    @classmethod
    def of(cls, redis_settings: RedisSettings, kafka: KafkaSettings) -> StateReader:
        """A reader of what workers with these settings write."""
        return cls(redis_settings.sync_client(), kafka.topics.interactions, redis_settings.key_prefix)

    def partitions(self) -> list[int]:
        """The partitions that have state."""
        head = f"{self._prefix}{{{self._topic}:"
        found = self._client.scan_iter(match=f"{_escaped(head)}*:applied", count=_AT_ONCE)
        numbers = (key.decode().removeprefix(head).removesuffix("}:applied") for key in found)
        return sorted(int(number) for number in numbers if number.isdecimal())

    def applied(self, partition: int) -> AppliedOffset | None:
        """How far the partition's state has come; None if it has none."""
        stored = self._client.hgetall(self._keys(partition).applied)
        if not stored:
            return None
        return AppliedOffset(int(stored[b"offset"]), stored[b"cluster"].decode(), int(stored[b"partitions"]))

    def home_of(self, user_id: str) -> int | None:
        """The partition that holds the user's state; None while there is no state at all."""
        for partition in self.partitions():
            if applied := self.applied(partition):
                return partition_of(user_id, applied.partitions)
        return None

    def session(self, user_id: str, catalogue: str = DEFAULT_CATALOGUE) -> Session | None:
        """One user's session; None if there is none.

        Raises:
            StateFormatError: If this version of streamrec cannot read it.
        """
        home = self.home_of(user_id)
        if home is None:
            return None
        keys, key = self._keys(home), SessionKey(catalogue, user_id)
        blob, seen = self._client.mget([keys.session(key), keys.seen(key)])
        return None if blob is None else unpack(blob, seen or b"")

    def sessions(self, partition: int) -> Iterator[tuple[SessionKey, Session]]:
        """All sessions of a partition, in no order.

        Raises:
            StateFormatError: If this version of streamrec cannot read one of them.
        """
        keys = self._keys(partition)
        names = sorted(set(self._client.scan_iter(match=keys.every_session, count=_AT_ONCE)))
        for start in range(0, len(names), _AT_ONCE):
            chunk = names[start : start + _AT_ONCE]
            found = [_session_key(name, keys.tag) for name in chunk]
            stored = self._client.mget([*chunk, *map(keys.seen, found)])
            for key, blob, seen in zip(found, stored[: len(found)], stored[len(found) :], strict=True):
                if blob is not None:  # it may have expired since
                    yield key, unpack(blob, seen or b"")

    def reset(self, partition: int) -> int:
        """Drop everything that is stored of a partition: sessions, counts, offset and owner, all at once.

        Safe while workers run: the one that has the partition can write nothing from then on, takes it
        anew and rebuilds its state from the log. Redis is busy for as long as it takes.

        Returns:
            How many keys were dropped.
        """
        keys = self._keys(partition)
        return int(self._client.eval(_RESET, 1, keys.owner, f"{_escaped(keys.tag)}:*"))

    def _keys(self, partition: int) -> Keys:
        return Keys.of(self._prefix, self._topic, partition)


def _session_key(name: bytes, tag: str) -> SessionKey:
    """A session key's parts. A catalogue's name ends at the first colon."""
    catalogue, _, user_id = name.decode().removeprefix(f"{tag}:s:").partition(":")
    return SessionKey(catalogue, user_id)


def _escaped(text: str) -> str:
    return "".join(f"\\{c}" if c in "*?[]\\" else c for c in text)
