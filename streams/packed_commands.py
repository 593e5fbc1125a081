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
        encode, head = self.encoder.encode, b"*%d\r\n$%d\r\n"
        data = [a if type(a) is bytes else a.encode() if type(a) is str else encode(a) for a in (*words, *others)]
        # Behind each argument its end, and before the next its length; redis-py's own encoder does the rare kinds.
        ends = [b"\r\n$%d\r\n" % len(each) for each in data[1:]] + [b"\r\n"]
        pieces = [head % (len(data), len(data[0]))]
        for argument, end in zip(data, ends, strict=True):
            pieces.append(argument)
            pieces.append(end)
        return pieces


def packed_at_once(client: ClientT) -> ClientT:
    """Let a client that has not connected yet pack its commands so."""
    pool = client.connection_pool
    pool.connection_class = type("PackedConnection", (_Packed, pool.connection_class), {})
    return client
