"""The records on the wire, schema 1: JSON in UTF-8, unknown fields ignored.

The golden files under `tests/golden/` hold these forms still.
"""

from __future__ import annotations

from typing import Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from encoders.events import EVENT_TRAITS, EventType

SCHEMA_VERSION = 1
"""Value of the record header `schema`; a record without that header counts as version 1."""

DEFAULT_CATALOGUE = "default"

UserId = Annotated[str, Field(min_length=1, max_length=256)]
ItemId = Annotated[str, Field(min_length=1, max_length=256)]
Name = Annotated[str, Field(min_length=1, max_length=128)]
CatalogueName = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^:/\x00]+$")]
"""Without the separators that join it to an id in Redis, in Kafka keys and under the item hash."""
Scalar = str | int | float | bool | None


class Record(BaseModel):
    """Base of every record: immutable, strict about types, indifferent to fields it does not know."""

    model_config = ConfigDict(frozen=True, strict=True, extra="ignore", allow_inf_nan=False)

    def to_json(self) -> bytes:
        """The record's wire form; fields that are not set are left out."""
        return self.model_dump_json(exclude_none=True).encode()


class Interaction(Record):
    """What a user did with an item, or a plain request for a list. Topic `interactions`, key `user_id`."""

    event_id: Name
    user_id: UserId
    item_id: ItemId | None = None
    event_type: Annotated[EventType, Field(strict=False)]
    timestamp_ms: Annotated[int, Field(ge=0)]
    catalogue: CatalogueName = DEFAULT_CATALOGUE
    scene: Name | None = None
    session_id: Name | None = None
    value: float | None = None
    query: str | None = None
    recommendation_id: Name | None = None
    position: Annotated[int, Field(ge=0)] | None = None
    context: dict[str, Scalar] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _item_where_one_is_needed(self) -> Self:
        if self.item_id is None and EVENT_TRAITS[self.event_type].needs_item:
            raise ValueError(f"item_id is required for event_type {self.event_type.value!r}")
        return self


class Item(Record):
    """One item of a catalogue. Topic `items`, key `catalogue/item_id`, compacted; a tombstone removes it."""

    item_id: ItemId
    catalogue: CatalogueName = DEFAULT_CATALOGUE
    title: str | None = None
    categories: list[str] = Field(default_factory=list)
    tags: list[str] = Field(default_factory=list)
    text: str | None = None
    price: float | None = None
    brand: str | None = None
    stock: int | None = None
    available: bool = True
    published_ms: Annotated[int, Field(ge=0)] | None = None
    attributes: dict[str, Scalar] = Field(default_factory=dict)
    embeddings: dict[str, list[float]] = Field(default_factory=dict)

    @property
    def key(self) -> bytes:
        """The Kafka key."""
        return f"{self.catalogue}/{self.item_id}".encode()


class UserProfile(Record):
    """What is known of a user beside the clicks. Topic `users`, key `user_id`, compacted."""

    user_id: UserId
    attributes: dict[str, Scalar] = Field(default_factory=dict)
    interests: list[str] = Field(default_factory=list)
    consent: bool | None = None


class RecommendedItem(Record):
    """One entry of a list."""

    item_id: ItemId
    score: float
    source: str
    """The candidate source: `ann` from the model, `popularity` where the model cannot answer."""
    because: list[str] = Field(default_factory=list)


class Recommendation(Record):
    """The list for one event. Topic `recommendations`, key `user_id`.

    `recommendation_id` is a function of cluster, topic, partition and offset, so a list that is sent
    again after a crash has the id it had before.
    """

    recommendation_id: Name
    event_id: Name
    user_id: UserId
    source_partition: Annotated[int, Field(ge=0)]
    source_offset: Annotated[int, Field(ge=0)]
    scenario: str = "default"
    variant: str = "default"
    model_version: str | None = None
    generated_at_ms: Annotated[int, Field(ge=0)]
    items: list[RecommendedItem]


class BundleReference(Record):
    """Where a bundle lies and the hash of its manifest."""

    version: Name
    uri: str
    manifest_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class ModelUpdate(BundleReference):
    """A bundle to serve from now on. Topic `model-updates`, key `model`, compacted."""

    model: Name
    metrics: dict[str, float] = Field(default_factory=dict)
    previous: BundleReference | None = None
