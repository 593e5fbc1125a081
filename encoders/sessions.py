"""What a session is to a model that learns as it goes (`LiveRetriever`): one rule for trainer and worker.

Without a session gap in the window rule, a session is all that a user does. With one, a pause longer than that begins a
new session, as it empties the window; a session is then known by its user and by when the oldest entry of its window
happened. So its code follows from the window alone, and nobody has to remember it. A window that is full restarts from
its newest half, and what comes then counts as another session of the same user.

Evaluation on data sets (`trainer.evaluation.live`) means the same where their rule has no gap: a session is a user, and
in data sets of sessions each of these is a user of its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.protocols import IntArray

_SPREAD = np.uint64(0x9E3779B97F4A7C15)
"""Moves one second far, so that the sessions of two users whose hashes lie close together do not meet."""


def user_hashes(user_ids: Iterable[str]) -> npt.NDArray[np.uint64]:
    """64-bit identities of users: BLAKE2b."""
    digests = b"".join([blake2b(user_id.encode(), digest_size=8).digest() for user_id in user_ids])
    return np.frombuffer(digests, dtype="<u8").astype(np.uint64)


def session_codes(
    users: npt.NDArray[np.uint64], oldest_s: npt.NDArray[np.integer[Any]], session_gap_s: int | None
) -> IntArray:
    """The code of the session that each event belongs to.

    Args:
        users: From `user_hashes`, of the event's user.
        oldest_s: When the oldest entry of the window happened that the event has entered, in whole seconds since 1970.
        session_gap_s: Of the window rule.

    Shape:
        - users, oldest_s: ``(B,)``
        - Output: ``(B,)``

    Example:
        >>> users = user_hashes(["ann", "ann", "bob"])
        >>> codes = session_codes(users, np.array([100, 900, 900]), session_gap_s=60)
        >>> len(set(codes.tolist())), len(set(session_codes(users, np.array([100, 900, 900]), None).tolist()))
        (3, 2)
    """
    if session_gap_s is None:
        return users.astype(np.int64)
    return (users + oldest_s.astype(np.uint64) * _SPREAD).astype(np.int64)
