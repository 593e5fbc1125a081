"""The window rule: which of a user's events the encoder reads.

One rule for trainer and worker, so that there is no skew between training and serving. A window is
bounded by restarting: an entry that finds ``max_len`` entries first drops all but the newest
``max_len // 2``, and positions count from the window's start. So the encoder's state is a pure
function of (window, model), and the cost of an event is flat on average.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from struct import pack, unpack
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict, Field

from encoders.compiled import Int, compiled
from encoders.events import EVENT_TRAITS, EventType


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

    @cached_property
    def codes(self) -> frozenset[int]:
        """Type codes of the events that enter."""
        return frozenset(EVENT_TRAITS[kind].code for kind in self.event_types)

    @property
    def numbers(self) -> tuple[int, int, bool]:
        """`max_len`, `session_gap_s` (-1 for none), and whether repeats collapse."""
        return self.max_len, -1 if self.session_gap_s is None else self.session_gap_s, self.repeats == "collapse"


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
    """A user's newest events, oldest first, as three columns in their stored form.

    Columns are `bytes`: they are shared by every copy of the window, and storing one is joining them.
    """

    item_column: bytes = b""
    """64-bit item hashes, little endian."""
    time_column: bytes = b""
    """Seconds, 32 bits each, little endian."""
    type_column: bytes = b""
    """Type codes, one byte each."""

    @classmethod
    def of(cls, entries: Iterable[Entry]) -> Window:
        """A window that holds the given entries."""
        columns = [*zip(*entries, strict=True)] or [(), (), ()]
        n = len(columns[0])
        return cls(pack(f"<{n}Q", *columns[0]), pack(f"<{n}I", *columns[1]), bytes(columns[2]))

    def __len__(self) -> int:
        return len(self.type_column)

    @property
    def item_hashes(self) -> list[int]:
        """64-bit identities of the items."""
        return list(unpack(f"<{len(self)}Q", self.item_column))

    @property
    def times_s(self) -> list[int]:
        """Event times, whole seconds since 1970."""
        return list(unpack(f"<{len(self)}I", self.time_column))

    @property
    def type_codes(self) -> list[int]:
        """Type codes."""
        return list(self.type_column)

    def copy(self) -> Window:
        """An independent window with the same entries."""
        return Window(self.item_column, self.time_column, self.type_column)

    def drop_oldest(self, n: Int) -> list[int]:
        """Remove the oldest ``n`` entries and return their item hashes."""
        dropped = list(unpack(f"<{n}Q", self.item_column[: 8 * n]))
        self.item_column, self.time_column = self.item_column[8 * n :], self.time_column[4 * n :]
        self.type_column = self.type_column[n:]
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
        >>> window = Window.of(Entry(item, 0, 2) for item in (1, 2, 3, 4))
        >>> extend(window, Entry(5, 9, 2), WindowRule(max_len=4))
        (<Step.RESTARTED: 'restarted'>, [1, 2])
        >>> window.item_hashes
        [3, 4, 5]
    """
    if entry.type_code not in rule.codes:
        return Step.IGNORED, []
    item, newest_s = entry.item_hash.to_bytes(8, "little"), int.from_bytes(window.time_column[-4:], "little")
    is_newest = window.item_column[-8:] == item
    n_dropped = entries_dropped(len(window), is_newest, newest_s, entry.time_s, *rule.numbers)
    if n_dropped < 0:
        return Step.IGNORED, []
    dropped = window.drop_oldest(n_dropped) if n_dropped else []
    window.item_column += item
    window.time_column += entry.time_s.to_bytes(4, "little")
    window.type_column += entry.type_code.to_bytes(1, "little")
    return (Step.RESTARTED if dropped else Step.APPENDED), dropped


@compiled
def entries_dropped(
    n: Int, is_newest: bool, newest_s: Int, time_s: Int, max_len: int, session_gap_s: int, collapses: bool
) -> Int:
    """The rule in numbers, for an event of a type that enters windows.

    Args:
        n: Entries of the window.
        is_newest: Whether the event's item is the window's newest.
        newest_s: Time of the window's newest entry.
        time_s: Time of the event.
        max_len: The first of `WindowRule.numbers`.
        session_gap_s: The second; -1 for none.
        collapses: The third.

    Returns:
        How many of the oldest entries leave before the event enters; -1 if it does not enter.
    """
    if n == 0:
        return 0
    if session_gap_s >= 0 and time_s - newest_s > session_gap_s:
        return n
    if collapses and is_newest:
        return -1
    if n >= max_len:
        return n - max_len // 2
    return 0
