"""What every `SessionStore` must do, run by each implementation."""

from __future__ import annotations

import asyncio
import uuid
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from math import inf, nextafter

import pytest
import redis.asyncio
from redis.exceptions import ConnectionError as RedisConnectionError

from streams.errors import StateMismatchError
from streams.inspection import StateReader
from streams.session import Session, SessionKey, StoredSession, pack
from streams.settings import RedisSettings
from streams.store import (
    SEEN_REFRESH,
    Applied,
    Changes,
    Keys,
    LogBounds,
    MemoryStore,
    Ownership,
    RedisStore,
    SessionStore,
)

N_PARTITIONS = 3
EMPTY = LogBounds(0, 0, None)
LOG = LogBounds(0, 1000, None)
U, V = SessionKey("default", "u"), SessionKey("default", "v")


def changes(start: int, end: int, blob: bytes = b"session") -> Changes:
    return Changes(start, end, {U: blob}, {("default", "1"): 0.5}, {"events": end - start})


async def packed(store: SessionStore, keys: Sequence[SessionKey], partition: int = 0) -> list[bytes | None]:
    """The stored sessions alone."""
    return [stored and stored.packed for stored in await store.load(partition, keys)]


class SessionStoreContract(ABC):
    @pytest.fixture
    @abstractmethod
    async def store(self) -> SessionStore:
        """A store of N_PARTITIONS partitions that holds nothing."""

    @abstractmethod
    async def counters(self, store: SessionStore, partition: int) -> dict[str, int]:
        """The running totals of a partition."""

    async def state(self, store: SessionStore, partition: int = 0) -> tuple[object, ...]:
        """All that can be seen of a partition, its owner aside."""
        loaded = await packed(store, [U, V], partition)
        return loaded, await store.popularity(partition), await self.counters(store, partition)

    # --- acquire

    async def test_a_new_partition_begins_at_the_start_of_its_log(self, store: SessionStore) -> None:
        ownership = await store.acquire(0, LogBounds(7, 1000, None))
        assert ownership[1:] == (7, 7, 0)
        assert ownership.token

    async def test_what_the_group_has_committed_was_answered_but_is_not_applied(self, store: SessionStore) -> None:
        assert (await store.acquire(0, LogBounds(0, 1000, 40)))[1:] == (0, 40, 0)

    async def test_a_commit_behind_the_state_means_nothing(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        assert (await store.acquire(0, LogBounds(0, 1000, 4)))[1:] == (10, 10, 0)

    async def test_a_next_owner_goes_on_where_the_state_ends(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        assert (await store.acquire(0, LOG))[1:] == (10, 10, 0)

    async def test_state_that_ends_with_the_log_is_no_mismatch(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 1000))
        assert (await store.acquire(0, LOG)).position == 1000

    async def test_an_empty_log_is_a_log(self, store: SessionStore) -> None:
        assert (await store.acquire(0, EMPTY))[1:] == (0, 0, 0)

    async def test_every_token_is_another(self, store: SessionStore) -> None:
        tokens = [(await store.acquire(p % N_PARTITIONS, LOG)).token for p in range(20)]
        assert len(set(tokens)) == 20

    async def test_what_retention_took_is_told_once(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        later = LogBounds(25, 1000, None)
        assert (await store.acquire(0, later))[1:] == (25, 25, 15)
        assert (await store.acquire(0, later))[1:] == (25, 25, 0)

    async def test_after_retention_the_next_batch_begins_at_the_logs_start(self, store: SessionStore) -> None:
        await store.acquire(0, LOG)
        token = (await store.acquire(0, LogBounds(25, 1000, None))).token
        assert await store.apply(0, token, changes(25, 26)) is Applied.OK

    async def test_state_ahead_of_the_log_is_refused_with_the_way_out(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        with pytest.raises(
            StateMismatchError, match=r"partition 0.*before offset 10.*ends at 9.*streamrec state reset"
        ):
            await store.acquire(0, LogBounds(0, 9, None))

    async def test_a_refused_take_over_leaves_the_owner(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        with pytest.raises(StateMismatchError):
            await store.acquire(0, EMPTY)
        assert await store.apply(0, token, changes(10, 11)) is Applied.OK

    # --- apply

    async def test_a_batch_sets_sessions_counts_and_the_offset(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        assert await store.apply(0, token, changes(0, 10)) is Applied.OK
        assert await self.state(store) == ([b"session", None], {("default", "1"): 0.5}, {"events": 10})

    async def test_what_a_user_has_seen_is_stored_beside_the_session_and_stays_until_it_changes(
        self, store: SessionStore
    ) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, {U: b"1", V: b"1"}, seen={U: b"seen"}))
        await store.apply(0, token, Changes(1, 2, {U: b"2"}, unchanged_seen=[U]))
        assert await store.load(0, [V, U]) == [StoredSession(b"1", b""), StoredSession(b"2", b"seen")]
        await store.apply(0, token, Changes(2, 3, {U: b"3"}, seen={U: b"more"}))
        assert await store.load(0, [U]) == [StoredSession(b"3", b"more")]

    async def test_more_counts_than_one_command_takes_are_all_set(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        counts = {(catalogue, str(i)): float(i) for catalogue in ("a", "b") for i in range(2501)}
        assert await store.apply(0, token, Changes(0, 1, {U: b"u"}, counts)) is Applied.OK
        assert await store.popularity(0) == counts
        assert await packed(store, [U]) == [b"u"]

    async def test_counters_are_added_and_the_rest_is_set(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10, b"old"))
        await store.apply(
            0, token, Changes(10, 15, {U: b"new", V: b"v"}, {("default", "1"): 2.0}, {"events": 5, "x": 0})
        )
        assert await self.state(store) == ([b"new", b"v"], {("default", "1"): 2.0}, {"events": 15, "x": 0})

    async def test_the_same_batch_again_is_done_and_changes_nothing(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        before = await self.state(store)
        assert await store.apply(0, token, changes(0, 10, b"other")) is Applied.DONE
        assert await self.state(store) == before

    @pytest.mark.parametrize(("start", "end"), [(0, 11), (9, 11), (11, 12), (0, 9), (5, 8)])
    async def test_a_batch_that_does_not_begin_where_the_state_ends_is_refused(
        self, store: SessionStore, start: int, end: int
    ) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        before = await self.state(store)
        assert await store.apply(0, token, changes(start, end, b"other")) is Applied.REFUSED
        assert await self.state(store) == before

    async def test_an_earlier_owner_is_fenced_whatever_it_sends(self, store: SessionStore) -> None:
        old = (await store.acquire(0, LOG)).token
        await store.apply(0, old, changes(0, 10))
        await store.acquire(0, LOG)
        before = await self.state(store)
        for start, end in ((0, 10), (10, 20), (5, 8)):
            assert await store.apply(0, old, changes(start, end, b"other")) is Applied.FENCED
        assert await self.state(store) == before

    @pytest.mark.parametrize("token", ["", "0", "nil"])
    async def test_without_an_owner_nobody_may_write(self, store: SessionStore, token: str) -> None:
        if token:
            assert await store.apply(0, token, changes(0, 10)) is Applied.FENCED
        await store.acquire(0, LOG)
        assert await store.apply(0, token, changes(0, 10)) is Applied.FENCED

    async def test_one_of_two_that_write_at_once_wins(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        answers = await asyncio.gather(*(store.apply(0, token, changes(0, n, b"%d" % n)) for n in range(1, 6)))
        assert answers.count(Applied.OK) == 1
        winner = 1 + answers.index(Applied.OK)
        assert await self.state(store) == ([b"%d" % winner, None], {("default", "1"): 0.5}, {"events": winner})

    async def test_of_two_that_take_over_at_once_one_may_write(self, store: SessionStore) -> None:
        owners: list[Ownership] = await asyncio.gather(*(store.acquire(0, LOG) for _ in range(5)))
        answers = [await store.apply(0, owner.token, changes(0, 10)) for owner in owners]
        assert sorted(a.value for a in answers) == ["fenced"] * 4 + ["ok"]

    async def test_a_batch_without_changes_moves_the_offset(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        assert await store.apply(0, token, Changes(0, 30)) is Applied.OK
        assert (await store.acquire(0, LOG)).position == 30

    async def test_offsets_may_be_as_large_as_they_get(self, store: SessionStore) -> None:
        """A script's numbers are doubles; 2 ** 53 is where they end."""
        start, end = 2**53 - 100, 2**53 - 1
        token = (await store.acquire(0, LogBounds(start, end, start + 1))).token
        assert await store.apply(0, token, changes(start, start + 10)) is Applied.OK
        assert (await store.acquire(0, LogBounds(start + 50, end, None)))[1:] == (start + 50, start + 50, 40)

    async def test_a_batch_may_be_large(self, store: SessionStore) -> None:
        """More values than a script's stack holds."""
        n = 9000
        sessions = {SessionKey("default", f"u{i}"): b"%d" % i for i in range(n)}
        counts = {("default", f"i{i}"): float(i) for i in range(n)}
        token = (await store.acquire(0, LOG)).token
        assert await store.apply(0, token, Changes(0, n, sessions, counts, {"events": n})) is Applied.OK
        assert await store.popularity(0) == counts
        assert await packed(store, list(sessions)) == list(sessions.values())

    # --- what is stored comes back

    async def test_sessions_come_back_in_the_order_of_their_keys(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, {U: b"u", V: b"v"}))
        assert await packed(store, [V, SessionKey("default", "w"), U]) == [b"v", None, b"u"]
        assert await store.load(0, []) == []

    async def test_any_bytes_come_back(self, store: SessionStore) -> None:
        token = (await store.acquire(0, LOG)).token
        blob = bytes(range(256)) * 100
        await store.apply(0, token, Changes(0, 1, {U: blob, V: b""}))
        assert await packed(store, [U, V]) == [blob, b""]

    async def test_any_id_is_a_key_and_no_two_meet(self, store: SessionStore) -> None:
        ids = [
            "u",
            "U",
            "u:u",
            "{u}",
            "u ",
            "*",
            "?[a]",
            "\\",
            "ü",
            "u\u0308",
            "\U0001f600",
            "x" * 256,
            "\n",
            "\0",
            "owner",
        ]
        sessions = {SessionKey(c, u): f"{c} {u}".encode() for c in ("default", "books", "{x}", "s") for u in ids}
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, sessions))
        assert await packed(store, list(sessions)) == list(sessions.values())

    async def test_counts_come_back_bit_by_bit(self, store: SessionStore) -> None:
        values = [0.0, -0.0, 0.1, -1e300, 5e-324, nextafter(1.0, 2.0), 19_700.123456789, inf]
        counts = {(c, f"i:{n}/ü"): v for c in ("default", "b ooks", "{x}") for n, v in enumerate(values)}
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, {}, counts))
        found = await store.popularity(0)
        assert {k: v.hex() for k, v in found.items()} == {k: v.hex() for k, v in counts.items()}

    async def test_partitions_know_nothing_of_each_other(self, store: SessionStore) -> None:
        tokens = [(await store.acquire(p, LOG)).token for p in range(N_PARTITIONS)]
        await store.apply(1, tokens[1], changes(0, 10))
        assert await self.state(store, 0) == ([None, None], {}, {})
        assert (await store.acquire(2, LOG)).position == 0
        assert await store.apply(0, tokens[1], changes(0, 10)) is Applied.FENCED
        assert await store.apply(1, tokens[1], changes(10, 11)) is Applied.OK


class TestMemoryStore(SessionStoreContract):
    @pytest.fixture
    async def store(self) -> MemoryStore:
        return MemoryStore(n_partitions=N_PARTITIONS)

    async def counters(self, store: SessionStore, partition: int) -> dict[str, int]:
        assert isinstance(store, MemoryStore)
        return dict(store.partitions[partition].counters)


@pytest.fixture
async def client(redis_server: RedisSettings) -> AsyncIterator[redis.asyncio.Redis]:
    client = redis_server.client()
    yield client
    await client.aclose()


@pytest.fixture
def topic() -> str:
    """A topic that no other test uses."""
    return f"t-{uuid.uuid4().hex[:8]}"


class TestRedisStore(SessionStoreContract):
    @pytest.fixture
    async def store(self, client: redis.asyncio.Redis, topic: str) -> RedisStore:
        return RedisStore(client, topic=topic, cluster="c", n_partitions=N_PARTITIONS)

    @pytest.fixture(autouse=True)
    def _remember(self, client: redis.asyncio.Redis, topic: str) -> None:
        self.client, self.topic = client, topic

    async def counters(self, store: SessionStore, partition: int) -> dict[str, int]:
        stored = await self.client.hgetall(Keys.of("", self.topic, partition).counters)
        return {name.decode(): int(value) for name, value in stored.items()}

    async def test_state_of_another_cluster_is_refused(self, store: RedisStore) -> None:
        await store.acquire(0, LOG)
        other = RedisStore(self.client, topic=self.topic, cluster="d", n_partitions=N_PARTITIONS)
        with pytest.raises(StateMismatchError, match=r"is of Kafka cluster c, this one is d.*streamrec state reset"):
            await other.acquire(0, LOG)

    async def test_state_of_another_partition_count_is_refused(self, store: RedisStore) -> None:
        await store.acquire(0, LOG)
        other = RedisStore(self.client, topic=self.topic, cluster="c", n_partitions=8)
        with pytest.raises(StateMismatchError, match="written with 3 partitions of the topic, now it has 8"):
            await other.acquire(0, LOG)

    async def test_every_key_of_a_partition_lies_in_one_slot_of_a_cluster(self, store: RedisStore) -> None:
        """Also where ids and catalogues hold braces."""
        token = (await store.acquire(1, LOG)).token
        given = Changes(0, 1, {SessionKey("{x}", "{y}"): b"s"}, {("{x}", "{z}"): 1.0}, {"events": 1})
        await store.apply(1, token, given)
        keys = [key async for key in self.client.scan_iter(match=f"*{self.topic}*")]
        assert len(keys) == 6
        assert {key.decode().partition("}")[0] for key in keys} == {f"{{{self.topic}:1"}

    async def test_a_prefix_stands_before_every_key(self) -> None:
        store = RedisStore(self.client, topic=self.topic, cluster="c", n_partitions=1, prefix="shop:")
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 1))
        keys = [key async for key in self.client.scan_iter(match=f"*{self.topic}*")]
        assert len(keys) == 6
        assert all(key.startswith(f"shop:{{{self.topic}:0}}".encode()) for key in keys)
        assert (
            await RedisStore(self.client, topic=self.topic, cluster="c", n_partitions=1).acquire(0, LOG)
        ).position == 0

    async def test_what_is_stored_can_be_looked_at_whether_its_user_has_seen_anything_or_not(
        self, store: RedisStore, redis_server: RedisSettings
    ) -> None:
        blob = pack(Session(applied_offset=0))
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, {U: blob, V: blob}, seen={V: b"seen"}))
        client = redis_server.sync_client()
        reader = StateReader(client, self.topic)
        found = dict(await asyncio.to_thread(lambda: list(reader.sessions(0))))
        client.close()
        assert {key: session.seen for key, session in found.items()} == {U: b"", V: b"seen"}

    async def test_a_session_expires_and_each_event_puts_that_off(self) -> None:
        name = Keys.of("", self.topic, 0).session(U)
        for offset, ttl in enumerate((timedelta(hours=1), timedelta(hours=3))):
            store = RedisStore(self.client, topic=self.topic, cluster="c", n_partitions=1, session_ttl=ttl)
            token = (await store.acquire(0, LOG)).token
            await store.apply(0, token, changes(offset, offset + 1))
            assert 0.9 < await self.client.pttl(name) / (ttl.total_seconds() * 1000) <= 1

    async def test_what_was_seen_expires_with_its_session_and_not_before(self, store: RedisStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, Changes(0, 1, {U: b"1"}, seen={U: b"seen"}))
        name = Keys.of("", self.topic, 0).seen(U)
        await self.client.pexpire(name, 1000)
        await store.apply(0, token, Changes(1, 2, {U: b"2"}, unchanged_seen=[U]))
        assert await self.client.pttl(name) > 1000

    async def test_what_was_seen_outlives_its_session_by_as_long_as_it_may_go_unmentioned(self) -> None:
        ttl, keys = timedelta(hours=2), Keys.of("", self.topic, 0)
        store = RedisStore(self.client, topic=self.topic, cluster="c", n_partitions=1, session_ttl=ttl)
        token = (await store.acquire(0, LOG)).token
        for given in (
            Changes(0, 1, {U: b"1", V: b"1"}, {("default", "1"): 0.5}, {"events": 1}, {U: b"seen", V: b"seen"}),
            Changes(1, 2, {U: b"2", V: b"2"}, unchanged_seen=[V, U]),
        ):
            await store.apply(0, token, given)
            for key in (U, V):
                lives_ms = [await self.client.pttl(name) for name in (keys.session(key), keys.seen(key))]
                expected_ms = [each.total_seconds() * 1000 for each in (ttl, ttl + SEEN_REFRESH)]
                assert lives_ms == pytest.approx(expected_ms, rel=0.1)

    async def test_nothing_but_sessions_expires(self, store: RedisStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 1))
        keys = Keys.of("", self.topic, 0)
        for name in (keys.owner, keys.applied, keys.counters, keys.catalogues, keys.popularity("default")):
            assert await self.client.ttl(name) == -1

    async def test_scripts_survive_a_flush_of_the_script_cache(self, store: RedisStore) -> None:
        """As after a restart of the server."""
        token = (await store.acquire(0, LOG)).token
        await self.client.script_flush()
        assert await store.apply(0, token, changes(0, 1)) is Applied.OK

    async def test_a_lost_owner_key_fences_everyone(self, store: RedisStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await self.client.delete(Keys.of("", self.topic, 0).owner)
        assert await store.apply(0, token, changes(0, 1)) is Applied.FENCED

    async def test_state_that_vanished_refuses_the_batch(self, store: RedisStore) -> None:
        token = (await store.acquire(0, LOG)).token
        await store.apply(0, token, changes(0, 10))
        await self.client.delete(Keys.of("", self.topic, 0).applied)
        assert await store.apply(0, token, changes(10, 11)) is Applied.REFUSED

    async def test_a_server_that_is_away_is_an_error_of_redis(self, topic: str) -> None:
        nowhere = redis.asyncio.Redis(port=1, socket_connect_timeout=1, retry=None)
        store = RedisStore(nowhere, topic=topic, cluster="c", n_partitions=1)
        with pytest.raises(RedisConnectionError):
            await store.acquire(0, LOG)
        await nowhere.aclose()
