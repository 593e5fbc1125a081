"""Redis commands packed in C, by the library that redis-py parses answers with.

redis-py packs with it where it blocks. For asyncio it goes through the arguments in Python, a microsecond for each, and
the script that stores a batch has four for every event.
"""

from __future__ import annotations

from typing import Any, TypeVar

import hiredis
import redis.asyncio
from redis.exceptions import DataError

ClientT = TypeVar("ClientT", bound="redis.asyncio.Redis")


class _Packed:
    """What a connection of any kind is made of, too."""

    def pack_command(self, *args: Any) -> list[bytes]:
        """A command as Redis reads it; one of several words is several arguments.

        Raises:
            redis.exceptions.DataError: If an argument is no text, bytes or number.
        """
        name, *others = args
        words = name.encode().split() if isinstance(name, str) else name.split()
        try:
            return [hiredis.pack_command((*words, *others))]
        except TypeError as error:
            raise DataError(str(error)) from error


def packed_in_c(client: ClientT) -> ClientT:
    """Let a client that has not connected yet pack its commands in C."""
    pool = client.connection_pool
    pool.connection_class = type("PackedConnection", (_Packed, pool.connection_class), {})
    return client
