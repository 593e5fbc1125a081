"""The archive of interactions: what a commit keeps, and what is refused with which way out."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.records import Interaction
from tests.archives import RULES, TOPIC, RecordLog, append, no_file_larger_than
from trainer.archive import Appender, read_manifest, read_rows
from trainer.archive.manifest import MANIFEST_FILE
from trainer.cleaning import clean
from trainer.errors import ArchiveError

NOW_MS = 1_700_000_000_000


def clicks(n: int, first: int = 0) -> list[Interaction]:
    return [
        Interaction(
            event_id=f"e{i}", user_id=f"u{i % 3}", item_id=f"i{i % 7}", event_type="click", timestamp_ms=NOW_MS + i
        )
        for i in range(first, first + n)
    ]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "archive"


@pytest.fixture
def log() -> RecordLog:
    return RecordLog()


def event_offsets(directory: Path) -> list[tuple[int, int]]:
    events, _ = clean(read_rows(directory, read_manifest(directory)), RULES, NOW_MS)
    return sorted(zip(events.partitions.tolist(), events.offsets.tolist(), strict=True))


def everything(log: RecordLog) -> list[tuple[int, int]]:
    return [(partition, offset) for partition, end in log.ends.items() for offset in range(end)]


def test_a_row_says_what_the_record_said(directory: Path, log: RecordLog) -> None:
    rated, requested = (
        Interaction(event_id="e", user_id="ann", event_type=kind, timestamp_ms=NOW_MS, **rest)
        for kind, rest in (("rating", {"item_id": "x", "value": 4.1, "catalogue": "films"}), ("request", {}))
    )
    append(directory, log.interactions([rated, requested]), log.ends)
    rows = read_rows(directory, read_manifest(directory))
    assert (list(rows.users), list(rows.items), list(rows.catalogues)) == (["ann"], ["x"], ["films", "default"])
    columns = rows.columns
    assert (columns.users.tolist(), columns.items.tolist(), columns.catalogues.tolist()) == ([0, 0], [0, -1], [0, 1])
    assert (columns.values[0], np.isnan(columns.values[1])) == (4.1, True)
    assert (columns.types.tolist(), columns.times_ms.tolist()) == ([5, 13], [NOW_MS, NOW_MS])
    assert (columns.offsets.tolist(), columns.misplaced.tolist()) == ([0, 1], [False, False])


def test_the_next_reading_goes_on_where_the_last_one_ended(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(20)), log.ends)
    with Appender(directory, TOPIC, {0: 0, 1: 0}, RULES.max_record_bytes) as appender:
        assert appender.next_offsets == log.ends
    append(directory, log.interactions(clicks(20, first=20)), log.ends)
    assert event_offsets(directory) == everything(log)


def test_records_that_come_again_are_passed_over(directory: Path, log: RecordLog) -> None:
    records = log.interactions(clicks(20))
    append(directory, records, log.ends)
    manifest = append(directory, records[5:] + log.interactions(clicks(5, first=20)), log.ends)
    assert (manifest.n_rows, manifest.n_records) == (25, 25)
    assert event_offsets(directory) == everything(log)


def test_dead_records_are_counted_and_not_kept(directory: Path, log: RecordLog) -> None:
    append(directory, [log.record(b"{", 0), log.record(None, 0), *log.interactions(clicks(3))], log.ends)
    manifest = append(directory, [log.record(b"[]", 1)], log.ends)
    assert (manifest.dead, manifest.n_records, manifest.n_rows) == ({"invalid": 2, "empty": 1}, 6, 3)


def test_a_commit_is_read_as_it_was_when_more_has_come(directory: Path, log: RecordLog) -> None:
    first = append(directory, log.interactions(clicks(8)), log.ends)
    append(directory, log.interactions(clicks(9, first=8)), log.ends)
    rows = read_rows(directory, first)
    assert (len(rows), len(rows.users), len(rows.items)) == (8, 3, 7)


def test_an_archive_of_nothing_can_be_read(directory: Path, log: RecordLog) -> None:
    append(directory, [], log.ends)
    assert len(read_rows(directory, read_manifest(directory))) == 0


def test_what_was_not_committed_is_cut_off(directory: Path, log: RecordLog) -> None:
    """As a kill leaves it: bytes behind the committed length, and a manifest that was being written."""
    manifest = append(directory, log.interactions(clicks(10)), log.ends)
    for number, name in enumerate(manifest.files):
        with (directory / name).open("ab") as file:
            file.write(b"\x07" * (number + 1))
    (directory / f"{MANIFEST_FILE}.writing").write_text("{")
    assert event_offsets(directory) == everything(log)
    append(directory, log.interactions(clicks(10, first=10)), log.ends)
    assert event_offsets(directory) == everything(log)
    sizes = {name: (directory / name).stat().st_size for name in manifest.files}
    assert sizes == {name: record.n_bytes for name, record in read_manifest(directory).files.items()}


def test_a_reading_that_ends_without_a_commit_leaves_the_last_one(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    before = everything(log)
    with Appender(directory, TOPIC, {0: 0, 1: 0}, RULES.max_record_bytes) as appender:
        appender.append(log.interactions(clicks(10, first=10)))
    assert event_offsets(directory) == before


def test_a_disk_that_takes_no_more_is_told_and_the_last_commit_stays(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    before = dict(log.ends)
    more = log.interactions(clicks(2_000, first=10))
    with (
        no_file_larger_than(8_192),
        pytest.raises(ArchiveError, match=r"cannot write to the archive .* kept\. Make room"),
    ):
        append(directory, more, log.ends)
    assert read_manifest(directory).next_offsets == before
    append(directory, more, log.ends)
    assert event_offsets(directory) == everything(log)


@pytest.mark.parametrize("name", ["rows.users", "users.text", "items.ends"])
@pytest.mark.parametrize(
    ("damage", "said"), [(lambda data: data[:-1], "bytes instead of"), (lambda data: data[:-1] + b"\xaa", "is damaged")]
)
def test_a_damaged_file_is_named_with_the_way_out(directory: Path, log: RecordLog, name: str, damage, said) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    path = directory / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ArchiveError, match=rf"{name} .*{said}.*restore .* from a copy, or move it away"):
        read_rows(directory, read_manifest(directory))


def test_nothing_is_appended_to_damaged_ids(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    path = directory / "users.text"
    path.write_bytes(b"?" + path.read_bytes()[1:])
    with pytest.raises(ArchiveError, match=r"users\.text is damaged"):
        append(directory, log.interactions(clicks(1, first=10)), log.ends)


def test_a_missing_file_is_named(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    (directory / "rows.offsets").unlink()
    with pytest.raises(ArchiveError, match=r"rows\.offsets has 0 bytes instead of 80"):
        append(directory, [], log.ends)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: {**content, "format_version": 2},
        lambda content: {**content, "n_rows": 11},
        lambda content: {key: value for key, value in content.items() if key != "files"},
    ],
)
def test_a_manifest_that_cannot_be_right_is_refused(directory: Path, log: RecordLog, change) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    path = directory / MANIFEST_FILE
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(ArchiveError, match=r"manifest\.json is damaged or of another version"):
        read_manifest(directory)


def test_where_there_is_no_archive_it_is_said_what_writes_one(directory: Path) -> None:
    with pytest.raises(ArchiveError, match=r"no archive in .*streamrec train"):
        read_manifest(directory)


@pytest.mark.parametrize(
    ("topic", "said"),
    [
        (replace(TOPIC, cluster_id="other"), "on the Kafka cluster 'cluster', and this is 'interactions' on 'other'"),
        (replace(TOPIC, name="clicks"), "is of topic 'interactions'.* this is 'clicks'"),
        (replace(TOPIC, topic_id="22222222-2222-2222-2222-222222222222"), "was deleted and made anew"),
    ],
)
def test_another_topic_is_refused_with_the_ways_out(directory: Path, log: RecordLog, topic, said: str) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    with pytest.raises(ArchiveError, match=rf"{said}.*--archive.*move this one away.*--no-archive"):
        append(directory, [], log.ends, topic)


def test_a_broker_that_knows_no_topic_ids_is_believed(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    append(directory, log.interactions(clicks(1, first=10)), log.ends, replace(TOPIC, topic_id=""))
    assert event_offsets(directory) == everything(log)


def test_fewer_partitions_are_another_topic_and_more_are_not(directory: Path) -> None:
    small, large = RecordLog(2), RecordLog(3)
    append(directory, large.interactions(clicks(10)), large.ends)
    with pytest.raises(ArchiveError, match="made anew"):
        append(directory, small.interactions(clicks(10)), small.ends)
    large.ends[3] = 0
    manifest = append(directory, [large.record(clicks(1)[0].to_json(), 3)], large.ends)
    assert (manifest.n_partitions, manifest.n_rows, manifest.next_offsets[3]) == (4, 11, 1)


def test_a_log_that_ends_before_what_was_read_of_it_is_refused(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    ends = {**log.ends, 1: log.ends[1] - 1}
    with pytest.raises(ArchiveError, match=r"partition 1 .* has lost its newest records"):
        append(directory, [], ends)


def test_what_retention_took_before_it_was_read_is_counted(directory: Path, log: RecordLog) -> None:
    append(directory, log.interactions(clicks(10)), log.ends)
    begins = {partition: end + 5 for partition, end in log.ends.items()}
    with Appender(directory, TOPIC, begins, RULES.max_record_bytes) as appender:
        assert (appender.n_lost, appender.next_offsets) == (10, begins)
        appender.commit(begins)
    manifest = read_manifest(directory)
    assert (manifest.lost, manifest.next_offsets) == ({0: 5, 1: 5}, begins)
    assert manifest.first_offsets == {0: 0, 1: 0}


def test_what_was_gone_before_the_first_reading_is_not_lost(directory: Path) -> None:
    manifest = append(directory, [], {0: 70, 1: 80}, begins={0: 70, 1: 80})
    assert (manifest.lost, manifest.first_offsets) == ({}, {0: 70, 1: 80})


def test_two_trainers_do_not_append_at_once(directory: Path, log: RecordLog) -> None:
    with (
        Appender(directory, TOPIC, {0: 0, 1: 0}, RULES.max_record_bytes),
        pytest.raises(ArchiveError, match=r"process \d+ on .* is reading into the archive .*--archive"),
    ):
        append(directory, [], log.ends)
    append(directory, [], log.ends)
