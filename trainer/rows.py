"""What a topic holds, as columns: one row for each record that is an interaction.

A row says what the record says, whatever a model makes of it: which rows are worth training on is decided when they
are read (`trainer.cleaning`). Records that are no interactions are dead: they are counted by reason, and not kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from pydantic import ValidationError

from encoders.events import EVENT_TRAITS
from encoders.protocols import IntArray
from encoders.records import SCHEMA_VERSION, Interaction
from trainer.ids import Codes, Hashes, Ids, IdTable, hashes, home_partitions

NO_ITEM = -1
_SCHEMA = b"%d" % SCHEMA_VERSION
_LATEST_MS = 2**63 - 1
"""A time that does not fit in eight bytes is as far in the future as this one."""

COLUMN_TYPES: dict[str, np.dtype[Any]] = {
    "users": np.dtype("<i4"),
    "items": np.dtype("<i4"),
    "catalogues": np.dtype("<i4"),
    "event_ids": np.dtype("<u8"),
    "times_ms": np.dtype("<i8"),
    "values": np.dtype("<f8"),
    "types": np.dtype("<u1"),
    "misplaced": np.dtype("?"),
    "partitions": np.dtype("<i4"),
    "offsets": np.dtype("<i8"),
}
"""How each column is kept: 50 bytes a row together."""


class KafkaRecord(Protocol):
    """The part of a Kafka record that the trainer reads."""

    @property
    def value(self) -> bytes | None: ...  # noqa: D102  # Kafka's own words
    @property
    def headers(self) -> Iterable[tuple[str, bytes | None]]: ...  # noqa: D102
    @property
    def partition(self) -> int: ...  # noqa: D102
    @property
    def offset(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Columns:
    """Rows in the order in which their records were read. Shape of each: ``(n_rows,)``."""

    users: Codes
    items: Codes
    """`NO_ITEM` where the record names none."""
    catalogues: Codes
    event_ids: Hashes
    """64-bit hashes."""
    times_ms: IntArray
    values: npt.NDArray[np.float64]
    """The record's `value`, NaN where it has none."""
    types: npt.NDArray[np.uint8]
    """`EventTraits.code`."""
    misplaced: npt.NDArray[np.bool_]
    """Whether the record stands outside its user's partition."""
    partitions: Codes
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.users)

    @classmethod
    def joined(cls, parts: Sequence[Columns]) -> Columns:
        """All rows of the parts, at least one, in their order."""
        return cls(*(np.concatenate([getattr(part, column.name) for part in parts]) for column in fields(cls)))


@dataclass(frozen=True)
class Rows:
    """Columns, and the ids that their codes stand for."""

    columns: Columns
    users: Ids
    items: Ids
    catalogues: Ids

    def __len__(self) -> int:
        return len(self.columns)


@dataclass
class RowMaker:
    """Turns records into rows, and counts those that are dead.

    Records of one partition come in the order of their offsets; partitions may be mixed.
    """

    n_partitions: int
    """How many partitions the topic has."""
    max_record_bytes: int
    users: IdTable = field(default_factory=IdTable)
    items: IdTable = field(default_factory=IdTable)
    catalogues: IdTable = field(default_factory=IdTable)
    dead: Counter[str] = field(default_factory=Counter)
    """How many records were no interactions, by reason."""

    def columns(self, records: Iterable[KafkaRecord]) -> Columns:
        """The rows of some records, fewer than there are records where some are dead.

        Raises:
            OverflowError: If there are more ids than codes.
        """
        found: list[Interaction] = []
        places: list[tuple[int, int]] = []
        for record in records:
            interaction = read_interaction(record.value, record.headers, self.max_record_bytes)
            if isinstance(interaction, str):
                self.dead[interaction] += 1
            else:
                found.append(interaction)
                places.append((record.partition, record.offset))
        partitions, offsets = np.array(places, dtype=np.int64).reshape(-1, 2).T
        user_ids = Ids.of(each.user_id for each in found)
        return Columns(
            users=self.users.codes(user_ids),
            items=self._item_codes(found),
            catalogues=self.catalogues.codes([each.catalogue for each in found]),
            event_ids=hashes(Ids.of(each.event_id for each in found)),
            times_ms=np.array([min(each.timestamp_ms, _LATEST_MS) for each in found], dtype=np.int64),
            values=np.array([np.nan if each.value is None else each.value for each in found], dtype=np.float64),
            types=np.array([EVENT_TRAITS[each.event_type].code for each in found], dtype=np.uint8),
            misplaced=home_partitions(user_ids, self.n_partitions) != partitions,
            partitions=partitions.astype(np.int32),
            offsets=np.ascontiguousarray(offsets),
        )

    def _item_codes(self, found: Sequence[Interaction]) -> Codes:
        codes = np.full(len(found), NO_ITEM, dtype=np.int32)
        ids = [each.item_id for each in found]
        codes[[each is not None for each in ids]] = self.items.codes([each for each in ids if each is not None])
        return codes


def read_interaction(
    value: bytes | None, headers: Iterable[tuple[str, bytes | None]], max_record_bytes: int
) -> Interaction | str:
    """The interaction that a record is, or why it is none."""
    if not value or len(value) > max_record_bytes:
        return "too large" if value else "empty"
    if headers and any(name == "schema" and version != _SCHEMA for name, version in headers):
        return "of another schema"
    try:
        return Interaction.model_validate_json(value)
    except ValidationError:
        return "invalid"
