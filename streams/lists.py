"""A list on its way out: the wire form of `encoders.records.Recommendation`, made for every event.

Plain structs that msgspec writes in about two microseconds a list; pydantic would take fifteen. Whoever
reads recommendations does so with `Recommendation`, and a test holds the two field by field together.
"""

from __future__ import annotations

import msgspec

ANN, POPULARITY = "ann", "popularity"
"""Candidate sources: the model's nearest items, and what is popular where the model cannot answer."""

_encode = msgspec.json.Encoder().encode


class ListedItem(msgspec.Struct, gc=False):
    """One entry of a list."""

    item_id: str
    score: float
    source: str
    because: tuple[str, ...]


class MadeList(msgspec.Struct, kw_only=True, omit_defaults=True, gc=False):
    """The list for one event; fields as in `encoders.records.Recommendation`, in the same order."""

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

    def to_json(self) -> bytes:
        """The wire form."""
        return _encode(self)
