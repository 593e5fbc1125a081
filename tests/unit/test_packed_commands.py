"""Commands packed in one pass are redis-py's, byte for byte."""

from __future__ import annotations

from typing import Any

import pytest
import redis.asyncio
from redis.exceptions import DataError

from streams.packed_commands import packed_at_once
from streams.settings import RedisSettings

URLS = ["redis://localhost:1", "rediss://localhost:1", "unix:///tmp/none.sock"]


def connection(url: str, packed: bool) -> Any:
    client = redis.asyncio.Redis.from_url(url)
    return (packed_at_once(client) if packed else client).connection_pool.make_connection()


@pytest.mark.parametrize("url", URLS)
@pytest.mark.parametrize(
    "command",
    [
        ("PING",),
        ("SET", "k", b"\x00\xff\r\n", "PX", 7),
        ("CONFIG GET", "maxmemory"),
        (b"EVALSHA", "ä" * 300, 2, b"k", "", -1, 1.5, b"x" * 70_000),
        (b"CONFIG GET", bytearray(b"max"), memoryview(b"memory")),
    ],
)
def test_a_command_is_packed_as_redis_py_packs_it(url: str, command: tuple[Any, ...]) -> None:
    ours, theirs = (connection(url, packed).pack_command(*command) for packed in (True, False))
    assert b"".join(ours) == b"".join(theirs)


def test_what_is_no_argument_is_an_error_of_redis_py() -> None:
    with pytest.raises(DataError):
        connection(URLS[0], packed=True).pack_command("SET", "k", None)


def test_the_kind_of_a_connection_stays() -> None:
    made = connection(URLS[1], packed=True)
    assert isinstance(made, redis.asyncio.SSLConnection)


def test_workers_pack_so() -> None:
    pool = RedisSettings().client().connection_pool
    assert pool.connection_class.__name__ == "PackedConnection"
