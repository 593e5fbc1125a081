"""What the trainer keeps of a topic, and what it drops under which name."""

from __future__ import annotations

from datetime import timedelta

import pytest

from encoders.records import Interaction
from encoders.window import WindowRule
from streams.routing import partition_of
from trainer.cleaning import Cleaner, CleaningRules
from trainer.settings import CleaningSettings

NOW_MS = 1_700_000_000_000
HOME = partition_of("ann", 4)
ELSEWHERE = (HOME + 1) % 4


def record(**changes: object) -> bytes:
    fields = {
        "event_id": "e1",
        "user_id": "ann",
        "item_id": "x",
        "event_type": "click",
        "timestamp_ms": NOW_MS,
        **changes,
    }
    return Interaction.model_validate(fields).to_json()


def make_cleaner(**rules: object) -> Cleaner:
    return Cleaner(CleaningRules(**rules), n_partitions=4, now_ms=NOW_MS)  # type: ignore[arg-type]


def test_a_usable_event_is_kept_with_its_place() -> None:
    cleaner = make_cleaner()
    cleaner.add(record(), (), HOME, 17)
    log = cleaner.finish()
    assert (list(log.user_ids), list(log.item_ids)) == (["ann"], ["x"])
    assert (log.partitions.tolist(), log.offsets.tolist(), log.times_ms.tolist()) == ([HOME], [17], [NOW_MS])
    assert cleaner.dropped == {}


@pytest.mark.parametrize(
    ("value", "headers", "reason"),
    [
        (None, (), "empty"),
        (b"", (), "empty"),
        (b"\xff\xfe", (), "invalid"),
        (b"{}", (), "invalid"),
        (record().replace(b'"click"', b'"stare"'), (), "invalid"),
        (record().replace(b'"item_id":"x",', b""), (), "invalid"),
        (record(), (("schema", b"2"),), "of another schema"),
        (record(context={"note": "x" * 300_000}), (), "too large"),
        (record(timestamp_ms=NOW_MS + 86_400_001), (), "in the future"),
        (record(catalogue="shoes"), (), "of another catalogue"),
        (record(event_type="request", item_id=None), (), "without an item"),
        (record(event_type="impression"), (), "of a type that the model does not read"),
    ],
)
def test_what_is_not_usable_is_counted_by_reason(value: bytes | None, headers: tuple, reason: str) -> None:
    cleaner = make_cleaner()
    cleaner.add(value, headers, HOME, 0)
    assert len(cleaner.finish()) == 0
    assert cleaner.dropped == {reason: 1}
    assert cleaner.n_records == 1


def test_an_event_exactly_at_the_limit_of_the_future_is_kept() -> None:
    cleaner = make_cleaner(max_future=timedelta(hours=1))
    cleaner.add(record(timestamp_ms=NOW_MS + 3_600_000), (), HOME, 0)
    assert len(cleaner.finish()) == 1


def test_an_event_that_was_sent_twice_counts_once() -> None:
    cleaner = make_cleaner()
    cleaner.add(record(), (), HOME, 0)
    cleaner.add(record(item_id="y"), (), HOME, 1)
    assert cleaner.finish().offsets.tolist() == [0]
    assert cleaner.dropped == {"repeated": 1}


def test_two_users_may_use_the_same_event_id() -> None:
    cleaner = make_cleaner()
    cleaner.add(record(), (), HOME, 0)
    cleaner.add(record(user_id="bob"), (), partition_of("bob", 4), 0)
    assert len(cleaner.finish()) == 2


def test_a_forwarded_event_counts_where_it_was_forwarded_to() -> None:
    cleaner = make_cleaner()
    cleaner.add(record(event_id="lost"), (), ELSEWHERE, 5)
    cleaner.add(record(event_id="first", item_id="y"), (), HOME, 0)
    cleaner.add(record(event_id="lost"), (), HOME, 1)
    log = cleaner.finish()
    assert log.partitions.tolist() == [HOME, HOME]
    assert [log.item_ids[code] for code in log.item_codes] == ["y", "x"]
    assert cleaner.dropped == {"repeated": 1}


def test_a_misplaced_event_that_nobody_forwarded_comes_last() -> None:
    cleaner = make_cleaner()
    cleaner.add(record(event_id="lost"), (), ELSEWHERE, 5)
    cleaner.add(record(event_id="first", item_id="y"), (), HOME, 0)
    log = cleaner.finish()
    assert [log.item_ids[code] for code in log.item_codes] == ["y", "x"]


def test_the_window_rule_decides_which_types_are_used() -> None:
    cleaner = make_cleaner(window_rule=WindowRule(event_types=("purchase",)))
    cleaner.add(record(), (), HOME, 0)
    cleaner.add(record(event_id="e2", event_type="purchase"), (), HOME, 1)
    log = cleaner.finish()
    assert log.offsets.tolist() == [1]
    assert log.weights.tolist() == [3.0]


def test_what_is_usable_goes_through_the_filters() -> None:
    cleaner = make_cleaner(filters=CleaningSettings(min_item_events=2))
    for n, item in enumerate("xyx"):
        cleaner.add(record(event_id=f"e{n}", item_id=item), (), HOME, n)
    log = cleaner.finish()
    assert (list(log.item_ids), log.offsets.tolist()) == (["x"], [0, 2])
    assert cleaner.dropped == {"of items with too few events": 1}
