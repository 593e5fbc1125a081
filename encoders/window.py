"""The window rule: which of a user's events the encoder reads.

One rule for trainer and worker, so that there is no skew between training and serving. A window is
bounded by restarting: an entry that finds ``max_len`` entries first drops all but the newest
``max_len // 2``, and positions count from the window's start. So the encoder's state is a pure
function of (window, model), and the cost of an event is flat on average.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from encoders.events import EVENT_BY_CODE, EVENT_TRAITS, EventType


class WindowRule(BaseModel):
    """Which events enter a window and how it is bounded. Part of every model bundle."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_len: int = Field(default=50, ge=2, le=65_535)
    """Most entries a window holds; a stored session counts them in two bytes."""
    repeats: Literal["collapse", "keep"] = "collapse"
    """`collapse`: an item that is the window's newest already does not enter again."""
    session_gap_s: int | None = Field(default=None, ge=1)
    """A pause longer than this empties the window first; a pause of exactly this keeps it."""
    event_types: tuple[EventType, ...] = tuple(kind for kind, traits in EVENT_TRAITS.items() if traits.enters_window)
    """The event types that enter."""

    def admits(self, code: int) -> bool:
        """Whether events with this type code enter the window."""
        return EVENT_BY_CODE.get(code) in self.event_types


class Entry(NamedTuple):
    """One event as the window keeps it."""

    item_hash: int
    """64-bit identity of the item, see `encoders.vocabulary.item_hash`."""
    time_s: int
    """Event time, whole seconds since 1970."""
    type_code: int
    """`EventTraits.code`."""


class Step(Enum):
    """What an entry did to a window."""

    IGNORED = "ignored"
    APPENDED = "appended"
    """The encoder may step from the state it has."""
    RESTARTED = "restarted"
    """Entries left the window: the encoder must encode it anew."""


@dataclass(slots=True)
class Window:
    """A user's newest events, oldest first, as three parallel columns."""

    item_hashes: list[int] = field(default_factory=list)
    times_s: list[int] = field(default_factory=list)
    type_codes: list[int] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.item_hashes)

    def copy(self) -> Window:
        """An independent window with the same entries."""
        return Window(self.item_hashes.copy(), self.times_s.copy(), self.type_codes.copy())

    def drop_oldest(self, n: int) -> list[int]:
        """Remove the oldest ``n`` entries and return their item hashes."""
        dropped = self.item_hashes[:n]
        del self.item_hashes[:n], self.times_s[:n], self.type_codes[:n]
        return dropped


def extend(window: Window, entry: Entry, rule: WindowRule) -> tuple[Step, list[int]]:
    """Let one event into the window, in place, if the rule admits it.

    Args:
        window: The user's window; changed in place.
        entry: The event. Entries come in the order of their offsets; an event time that runs
            backwards is kept as it is.
        rule: The rule of the model that reads the window.

    Returns:
        What happened, and the item hashes that left the window, oldest first.

    Example:
        >>> window = Window([1, 2, 3, 4], [0, 0, 0, 0], [2, 2, 2, 2])
        >>> extend(window, Entry(5, 9, 2), WindowRule(max_len=4))
        (<Step.RESTARTED: 'restarted'>, [1, 2])
        >>> window.item_hashes
        [3, 4, 5]
    """
    if not rule.admits(entry.type_code):
        return Step.IGNORED, []
    dropped: list[int] = []
    if len(window):
        if rule.session_gap_s is not None and entry.time_s - window.times_s[-1] > rule.session_gap_s:
            dropped = window.drop_oldest(len(window))
        elif rule.repeats == "collapse" and window.item_hashes[-1] == entry.item_hash:
            return Step.IGNORED, []
        elif len(window) >= rule.max_len:
            dropped = window.drop_oldest(len(window) - rule.max_len // 2)
    window.item_hashes.append(entry.item_hash)
    window.times_s.append(entry.time_s)
    window.type_codes.append(entry.type_code)
    return (Step.RESTARTED if dropped else Step.APPENDED), dropped
