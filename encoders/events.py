"""The event types: for each what `value` means, whether it enters the window, and with which weight."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class EventType(StrEnum):
    """What a user did."""

    VIEW = "view"
    CLICK = "click"
    CART = "cart"
    PURCHASE = "purchase"
    RATING = "rating"
    SEARCH = "search"
    IMPRESSION = "impression"
    FOLLOW = "follow"
    SKIP = "skip"
    DISLIKE = "dislike"
    CANCEL = "cancel"
    FEEDBACK = "feedback"
    REQUEST = "request"


class EventTraits(NamedTuple):
    """How streamrec treats one event type."""

    code: int
    """One byte in the stored session; never reused for another type."""
    needs_item: bool
    """A record of this type without an `item_id` is invalid."""
    enters_window: bool
    """The item becomes part of what the encoder reads."""
    weight: float
    """What the event adds to the item's popularity; 0 adds nothing."""
    value: str
    """What the record's `value` means; empty where it means nothing."""


EVENT_TRAITS: dict[EventType, EventTraits] = {
    EventType.VIEW: EventTraits(1, True, True, 1.0, "seconds of dwell time"),
    EventType.CLICK: EventTraits(2, True, True, 1.0, ""),
    EventType.CART: EventTraits(3, True, True, 2.0, "quantity"),
    EventType.PURCHASE: EventTraits(4, True, True, 3.0, "price paid"),
    EventType.RATING: EventTraits(5, True, True, 1.0, "stars"),
    EventType.SEARCH: EventTraits(6, False, False, 0.0, ""),
    EventType.IMPRESSION: EventTraits(7, True, False, 0.0, ""),
    EventType.FOLLOW: EventTraits(8, True, True, 2.0, ""),
    EventType.SKIP: EventTraits(9, True, False, 0.0, "seconds until the skip"),
    EventType.DISLIKE: EventTraits(10, True, False, 0.0, ""),
    EventType.CANCEL: EventTraits(11, True, False, 0.0, "amount returned"),
    EventType.FEEDBACK: EventTraits(12, False, False, 0.0, "satisfaction"),
    EventType.REQUEST: EventTraits(13, False, False, 0.0, ""),
}

EVENT_BY_CODE: dict[int, EventType] = {traits.code: kind for kind, traits in EVENT_TRAITS.items()}
