"""Redis commands packed in one pass, for clients on asyncio.

redis-py takes a microsecond for each argument, and the script that stores a batch has four for every event. What costs
there is joining pieces again and again; here whatever the connection writes them to joins them, once.
"""

from __future__ import annotations

from typing import Any, TypeVar

import redis.asyncio

ClientT = TypeVar("ClientT", bound="redis.asyncio.Redis")


class _Packed:
    """What a connection of any kind is made of, too."""

    encoder: Any

    def pack_command(self, *args: Any) -> list[bytes]:
        """A command as Redis reads it, in pieces; a name of several words is several arguments.

        Raises:
            redis.exceptions.DataError: If an argument is no text, bytes or number.
        """
        name, *others = args
        words = name.encode().split() if isinstance(name, str) else name.split() if b" " in name else [name]
        pieces: list[bytes] = [b"*%d\r\n" % (len(words) + len(others))]
        for argument in (*words, *others):
            data = argument if type(argument) is bytes else self.encoder.encode(argument)
            pieces += (b"$%d\r\n" % len(data), data, b"\r\n")
        return pieces


def packed_at_once(client: ClientT) -> ClientT:
    """Let a client that has not connected yet pack its commands so."""
    pool = client.connection_pool
    pool.connection_class = type("PackedConnection", (_Packed, pool.connection_class), {})
    return client
