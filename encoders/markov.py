"""Sequential rules: what was clicked soon after the item clicked last, learned click by click.

SR of Ludewig & Jannach, "Evaluation of session-based recommendation algorithms", UMUAI 2018: a click on ``b``, ``d``
clicks after one on ``a`` in the same session, adds ``1 / d`` to the count of the rule from ``a`` to ``b``. A window's
answers are the rules from its last item, a first-order Markov chain but for its scale. An item clicked again is a rule
from itself.

The rules from an item lie side by side in one pool for all items, in as many places as a power of two; who needs more
moves to twice as many, and leaves the old ones to another.

Shape letters: ``I`` item numbers, ``P`` places of the pool, ``G`` sizes, ``B`` windows, ``T`` window length, ``K``
answers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from encoders.best import offer, put_in_order
from encoders.click_log import (
    ITEM,
    SINCE_SESSION,
    ClickLog,
    append,
    click_before,
    empty_log,
    newest_item,
    row_of,
    session_slot,
    with_room,
)
from encoders.compiled import Int, compiled
from encoders.decay import as_of_newest, new_clock, weight_of
from encoders.growth import grown
from encoders.protocols import DoubleArray, FloatArray, IntArray
from encoders.saved import (
    Arrays,
    insist_on_counts,
    insist_on_items,
    restored_clock,
    restored_log,
    saved_clicks,
    saved_clock,
    taken,
)
from encoders.vocabulary import PADDING_ITEM

Int32Array = npt.NDArray[np.int32]
_FIRST_POOL = 1 << 14


class MarkovConfig(BaseModel):
    """Which rules are learned and kept."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    max_distance: int = Field(default=10, ge=1, le=1_000)
    """How many clicks back a rule may begin."""
    max_rules: int = Field(default=128, ge=1, le=1 << 14)
    """Rules that are kept from each item."""
    half_life_s: float | None = Field(default=None, gt=0)
    """What a click has added halves with every half-life of event time; None for no decay."""
    max_clicks: int = Field(default=1 << 20, ge=1, le=1 << 30)
    """A session that clicked nothing among this many clicks of all sessions begins anew."""


class _Rules(NamedTuple):
    """The rules from all items."""

    first_I: IntArray
    """Place of the first rule from an item."""
    n_I: Int32Array
    """How many there are."""
    room_I: Int32Array
    """How many there is room for."""
    item_P: Int32Array
    """Where a rule leads; in places left to others, where the next ones of the same size begin."""
    count_P: FloatArray
    vacant_G: IntArray
    """First of the places left to others, by the logarithm of their number; -1 for none."""
    n_used: IntArray
    """Places ever used. Shape: ``(1,)``."""


class Markov:
    """Sequential rules as a `LiveRetriever`. Not for two threads at once.

    When `max_rules` lead from an item already, a new one takes the place of the rule that counts least, and its count
    too (Space-Saving; Metwally, Agrawal & El Abbadi, ICDT 2005): a rule that counts more than the ``max_rules``-th
    part of all that was added to the item's rules is always among them, and no count is too low.

    Args:
        config: Which rules are learned and kept.

    Example:
        >>> markov = Markov()
        >>> markov.learn(np.array([1, 1, 1]), np.array([5, 6, 7]), np.zeros(3))
        >>> markov.retrieve(np.array([[0, 5], [0, 7]]), k=3)
        (array([[6, 7, 0],
               [0, 0, 0]]), array([[ 1. ,  0.5, -inf],
               [-inf, -inf, -inf]], dtype=float32))
    """

    kind: ClassVar[str] = "markov"
    Config: ClassVar[type[BaseModel]] = MarkovConfig

    def __init__(self, config: MarkovConfig | None = None) -> None:
        self.config = config or MarkovConfig()
        self._half_life_s = self.config.half_life_s or np.inf
        self._log, self._clock = empty_log(), new_clock()
        self._rules = _Rules(
            first_I=np.zeros(0, np.int64),
            n_I=np.zeros(0, np.int32),
            room_I=np.zeros(0, np.int32),
            item_P=np.zeros(_FIRST_POOL, np.int32),
            count_P=np.zeros(_FIRST_POOL, np.float32),
            vacant_G=np.full(32, -1, np.int64),
            n_used=np.zeros(1, np.int64),
        )

    @classmethod
    def restored(cls, config: Mapping[str, Any], arrays: Arrays, n_items: int) -> Self:
        """One that has learned what `arrays` gave; see `BundledRetriever.restored`."""
        found = cls(MarkovConfig.model_validate(config))
        found._log = restored_log(arrays, n_items, found.config.max_clicks)
        found._rules = _restored_rules(found._rules, arrays, n_items, found.config.max_rules)
        found._clock = restored_clock(arrays)
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was learned; see `BundledRetriever.arrays`."""
        rules = self._rules
        places = _places(rules.first_I, rules.n_I)
        return {
            **saved_clicks(self._log),
            "clock": saved_clock(self._clock),
            "n_rules": np.trim_zeros(rules.n_I, "b").copy(),
            "rule_items": rules.item_P[places],
            "rule_counts": rules.count_P[places],
        }

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Count the rules that end in these clicks; see `LiveRetriever.learn`."""
        config, rules, n_items = self.config, self._rules, int(items.max(initial=0))
        self._log = with_room(self._log, len(items), n_items, config.max_clicks)
        self._rules = rules._replace(
            first_I=grown(rules.first_I, n_items + 1),
            n_I=grown(rules.n_I, n_items + 1),
            room_I=grown(rules.room_I, n_items + 1),
        )
        limits = config.max_distance, config.max_rules
        start, most_used = 0, 2 * config.max_distance * config.max_rules
        while start < len(items):
            # Each click may need new places for a rule from each of the items before it.
            rules, n_places = self._rules, int(self._rules.n_used[0]) + most_used
            self._rules = rules._replace(item_P=grown(rules.item_P, n_places), count_P=grown(rules.count_P, n_places))
            events = sessions[start:], items[start:], times_s[start:]
            start += _learn(self._log, self._rules, self._clock, events, self._half_life_s, limits)

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """Where the rules from each window's last item lead; see `Retriever.retrieve`.

        A score is a rule's count as of the newest event. Where no rule leads from the item there are no answers.
        """
        return _retrieve(self._rules, windows, as_of_newest(self._clock, self._half_life_s), k)


def _places(first_I: IntArray, n_I: Int32Array) -> IntArray:
    """Where in the pool the rules lie, those from one item after those from another."""
    ends_I = np.cumsum(n_I, dtype=np.int64)
    places: IntArray = np.arange(int(n_I.sum())) + np.repeat(first_I - (ends_I - n_I), n_I)
    return places


def _restored_rules(empty: _Rules, arrays: Arrays, n_items: int, max_rules: int) -> _Rules:
    """The rules that `Markov.arrays` gave, each item's in places of their own.

    Raises:
        ValueError: If it cannot have given them.
    """
    n_I, items, counts = (
        taken(arrays, name, dtype)
        for name, dtype in (("n_rules", np.int32), ("rule_items", np.int32), ("rule_counts", np.float32))
    )
    if len(n_I) > n_items + 1 or n_I[:1].any() or n_I.min(initial=0) < 0 or n_I.max(initial=0) > max_rules:
        raise ValueError(f"'n_rules' is not of {n_items} items with 0 to {max_rules} rules each")
    if not int(n_I.sum()) == len(items) == len(counts):
        raise ValueError(f"'n_rules' says {n_I.sum()} rules, there are {len(items)} items and {len(counts)} counts")
    insist_on_items("rule_items", items, n_items)
    insist_on_counts("rule_counts", counts)
    if len(np.unique(np.repeat(np.arange(len(n_I)), n_I) * (n_items + 1) + items)) < len(items):
        raise ValueError("'rule_items' has a rule twice")
    room_I = np.where(n_I > 0, np.exp2(np.ceil(np.log2(np.maximum(n_I, 1)))), 0).astype(np.int64)
    first_I, n_used = np.cumsum(room_I) - room_I, int(room_I.sum())
    rules = empty._replace(
        first_I=first_I,
        n_I=n_I,
        room_I=room_I.astype(np.int32),
        item_P=grown(empty.item_P, n_used),
        count_P=grown(empty.count_P, n_used),
        n_used=np.array([n_used]),
    )
    places = _places(first_I, n_I)
    rules.item_P[places], rules.count_P[places] = items, counts
    return rules


@compiled
def _learn(
    log: ClickLog,
    rules: _Rules,
    clock: DoubleArray,
    events: tuple[IntArray, IntArray, DoubleArray],
    half_life_s: float,
    limits: tuple[int, int],
) -> Int:
    """Learn event after event as long as the pool has room for one more, and return how many."""
    sessions, items, times_s = events
    max_distance, max_rules = limits
    for i in range(len(items)):
        if rules.n_used[0] + 2 * max_distance * max_rules > len(rules.item_P):
            return i
        if items[i] == PADDING_ITEM:
            continue
        weight = weight_of(clock, rules.count_P, times_s[i], half_life_s)
        slot = session_slot(log, sessions[i])
        click = log.newest_S[slot] if slot >= 0 else np.int64(0)
        distance = 1
        while click > 0 and distance <= max_distance:
            _count(rules, row_of(log, click)[ITEM], items[i], np.float32(weight / distance), max_rules)
            click = click_before(log, click, SINCE_SESSION)
            distance += 1
        append(log, sessions[i], items[i])
    return len(items)


@compiled
def _count(rules: _Rules, item: Int, successor: Int, weight: np.float32, max_rules: int) -> None:
    """Add to the count of a rule."""
    first, n = rules.first_I[item], rules.n_I[item]
    for place in range(first, first + n):
        if rules.item_P[place] == successor:
            rules.count_P[place] += weight
            return
    if n == max_rules:
        least = first + int(np.argmin(rules.count_P[first : first + n]))
        rules.item_P[least] = successor
        rules.count_P[least] += weight
        return
    if n == rules.room_I[item]:
        first = _move(rules, item)
    rules.item_P[first + n], rules.count_P[first + n] = successor, weight
    rules.n_I[item] = n + 1


@compiled
def _move(rules: _Rules, item: Int) -> Int:
    """Move the rules from an item to twice as many places, the first of which is returned."""
    before, n = rules.first_I[item], rules.n_I[item]
    room, size = 1, 0
    while room <= rules.room_I[item]:
        room, size = 2 * room, size + 1
    first = rules.vacant_G[size]
    if first >= 0:
        rules.vacant_G[size] = rules.item_P[first]
    else:
        first = rules.n_used[0]
        rules.n_used[0] += room
    rules.item_P[first : first + n] = rules.item_P[before : before + n]
    rules.count_P[first : first + n] = rules.count_P[before : before + n]
    if n > 0:
        rules.count_P[before : before + n] = 0
        rules.item_P[before] = rules.vacant_G[size - 1]
        rules.vacant_G[size - 1] = before
    rules.first_I[item], rules.room_I[item] = first, room
    return first


@compiled
def _retrieve(rules: _Rules, windows_BT: IntArray, scale: float, k: int) -> tuple[IntArray, FloatArray]:
    """Answer one window after the other. Shape: ``(B, T)`` to ``(B, K)`` and ``(B, K)``."""
    numbers_BK = np.zeros((len(windows_BT), k), dtype=np.int64)
    scores_BK = np.full((len(windows_BT), k), -np.inf, dtype=np.float32)
    for b in range(len(windows_BT)):
        last, n = newest_item(windows_BT[b]), 0
        if last < len(rules.n_I):
            first = rules.first_I[last]
            for place in range(first, first + rules.n_I[last]):
                score = np.float32(rules.count_P[place] * scale)
                n = offer(scores_BK[b], numbers_BK[b], n, score, np.int64(rules.item_P[place]))
        put_in_order(scores_BK[b], numbers_BK[b], n)
    return numbers_BK, scores_BK
