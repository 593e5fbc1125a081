"""From the rows of a topic to interactions worth training on; what is dropped is counted by reason.

A worker counts an event once that was sent twice, and forwards a record outside its user's partition to
the end of the right one. So here each (user, event id) counts once, and a record in the right place
counts before its copy elsewhere, which is used only where none was forwarded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import NamedTuple

import numpy as np

from encoders.events import EVENT_TRAITS
from encoders.records import DEFAULT_CATALOGUE
from encoders.window import WindowRule
from trainer.filters import filtered
from trainer.firsts import first_of_each
from trainer.ids import renumbered
from trainer.interactions import BoolArray, Interactions, narrowed
from trainer.rows import Columns, RowMaker, Rows
from trainer.settings import CleaningSettings

_RECORDS_AT_ONCE = 5_000
_N_TYPE_CODES = 256


@dataclass(frozen=True)
class CleaningRules:
    """What counts as usable: the limits that the worker has, too, and filters."""

    window_rule: WindowRule = field(default_factory=WindowRule)
    catalogue: str = DEFAULT_CATALOGUE
    max_future: timedelta = timedelta(hours=24)
    max_record_bytes: int = 262_144
    filters: CleaningSettings = field(default_factory=CleaningSettings)
    """What else is left out, by rules that are the trainer's alone: workers answer everybody."""

    def latest_ms(self, now_ms: int) -> int:
        """The latest event time that is not wrong."""
        return now_ms + int(self.max_future.total_seconds() * 1000)


def clean(rows: Rows, rules: CleaningRules, now_ms: int) -> tuple[Interactions, Counter[str]]:
    """The rows that are usable, those outside their user's partition last.

    Args:
        rows: In the order in which the records were read.
        rules: What is usable.
        now_ms: The clock, milliseconds since 1970; event times further ahead than the rules allow are wrong.

    Returns:
        The interactions, and how many rows were dropped by reason.
    """
    columns = rows.columns
    usable, dropped = _usable(rows, rules, now_ms)
    order = np.concatenate([np.flatnonzero(usable & ~columns.misplaced), np.flatnonzero(usable & columns.misplaced)])
    first = first_of_each(columns.users, columns.event_ids, order)
    kept = order[first]
    if len(kept) < len(order):
        dropped["repeated"] = len(order) - len(kept)
    del usable, order, first  # as long as the columns below, which there should be room for
    user_codes, users = renumbered(columns.users, kept, len(rows.users))
    item_codes, items = renumbered(columns.items, kept, len(rows.items))
    interactions = Interactions(
        rows.users.take(users),
        rows.items.take(items),
        user_codes,
        item_codes,
        columns.times_ms[kept],
        columns.types[kept],
        narrowed(columns.partitions[kept]),
        narrowed(columns.offsets[kept]),
    )
    interactions, unlikely = filtered(interactions, rules.filters)
    return interactions, dropped + unlikely


class Record(NamedTuple):
    """A record as Kafka holds it."""

    value: bytes | None
    headers: Iterable[tuple[str, bytes | None]]
    partition: int
    offset: int


class Cleaner:
    """Takes records one by one and keeps what is usable, in memory.

    Records of one partition come in the order of their offsets; partitions may be mixed.

    Args:
        rules: What is usable.
        n_partitions: How many partitions the topic has.
        now_ms: The clock, see `clean`.
    """

    def __init__(self, rules: CleaningRules, n_partitions: int, now_ms: int) -> None:
        self._rules, self._now_ms = rules, now_ms
        self._maker = RowMaker(n_partitions, rules.max_record_bytes)
        self._parts: list[Columns] = []
        self._waiting: list[Record] = []
        self.n_records = 0
        self.dropped: Counter[str] = Counter()
        """How many records were dropped, by reason; known once `finish` was called."""

    def add(
        self, value: bytes | None, headers: Iterable[tuple[str, bytes | None]], partition: int, offset: int
    ) -> None:
        """Take one record as Kafka holds it."""
        self.n_records += 1
        self._waiting.append(Record(value, headers, partition, offset))
        if len(self._waiting) == _RECORDS_AT_ONCE:
            self._read()

    def finish(self) -> Interactions:
        """What is left, once every record was added."""
        self._read()
        maker = self._maker
        rows = Rows(Columns.joined(self._parts), maker.users.ids, maker.items.ids, maker.catalogues.ids)
        interactions, unused = clean(rows, self._rules, self._now_ms)
        self.dropped = maker.dead + unused
        return interactions

    def _read(self) -> None:
        self._parts.append(self._maker.columns(self._waiting))
        self._waiting.clear()


def _usable(rows: Rows, rules: CleaningRules, now_ms: int) -> tuple[BoolArray, Counter[str]]:
    """Which rows are usable but for repeats, and the others by the first reason that they are not."""
    columns, allowed = rows.columns, np.zeros(_N_TYPE_CODES, dtype=bool)
    allowed[[EVENT_TRAITS[kind].code for kind in rules.window_rule.event_types]] = True
    catalogue = next((code for code, name in enumerate(rows.catalogues) if name == rules.catalogue), -1)
    verdicts = (
        ("in the future", lambda: columns.times_ms > rules.latest_ms(now_ms)),
        ("of another catalogue", lambda: columns.catalogues != catalogue),
        ("without an item", lambda: columns.items < 0),
        ("of a type that the model does not read", lambda: ~allowed[columns.types]),
    )
    usable, dropped = np.ones(len(rows), dtype=bool), Counter[str]()
    for reason, is_so in verdicts:
        found = usable & is_so()
        if found.any():
            dropped[reason] = int(found.sum())
            usable &= ~found
    return usable, dropped
