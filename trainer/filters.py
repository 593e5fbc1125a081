"""Usable events that tell nothing of taste: clicks made twice, robots, users and items of whom too little is known.

Each rule is off until it is set (`[trainer.cleaning]`), and what it drops is counted by reason. Rules apply in the
order of `CleaningSettings`, each to what the ones before it left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from trainer.ids import Codes, Ids, renumbered
from trainer.interactions import BoolArray, Interactions
from trainer.settings import CleaningSettings

HOUR_MS = 3_600_000


def filtered(events: Interactions, settings: CleaningSettings) -> tuple[Interactions, Counter[str]]:
    """What the rules leave; users and items without events any more lose their codes.

    Args:
        events: Each user's in the order in which a worker applies them.
        settings: The rules.

    Returns:
        The events, and how many were dropped by reason.
    """
    rules: Sequence[tuple[str, object, Callable[[Interactions], BoolArray]]] = (
        ("before the earliest time", settings.earliest, lambda e: _is_early(e, settings)),
        ("of the item just had", settings.same_item_within_s, lambda e: _is_again(e, settings.same_item_within_s)),
        ("of users who do too much in an hour", settings.max_events_per_hour, lambda e: _is_hasty(e, settings)),
        ("of users with too many events", settings.max_user_events, lambda e: _is_of_busy(e, settings)),
    )
    dropped, kept = Counter[str](), events
    for reason, setting, is_so in rules:
        if setting:
            kept = _without(kept, is_so(kept), reason, dropped)
    kept = _without_rare(kept, settings, dropped)
    return (_renumbered(kept) if dropped else events), dropped


def _without(events: Interactions, is_dropped: BoolArray, reason: str, dropped: Counter[str]) -> Interactions:
    if not is_dropped.any():
        return events
    dropped[reason] += int(np.count_nonzero(is_dropped))
    return events.where(~is_dropped)


def _is_early(events: Interactions, settings: CleaningSettings) -> BoolArray:
    earliest_ms = settings.earliest.timestamp() * 1000 if settings.earliest else 0
    is_early: BoolArray = events.times_ms < earliest_ms
    return is_early


def _is_again(events: Interactions, within_s: float) -> BoolArray:
    """Whether an event is of the item of its user's event before it, which is but a moment ago, dropped or not."""
    order = np.argsort(events.user_codes, kind="stable")
    users, items, times_ms = events.user_codes[order], events.item_codes[order], events.times_ms[order]
    is_again = np.zeros(len(events), dtype=bool)
    is_moment = np.abs(np.diff(times_ms)) <= 1000 * within_s
    is_again[order[1:]] = (users[1:] == users[:-1]) & (items[1:] == items[:-1]) & is_moment
    return is_again


def _is_hasty(events: Interactions, settings: CleaningSettings) -> BoolArray:
    """Whether an event is of a user who somewhere has more than the allowed number within an hour."""
    order = np.lexsort((events.times_ms, events.user_codes))
    users, times_ms = events.user_codes[order], events.times_ms[order]
    most = settings.max_events_per_hour or 0
    is_last = (users[most:] == users[:-most]) & (times_ms[most:] - times_ms[:-most] < HOUR_MS)
    is_robot = np.zeros(len(events.user_ids), dtype=bool)
    is_robot[users[most:][is_last]] = True
    return is_robot[events.user_codes]


def _is_of_busy(events: Interactions, settings: CleaningSettings) -> BoolArray:
    counts = np.bincount(events.user_codes, minlength=len(events.user_ids))
    is_busy: BoolArray = (counts > (settings.max_user_events or 0))[events.user_codes]
    return is_busy


def _without_rare(events: Interactions, settings: CleaningSettings, dropped: Counter[str]) -> Interactions:
    """Drop rare users and rare items by turns, until none is left: who goes may make another one rare."""
    if settings.min_user_events == settings.min_item_events == 1:
        return events
    n_users, n_items = len(events.user_ids), len(events.item_ids)
    while True:
        n_before = len(events)
        per_item = np.bincount(events.item_codes, minlength=n_items)
        is_rare = per_item[events.item_codes] < settings.min_item_events
        events = _without(events, is_rare, "of items with too few events", dropped)
        per_user = np.bincount(events.user_codes, minlength=n_users)
        is_rare = per_user[events.user_codes] < settings.min_user_events
        events = _without(events, is_rare, "of users with too few events", dropped)
        if len(events) == n_before:
            return events


def _renumbered(events: Interactions) -> Interactions:
    """The same events, with codes 0, 1, … by first appearance for the users and items that they are of."""
    all_of_them = np.arange(len(events))
    user_codes, users = renumbered(events.user_codes, all_of_them, len(events.user_ids))
    item_codes, items = renumbered(events.item_codes, all_of_them, len(events.item_ids))
    user_ids, item_ids = _taken(events.user_ids, users), _taken(events.item_ids, items)
    return replace(events, user_ids=user_ids, item_ids=item_ids, user_codes=user_codes, item_codes=item_codes)


def _taken(ids: Sequence[str], codes: Codes) -> Sequence[str]:
    return ids.take(codes) if isinstance(ids, Ids) else [ids[code] for code in codes]
