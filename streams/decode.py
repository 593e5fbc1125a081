"""From record bytes to events: what is valid, what is misplaced, what is dead.

Nothing here raises on bad input: a record that cannot be served becomes a `DeadLetter` with a reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple, Protocol

import numpy as np
from pydantic import ValidationError

from encoders.events import EVENT_TRAITS
from encoders.records import DEFAULT_CATALOGUE, SCHEMA_VERSION, Interaction
from streams.columns import Received
from streams.parsing import Fields, read_fields
from streams.routing import homes, partition_of
from streams.texts import joined

_SCHEMA = b"%d" % SCHEMA_VERSION
_HEADER = ("schema", _SCHEMA)
_USUAL_HEADERS: tuple[Sequence[tuple[str, bytes]], ...] = ([_HEADER], (_HEADER,), [], ())
_HEADER_BYTES = sum(map(len, _HEADER))


class ConsumedRecord(Protocol):
    """The part of a Kafka record that streamrec reads; aiokafka's and kafka-python's both have it."""

    @property
    def offset(self) -> int: ...  # noqa: D102  # Kafka's own words
    @property
    def key(self) -> bytes | None: ...  # noqa: D102
    @property
    def value(self) -> bytes | None: ...  # noqa: D102
    @property
    def headers(self) -> Sequence[tuple[str, bytes | None]]: ...  # noqa: D102


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
    """A batch of records, sorted out; all in the order of offsets."""

    events: Received = field(default_factory=Received.nothing)
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
    # What a record says nothing of is the text before the first one.
    values = joined([DEFAULT_CATALOGUE.encode(), *[record.value or b"" for record in records]])
    fields = read_fields(values.data, values.ends[1:])
    is_event = fields.is_plain_R & (fields.timestamp_ms_R <= _latest_ms(limits, now_ms))
    is_event &= homes(values.data, fields.user_id_R2, n_partitions) == partition
    is_event &= np.array([record.headers in _USUAL_HEADERS for record in records], dtype=np.bool_)
    key_bytes = np.array([len(record.key or b"") for record in records], dtype=np.int64)
    is_event &= values.ends[2:] - values.ends[1:-1] + key_bytes + _HEADER_BYTES <= limits.max_record_bytes
    dead: list[DeadLetter] = []
    misplaced: list[Misplaced] = []
    others: dict[int, Interaction] = {}
    for r in np.flatnonzero(~is_event).tolist():
        outcome = decode_one(records[r], partition, n_partitions, limits, now_ms)
        if isinstance(outcome, DeadLetter):
            dead.append(outcome)
        elif isinstance(outcome, Misplaced):
            misplaced.append(outcome)
        else:
            others[r] = outcome
    whole = values.data.tobytes()
    if others:
        whole += _insert(fields, len(whole), others)
        is_event[list(others)] = True
    nameless = fields.catalogue_R2[:, 1] == 0
    fields.catalogue_R2[nameless] = values.ends[:2]
    offsets = np.array([record.offset for record in records], dtype=np.int64)
    if not is_event.all():
        fields, offsets = fields.where(is_event), offsets[is_event]
    return Decoded(Received.of(whole, offsets, fields), dead, misplaced)


def decoded(interactions: Sequence[Interaction]) -> Decoded:
    """Interactions as events, one offset after the other from 0."""
    latest_ms = max((interaction.timestamp_ms for interaction in interactions), default=0)
    records = [_Record(offset, interaction.to_json()) for offset, interaction in enumerate(interactions)]
    return decode(records, partition=0, n_partitions=1, limits=Limits(), now_ms=latest_ms)


class _Record(NamedTuple):
    offset: int
    value: bytes
    key: bytes | None = None
    headers: Sequence[tuple[str, bytes | None]] = ()


def _insert(fields: Fields, at: int, interactions: Mapping[int, Interaction]) -> bytes:
    """Put what was read otherwise into the columns; returns its texts, which stand from ``at`` on."""
    texts = b""
    for r, interaction in interactions.items():
        fields.type_R[r] = EVENT_TRAITS[interaction.event_type].code
        fields.timestamp_ms_R[r] = interaction.timestamp_ms
        for spans, text in (
            (fields.event_id_R2, interaction.event_id),
            (fields.user_id_R2, interaction.user_id),
            (fields.item_id_R2, interaction.item_id or ""),
            (fields.catalogue_R2, interaction.catalogue),
        ):
            first = at + len(texts)
            texts += text.encode()
            spans[r] = first, at + len(texts)
    return texts


def decode_one(
    record: ConsumedRecord, partition: int, n_partitions: int, limits: Limits, now_ms: int
) -> Interaction | DeadLetter | Misplaced:
    """What one record is; `decode` says the same of many."""
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
    try:
        interaction = Interaction.model_validate_json(value)
    except ValidationError as error:
        return _explain(record, value, error)
    latest_ms = _latest_ms(limits, now_ms)
    if interaction.timestamp_ms > latest_ms:
        return DeadLetter(record, "timestamp", f"timestamp_ms {interaction.timestamp_ms} is after {latest_ms}")
    home = partition_of(interaction.user_id, n_partitions)
    return interaction if home == partition else Misplaced(record, interaction.user_id, home)


def _latest_ms(limits: Limits, now_ms: int) -> int:
    return now_ms + int(limits.max_future.total_seconds() * 1000)


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
    detail = "; ".join(f"{_place(problem['loc'])}: {problem['msg']}" for problem in problems[:5])
    return DeadLetter(record, reason, detail[:500])


def _place(loc: tuple[int | str, ...]) -> str:
    """Where in a record something is wrong, such as ``context.device``; a union's branches are no places."""
    return ".".join(map(str, loc[:2])) or "record"
