"""A list on its way out: the wire form of `encoders.records.Recommendation`, made for every event.

Plain structs that msgspec writes in about two microseconds a list; pydantic would take fifteen. Whoever
reads recommendations does so with `Recommendation`, and a test holds the two field by field together.
"""

from __future__ import annotations

from itertools import repeat
from typing import NamedTuple

import msgspec

ANN, POPULARITY = "ann", "popularity"
"""Candidate sources: the model's nearest items, and what is popular where the model cannot answer."""

_NO_REASONS: repeat[tuple[str, ...]] = repeat(())
_encode = msgspec.json.Encoder().encode


class ListedItem(msgspec.Struct, gc=False):
    """One entry of a list."""

    item_id: str
    score: float
    source: str
    because: tuple[str, ...]


class _WireList(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """Fields as in `encoders.records.Recommendation`, in the same order."""

    recommendation_id: str
    event_id: str
    user_id: str
    source_partition: int
    source_offset: int
    scenario: str
    variant: str
    model_version: str | None = None
    generated_at_ms: int
    items: list[ListedItem]


class MadeList(NamedTuple):
    """The list for one event.

    Its items are kept as columns until they are written: a struct for each would be cold by then.
    """

    recommendation_id: str
    event_id: str
    user_id: str
    source_partition: int
    source_offset: int
    model_version: str | None
    generated_at_ms: int
    item_ids: list[str]
    scores: list[float]
    sources: list[str]

    @property
    def items(self) -> list[ListedItem]:
        """The items, best first."""
        return list(map(ListedItem, self.item_ids, self.scores, self.sources, _NO_REASONS))

    def to_json(self) -> bytes:
        """The wire form."""
        recommendation_id, event_id, user_id, partition, offset, version, made_ms, item_ids, scores, sources = self
        return _encode(
            _WireList(
                recommendation_id=recommendation_id,
                event_id=event_id,
                user_id=user_id,
                source_partition=partition,
                source_offset=offset,
                scenario="default",
                variant="default",
                model_version=version,
                generated_at_ms=made_ms,
                items=list(map(ListedItem, item_ids, scores, sources, _NO_REASONS)),
            )
        )
