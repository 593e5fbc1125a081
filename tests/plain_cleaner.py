"""What cleaning means, in plain Python with an object for everything: what `trainer.cleaning` is compared with."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Iterable

import numpy as np
from kafka.partitioner.default import murmur2
from pydantic import ValidationError

from encoders.events import EVENT_TRAITS
from encoders.records import SCHEMA_VERSION, Interaction
from trainer.cleaning import CleaningRules
from trainer.interactions import Interactions

Headers = Iterable[tuple[str, bytes | None]]


class PlainCleaner:
    """Takes records one by one and keeps what is usable.

    Records of one partition come in the order of their offsets; partitions may be mixed.

    Args:
        rules: What is usable.
        n_partitions: How many partitions the topic has.
        now_ms: The clock, milliseconds since 1970; event times further ahead than the rules allow are wrong.
    """

    def __init__(self, rules: CleaningRules, n_partitions: int, now_ms: int) -> None:
        self._rules = rules
        self._n_partitions = n_partitions
        self._latest_ms = now_ms + int(rules.max_future.total_seconds() * 1000)
        self._users: dict[str, int] = {}
        self._items: dict[str, int] = {}
        self._columns = [array("q") for _ in range(6)]
        self._event_ids: set[tuple[int, str]] = set()
        self._misplaced: list[tuple[Interaction, int, int]] = []
        self.n_records = 0
        self.dropped: Counter[str] = Counter()
        """How many records were dropped, by reason."""

    def add(self, value: bytes | None, headers: Headers, partition: int, offset: int) -> None:
        """Look at one record as Kafka holds it."""
        self.n_records += 1
        found = self._decode(value, headers)
        if isinstance(found, str):
            self.dropped[found] += 1
        elif (murmur2(found.user_id.encode()) & 0x7FFFFFFF) % self._n_partitions != partition:
            self._misplaced.append((found, partition, offset))
        else:
            self._keep(found, partition, offset)

    def finish(self) -> Interactions:
        """What is left, once every record was added."""
        for interaction, partition, offset in self._misplaced:
            self._keep(interaction, partition, offset)
        self._misplaced.clear()
        columns = (np.array(column, dtype=np.int64) for column in self._columns)
        return Interactions(list(self._users), list(self._items), *columns)

    def _decode(self, value: bytes | None, headers: Headers) -> Interaction | str:
        """The interaction, or why it is not used."""
        if not value or len(value) > self._rules.max_record_bytes:
            return "too large" if value else "empty"
        if any(name == "schema" and version != b"%d" % SCHEMA_VERSION for name, version in headers):
            return "of another schema"
        try:
            interaction = Interaction.model_validate_json(value)
        except ValidationError:
            return "invalid"
        if interaction.timestamp_ms > self._latest_ms:
            return "in the future"
        if interaction.catalogue != self._rules.catalogue:
            return "of another catalogue"
        if interaction.item_id is None:
            return "without an item"
        if interaction.event_type not in self._rules.window_rule.event_types:
            return "of a type that the model does not read"
        return interaction

    def _keep(self, interaction: Interaction, partition: int, offset: int) -> None:
        user = self._users.setdefault(interaction.user_id, len(self._users))
        identity = user, interaction.event_id
        if identity in self._event_ids:
            self.dropped["repeated"] += 1
            return
        self._event_ids.add(identity)
        assert interaction.item_id is not None  # `_decode` saw to it
        item = self._items.setdefault(interaction.item_id, len(self._items))
        type_code = EVENT_TRAITS[interaction.event_type].code
        row = user, item, interaction.timestamp_ms, type_code, partition, offset
        for column, number in zip(self._columns, row, strict=True):
            column.append(number)
