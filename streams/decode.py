"""From record bytes to interactions: what is valid, what is misplaced, what is dead.

Nothing here raises on bad input: a record that cannot be served becomes a `DeadLetter` with a reason.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Annotated, NamedTuple, Protocol

import msgspec
from pydantic import ValidationError

from encoders.events import EVENT_TRAITS, EventType
from encoders.records import DEFAULT_CATALOGUE, SCHEMA_VERSION, Interaction
from streams.routing import partition_of
from streams.session import SessionKey

_Name = Annotated[str, msgspec.Meta(min_length=1, max_length=128)]
_Id = Annotated[str, msgspec.Meta(min_length=1, max_length=256)]
_CatalogueName = Annotated[str, msgspec.Meta(min_length=1, max_length=128, pattern=r"^[^:/\x00]+\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0)]


_SCHEMA = b"%d" % SCHEMA_VERSION
_HEADERS = (("schema", _SCHEMA),)


class ConsumedRecord(Protocol):
    """The part of a Kafka record that streamrec reads; aiokafka's and kafka-python's both have it."""

    @property
    def topic(self) -> str: ...  # noqa: D102  # Kafka's own words
    @property
    def offset(self) -> int: ...  # noqa: D102
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


class PlainInteraction(msgspec.Struct, frozen=True, gc=False):
    """An `Interaction` that was read without pydantic: the same fields under the same rules, at a tenth of the cost.

    Whatever is not plainly valid is left to `Interaction`, which alone decides and explains; a property test holds
    the two together.
    """

    event_id: _Name
    user_id: _Id
    event_type: EventType
    timestamp_ms: _Count
    item_id: _Id | None = None
    catalogue: _CatalogueName = DEFAULT_CATALOGUE
    scene: _Name | None = None
    session_id: _Name | None = None
    value: float | None = None
    query: str | None = None
    recommendation_id: _Name | None = None
    position: _Count | None = None
    context: dict[str, str | int | float | bool | None] = {}  # msgspec copies it


_read_plain = msgspec.json.Decoder(PlainInteraction).decode


class Event(msgspec.Struct, frozen=True, gc=False):
    """A valid interaction in its place."""

    offset: int
    interaction: Interaction | PlainInteraction
    key: SessionKey

    @classmethod
    def of(cls, offset: int, interaction: Interaction | PlainInteraction) -> Event:
        """The event of an interaction at an offset."""
        return cls(offset, interaction, SessionKey(interaction.catalogue, interaction.user_id))


class DeadLetter(NamedTuple):
    """A record that cannot be served."""

    record: ConsumedRecord
    reason: str
    """One word for metrics: `empty`, `too-large`, `not-utf8`, `not-json`, `schema`, `invalid` or `timestamp`."""
    detail: str
    """What exactly is wrong, for people; never holds the record's content."""


class Misplaced(NamedTuple):
    """A valid record outside its user's partition, to be forwarded there."""

    record: ConsumedRecord
    user_id: str
    partition: int


@dataclass(frozen=True, slots=True)
class Decoded:
    """A batch of records, sorted out; each list is in the order of offsets."""

    events: list[Event] = field(default_factory=list)
    dead: list[DeadLetter] = field(default_factory=list)
    misplaced: list[Misplaced] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a record may be at most."""

    max_future: timedelta = timedelta(hours=24)
    """How far after now an event time may lie."""
    max_record_bytes: int = 262_144
    """Largest record that counts as an interaction: key, value and headers."""


def decode(
    records: Sequence[ConsumedRecord], *, partition: int, n_partitions: int, limits: Limits, now_ms: int
) -> Decoded:
    """Sort the records of one partition into events, dead letters and misplaced ones.

    Args:
        records: In the order of offsets.
        partition: The partition that they come from.
        n_partitions: How many partitions the topic has.
        limits: Bounds on size and event time.
        now_ms: The clock, milliseconds since 1970.
    """
    decoded = Decoded()
    latest_ms = now_ms + int(limits.max_future.total_seconds() * 1000)
    keep, short = decoded.events.append, limits.max_record_bytes // 2
    for record in records:
        value, headers = record.value, record.headers
        if value and len(value) < short and (not headers or headers == _HEADERS) and len(record.key or b"") < short - 7:
            outcome = _interaction(record, value, latest_ms)
        else:
            outcome = _examined(record, limits, latest_ms)
        if isinstance(outcome, DeadLetter):
            decoded.dead.append(outcome)
            continue
        user_id = outcome.user_id
        home = partition_of(user_id, n_partitions)
        if home == partition:
            keep(Event(record.offset, outcome, SessionKey(outcome.catalogue, user_id)))
        else:
            decoded.misplaced.append(Misplaced(record, user_id, home))
    return decoded


def _examined(record: ConsumedRecord, limits: Limits, latest_ms: int) -> Interaction | PlainInteraction | DeadLetter:
    """What a record is that may be empty, too large or of another schema."""
    value = record.value
    if not value:
        return DeadLetter(record, "empty", "the record has no value")
    size = len(value) + len(record.key or b"")
    version: bytes | None = _SCHEMA
    for name, held in record.headers or ():
        size += len(name) + len(held or b"")
        if name == "schema" and version == _SCHEMA:
            version = held
    if size > limits.max_record_bytes:
        return DeadLetter(record, "too-large", f"{size} bytes, at most {limits.max_record_bytes} are read")
    if version != _SCHEMA:
        return DeadLetter(record, "schema", f"schema {(version or b'')[:20]!r} is not {SCHEMA_VERSION}")
    return _interaction(record, value, latest_ms)


def _interaction(record: ConsumedRecord, value: bytes, latest_ms: int) -> Interaction | PlainInteraction | DeadLetter:
    try:
        interaction = read_interaction(value)
    except ValidationError as error:
        return _explain(record, value, error)
    if interaction.timestamp_ms > latest_ms:
        return DeadLetter(record, "timestamp", f"timestamp_ms {interaction.timestamp_ms} is after {latest_ms}")
    return interaction


def read_interaction(value: bytes) -> Interaction | PlainInteraction:
    """An interaction from its wire form.

    Raises:
        pydantic.ValidationError: If it is none.
    """
    if value.isascii():  # in what it passes over, msgspec does not look whether it is UTF-8
        try:
            plain = _read_plain(value)
        except (msgspec.MsgspecError, RecursionError):
            return Interaction.model_validate_json(value)
        if plain.item_id is not None or not EVENT_TRAITS[plain.event_type].needs_item:
            return plain
    return Interaction.model_validate_json(value)


def _explain(record: ConsumedRecord, value: bytes, error: ValidationError) -> DeadLetter:
    problems = error.errors(include_url=False, include_context=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        try:
            value.decode()
        except UnicodeDecodeError as broken:
            return DeadLetter(record, "not-utf8", f"byte {broken.start}: {broken.reason}")
        return DeadLetter(record, "not-json", problems[0]["msg"])
    fields = {str(part) for problem in problems for part in problem["loc"][:1]}
    of_time = fields == {"timestamp_ms"} and problems[0]["type"] != "missing"
    reason = "timestamp" if of_time else "invalid"
    detail = "; ".join(f"{p['loc'][0] if p['loc'] else 'record'}: {p['msg']}" for p in problems[:5])
    return DeadLetter(record, reason, detail[:500])
