"""What the trainer leaves out of usable events, when it is told to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
from pydantic import ValidationError

from tests.logs import make_log
from trainer.filters import filtered
from trainer.ids import Ids
from trainer.interactions import Interactions
from trainer.settings import CleaningSettings


def left(rows: list[tuple[int, int, int]], **rules: Any) -> tuple[list[tuple[str, str, int]], dict[str, int]]:
    """Users, items and seconds of what is left, and what was dropped."""
    events, dropped = filtered(make_log(rows), CleaningSettings(**rules))
    users = [events.user_ids[code] for code in events.user_codes]
    items = [events.item_ids[code] for code in events.item_codes]
    assert_codes_have_no_gaps(events)
    return list(zip(users, items, (events.times_ms // 1000).tolist(), strict=True)), dict(dropped)


def assert_codes_have_no_gaps(events: Interactions) -> None:
    for codes, ids in ((events.user_codes, events.user_ids), (events.item_codes, events.item_ids)):
        assert sorted(set(codes.tolist())) == list(range(len(ids)))


def test_without_a_rule_the_very_events_are_kept() -> None:
    events = make_log([(0, 0, 1), (0, 0, 1)])
    kept, dropped = filtered(events, CleaningSettings())
    assert kept is events
    assert not dropped


def test_rules_that_nothing_breaks_keep_the_very_events() -> None:
    events = make_log([(0, 0, 1), (0, 1, 2), (1, 0, 3), (1, 1, 4)])
    kept, dropped = filtered(events, CleaningSettings(min_user_events=2, min_item_events=2, max_user_events=2))
    assert kept is events
    assert not dropped


def test_an_event_exactly_at_the_earliest_time_is_kept() -> None:
    rows = [(0, 0, 99), (0, 1, 100), (1, 2, 0)]
    assert left(rows, earliest=datetime.fromtimestamp(100, UTC)) == (
        [("u0", "i1", 100)],
        {"before the earliest time": 2},
    )


def test_the_item_just_had_is_dropped_up_to_the_moment() -> None:
    rows = [(0, 0, 0), (0, 0, 5), (0, 0, 11), (0, 1, 12), (0, 0, 13)]
    assert left(rows, same_item_within_s=5) == (
        [("u0", "i0", 0), ("u0", "i0", 11), ("u0", "i1", 12), ("u0", "i0", 13)],
        {"of the item just had": 1},
    )


def test_a_page_that_is_loaded_again_and_again_counts_once() -> None:
    rows = [(0, 0, second) for second in range(0, 100, 4)]
    assert left(rows, same_item_within_s=5)[0] == [("u0", "i0", 0)]


def test_another_user_s_event_of_the_item_is_no_repeat() -> None:
    rows = [(0, 0, 0), (1, 0, 1), (0, 0, 2)]
    assert left(rows, same_item_within_s=5)[0] == [("u0", "i0", 0), ("u1", "i0", 1)]


def test_who_exceeds_the_rate_is_left_out_whole_and_who_reaches_it_is_not() -> None:
    quick = [(0, item, 10_000 + item) for item in range(4)] + [(0, 9, 99_999)]
    steady = [(1, item, 1_200 * item) for item in range(9)]
    rows = sorted([*quick, *steady], key=lambda row: row[2])
    kept, dropped = left(rows, max_events_per_hour=3)
    assert {user for user, _, _ in kept} == {"u1"}
    assert dropped == {"of users who do too much in an hour": 5}


def test_a_rate_counts_what_lies_within_less_than_an_hour_whatever_order_it_came_in() -> None:
    assert len(left([(0, 0, 3_600), (0, 1, 0)], max_events_per_hour=1)[0]) == 2
    assert not left([(0, 0, 3_599), (0, 1, 0)], max_events_per_hour=1)[0]


def test_who_has_too_many_events_is_left_out_whole() -> None:
    rows = [(0, item, 10_000 * item) for item in range(4)] + [(1, item, 10_000 * item) for item in range(3)]
    kept, dropped = left(rows, max_user_events=3)
    assert {user for user, _, _ in kept} == {"u1"}
    assert dropped == {"of users with too many events": 4}


def test_rare_users_and_items_go_until_none_is_left() -> None:
    """Item 2 is rare; without it user 1 is, and without that one item 1."""
    rows = [(0, 0, 0), (0, 3, 1), (1, 1, 2), (1, 2, 3), (2, 1, 4), (2, 0, 5), (2, 3, 6)]
    kept, dropped = left(rows, min_user_events=2, min_item_events=2)
    assert kept == [("u0", "i0", 0), ("u0", "i3", 1), ("u2", "i0", 5), ("u2", "i3", 6)]
    assert dropped == {"of items with too few events": 2, "of users with too few events": 1}


def test_what_one_rule_drops_the_next_does_not_count() -> None:
    """The double click is no second event of the user."""
    kept, dropped = left([(0, 0, 0), (0, 0, 1)], same_item_within_s=5, min_user_events=2)
    assert kept == []
    assert dropped == {"of the item just had": 1, "of users with too few events": 1}


@pytest.mark.parametrize(
    "rules",
    [{"same_item_within_s": 9}, {"max_events_per_hour": 1}, {"max_user_events": 1}, {"min_item_events": 3}],
)
def test_nothing_at_all_is_left_as_it_is(rules: dict[str, Any]) -> None:
    assert left([], **rules) == ([], {})


def test_ids_stay_in_their_table() -> None:
    events = make_log([(0, 0, 0), (1, 1, 1), (1, 0, 2)])
    events = Interactions(
        Ids.of(events.user_ids),
        Ids.of(events.item_ids),
        *(events.user_codes, events.item_codes, events.times_ms, events.type_codes),
        *(events.partitions, events.offsets),
    )
    kept, _ = filtered(events, CleaningSettings(min_user_events=2))
    assert isinstance(kept.user_ids, Ids)
    assert (list(kept.user_ids), list(kept.item_ids)) == (["u1"], ["i1", "i0"])
    np.testing.assert_array_equal(kept.offsets, [1, 2])


@pytest.mark.parametrize(
    "rules",
    [{"earliest": "2020-01-01T00:00:00"}, {"same_item_within_s": float("nan")}, {"min_user_events": 0}, {"bots": True}],
)
def test_a_rule_that_means_nothing_is_refused(rules: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        CleaningSettings.model_validate(rules)
