"""Operational errors of the command line."""

from __future__ import annotations

from streams.errors import StreamsError


class SettingsError(StreamsError):
    """A setting is unknown or has a value that cannot be used.

    Operator: the message names each key and where its value came from; correct it there.
    """


class UnknownUserError(StreamsError):
    """Nothing is stored of the user that was asked for.

    Operator: check the id and the catalogue, and with `streamrec config --show` which Redis was asked.
    """


class NoRoomError(StreamsError):
    """What a command is to write cannot be written to where it was told.

    Operator: the message names the option and the place; give another one, or make room.
    """
