"""What a record of a broadcast topic means. Nothing here raises on bad input: it returns why it refused.

Broadcast topics lie outside the delivery protocol: a record that makes no sense is counted, logged and
skipped, and the stream goes on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeVar

from pydantic import ValidationError

from encoders.records import ModelUpdate, Record, UserProfile

R = TypeVar("R", bound=Record)


class Refusal(NamedTuple):
    """Why a record was skipped."""

    reason: str
    """One word for metrics: `key`, `not-utf8`, `not-json` or `invalid`."""
    detail: str
    """What exactly is wrong, for people; never holds the record's content."""


Feed = Callable[[bytes | None, bytes | None], Refusal | None]
"""Applies one record, given as key and value; a value of None is a tombstone. Must not block or raise."""


def parse(kind: type[R], value: bytes) -> R | Refusal:
    """Read a record's wire form."""
    try:
        return kind.model_validate_json(value)
    except ValidationError as error:
        problem = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if problem["type"] != "json_invalid":
        return Refusal("invalid", f"{'.'.join(map(str, problem['loc'])) or 'record'}: {problem['msg']}")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        return Refusal("not-utf8", f"byte {error.start}: {error.reason}")
    return Refusal("not-json", problem["msg"])


def check_key(key: bytes | None, expected: bytes) -> Refusal | None:
    """Refuse a record whose key is not its identity: compaction and tombstones go by the key."""
    if key == expected:
        return None
    return Refusal("key", f"the key is {key!r}"[:200] + f", this record's must be {expected!r}")


def check_user(key: bytes | None, value: bytes | None) -> Refusal | None:
    """Judge a record of `users`; a worker keeps nothing of it yet."""
    if value is None:
        return None if key else Refusal("key", "a tombstone without a key removes nobody")
    profile = parse(UserProfile, value)
    return profile if isinstance(profile, Refusal) else check_key(key, profile.user_id.encode())


class ModelUpdates:
    """Hands on the updates of one model: the newest of the past, then each as it comes.

    A topic may hold many updates of a model, and loading each of them to reach the newest would
    take long; so nothing is handed on before `caught_up`.

    Args:
        model: Updates of any other model are not for this worker.
        offer: Takes an update; must not block.
    """

    def __init__(self, model: str, offer: Callable[[ModelUpdate], None]) -> None:
        self._model = model
        self._offer = offer
        self._newest: ModelUpdate | None = None
        self._live = False

    def apply(self, key: bytes | None, value: bytes | None) -> Refusal | None:
        """Take one record of `model-updates`. A tombstone withdraws what has not been handed on."""
        if value is None:
            if key == self._model.encode():
                self._newest = None
            return None
        update = parse(ModelUpdate, value)
        if isinstance(update, Refusal):
            return update
        if refusal := check_key(key, update.model.encode()):
            return refusal
        if update.model != self._model:
            return None
        if self._live:
            self._offer(update)
        else:
            self._newest = update
        return None

    def caught_up(self) -> None:
        """The end of the past: hand on the newest update, if there is one."""
        self._live = True
        if self._newest is not None:
            self._offer(self._newest)
            self._newest = None
