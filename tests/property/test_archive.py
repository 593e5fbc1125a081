"""What comes out of an archive is what plain Python makes of the same records, however it was written."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.records import Interaction
from encoders.window import WindowRule
from tests.archives import TOPIC, RecordLog
from tests.plain_cleaner import PlainCleaner
from trainer.archive import Appender, read_rows
from trainer.cleaning import Cleaner, CleaningRules, Record, clean
from trainer.interactions import Interactions

N_PARTITIONS = 3
NOW_MS = 1_700_000_000_000

interactions = st.builds(
    Interaction,
    event_id=st.sampled_from(["e1", "e2", "e3", "ë4"]),
    user_id=st.sampled_from(["ann", "bob", "cyd", "ünal"]),
    item_id=st.sampled_from(["x", "y", "zä"]),
    event_type=st.sampled_from(["click", "click", "purchase", "impression", "rating"]),
    timestamp_ms=st.integers(NOW_MS - 10**6, NOW_MS + 2 * 86_400_000) | st.just(2**63) | st.just(2**70),
    catalogue=st.sampled_from(["default", "default", "shoes"]),
    value=st.none() | st.floats(allow_nan=False, allow_infinity=False),
)
requests = st.builds(
    Interaction,
    event_id=st.just("r"),
    user_id=st.sampled_from(["ann", "eve"]),
    event_type=st.sampled_from(["request", "search"]),
    timestamp_ms=st.just(NOW_MS),
)
values = (interactions | requests).map(Interaction.to_json) | st.sampled_from([None, b"", b"{}", b"\xff", b"x" * 600])
headers = st.sampled_from([(), (("schema", b"1"),), (("schema", b"2"),), (("trace", None),)])
logs = st.lists(st.tuples(values, st.integers(0, N_PARTITIONS - 1), headers), max_size=40)
rules = st.builds(
    CleaningRules,
    window_rule=st.sampled_from([WindowRule(), WindowRule(event_types=("purchase", "impression"))]),
    catalogue=st.sampled_from(["default", "shoes", "none"]),
    max_future=st.just(timedelta(hours=24)),
    max_record_bytes=st.just(500),
)


def records_of(log: list[tuple]) -> list[Record]:
    topic = RecordLog(N_PARTITIONS)
    return [topic.record(value, partition, headers) for value, partition, headers in log]


def plainly(records: list[Record], rule: CleaningRules) -> tuple[Interactions, Counter[str], int]:
    cleaner = PlainCleaner(rule, N_PARTITIONS, NOW_MS)
    for record in records:
        cleaner.add(*record)
    return cleaner.finish(), cleaner.dropped, cleaner.n_records


def assert_same(found: Interactions, expected: Interactions) -> None:
    assert list(found.user_ids) == expected.user_ids
    assert list(found.item_ids) == expected.item_ids
    for column in ("user_codes", "item_codes", "times_ms", "type_codes", "partitions", "offsets"):
        np.testing.assert_array_equal(getattr(found, column), getattr(expected, column), err_msg=column)


@given(logs, rules, st.lists(st.sampled_from(["go on", "commit", "begin anew", "killed"]), max_size=40))
def test_an_archive_gives_what_a_replay_of_the_same_records_gives(
    log: list[tuple], rule: CleaningRules, between: list[str]
) -> None:
    """However often it was committed, closed, or left with records that were not committed and come again."""
    records = records_of(log)
    begins = dict.fromkeys(range(N_PARTITIONS), 0)
    with TemporaryDirectory() as folder:
        directory, committed, finished, steps = Path(folder) / "archive", 0, False, iter(between)
        while not finished:
            with Appender(directory, TOPIC, begins, rule.max_record_bytes) as appender:
                place, step = committed, "go on"
                while place < len(records) and step in ("go on", "commit"):
                    appender.append(records[place : place + 1])
                    place, step = place + 1, next(steps, "go on")
                    if step in ("commit", "begin anew"):
                        appender.commit({})
                        committed = place
                finished = place == len(records) and step != "killed"
                if finished:
                    appender.commit({})
        events, unused = clean(read_rows(directory, appender.manifest), rule, NOW_MS)
    expected, dropped, n_records = plainly(records, rule)
    assert_same(events, expected)
    assert Counter(appender.manifest.dead) + unused == dropped
    assert appender.manifest.n_records == n_records


@given(logs, rules)
def test_records_that_are_cleaned_in_memory_give_the_same(log: list[tuple], rule: CleaningRules) -> None:
    records = records_of(log)
    cleaner = Cleaner(rule, N_PARTITIONS, NOW_MS)
    for record in records:
        cleaner.add(*record)
    expected, dropped, n_records = plainly(records, rule)
    assert_same(cleaner.finish(), expected)
    assert (cleaner.dropped, cleaner.n_records) == (dropped, n_records)
