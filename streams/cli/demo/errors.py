"""What can end the demo early."""

from __future__ import annotations

from streams.errors import StreamsError


class DemoError(StreamsError):
    """A part of the demo did not do in time what it is for, or ended by itself.

    Operator: the message names the log to read; the logs are kept.
    """
