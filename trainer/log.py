"""The interactions of a topic or of a data set, cleaned."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from trainer.archive import Appender, Manifest, read_rows
from trainer.cleaning import Cleaner, CleaningRules, clean
from trainer.datasets import Dataset
from trainer.interactions import Interactions
from trainer.replay import KafkaSource, TopicReader, identify, open_topic
from trainer.report import Report

COMMIT_EVERY_RECORDS = 500_000
"""A reading that is interrupted goes on behind the last of these."""


@dataclass(frozen=True)
class Log:
    """What the topics held when they were read."""

    events: Interactions
    n_records: int
    dropped: Mapping[str, int]
    read_through: dict[int, int]
    """By partition, the offset after the last interaction that was read."""
    items_offsets: dict[int, int]
    """By partition, the oldest offset of `items`."""


class Snapshot(BaseModel):
    """An archive as of one reading of the topic. Later readings do not change it, since an archive only grows."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    commit: Manifest
    items_offsets: dict[int, int]
    """By partition, the oldest offset of `items` then."""
    now_ms: int
    """The clock then."""


def read_log(source: KafkaSource, rules: CleaningRules, report: Report, archive: Path | None = None) -> Log:
    """Read and clean the topic of interactions, as far as it reaches now.

    Args:
        source: Where the topic is.
        rules: What is usable.
        report: Told how far it is.
        archive: What was read before lies there, and what is new is added; without it, the whole topic is read.

    Raises:
        ReplayError: If a topic does not exist, or the brokers do not answer or stop answering.
        ArchiveError: If the archive cannot be used.
    """
    if archive:
        return log_as_of(archive, bring_up_to_date(archive, source, rules, report), rules, report)
    items_offsets = _items_offsets(source)
    with open_topic(source, source.interactions) as records:
        report.say(f"Replaying {source.interactions} from {source.brokers}")
        cleaner = Cleaner(rules, records.n_partitions, now_ms=_now_ms())
        for record in records:
            cleaner.add(record.value, record.headers or (), record.partition, record.offset)
            if cleaner.n_records < records.n_expected:
                report.progress("replay", cleaner.n_records, records.n_expected)
        report.progress("replay", cleaner.n_records, cleaner.n_records)
        read_through = records.positions()
    log = Log(cleaner.finish(), cleaner.n_records, dict(cleaner.dropped), read_through, items_offsets)
    report.say(_in_words(log))
    return log


def bring_up_to_date(archive: Path, source: KafkaSource, rules: CleaningRules, report: Report) -> Snapshot:
    """Append to an archive what the topic of interactions holds beyond it.

    Raises:
        ReplayError: If a topic does not exist, or the brokers do not answer or stop answering.
        ArchiveError: If the archive cannot be used, or is of another topic.
    """
    items_offsets = _items_offsets(source)
    with open_topic(source, source.interactions) as topic:
        identity = identify(source, source.interactions)
        with Appender(archive, identity, topic.begins, rules.max_record_bytes) as appender:
            topic.go_on_from(appender.next_offsets)
            report.say(f"Reading what is new in {source.interactions} at {source.brokers} into {archive}")
            _append_all(topic, appender, report)
            if appender.n_lost:
                report.say(
                    f"  {appender.n_lost:,} records had been removed from the topic before they were read: train more "
                    "often, or raise its retention.ms"
                )
            return Snapshot(commit=appender.manifest, items_offsets=items_offsets, now_ms=_now_ms())


def log_as_of(archive: Path, snapshot: Snapshot, rules: CleaningRules, report: Report) -> Log:
    """The interactions that an archive held at a snapshot.

    Raises:
        ArchiveError: If the archive is damaged.
    """
    commit = snapshot.commit
    events, unused = clean(read_rows(archive, commit), rules, snapshot.now_ms)
    dropped = dict(Counter(commit.dead) + unused)
    log = Log(events, commit.n_records, dropped, dict(commit.next_offsets), snapshot.items_offsets)
    report.say(_in_words(log))
    return log


def dataset_log(dataset: Dataset, rules: CleaningRules, report: Report) -> Log:
    """The events of a data set, as if they stood in a topic of one partition.

    Raises:
        ValidationError: If a row cannot be a record.
    """
    cleaner = Cleaner(rules, 1, now_ms=_now_ms())
    for offset, interaction in enumerate(dataset.interactions()):
        cleaner.add(interaction.to_json(), (), 0, offset)
    log = Log(cleaner.finish(), cleaner.n_records, dict(cleaner.dropped), {0: cleaner.n_records}, {})
    report.say(_in_words(log))
    return log


def _append_all(topic: TopicReader, appender: Appender, report: Report) -> None:
    n_before, n_committed = appender.manifest.n_records, 0
    for records in topic.polls():
        appender.append(records)
        n_new = appender.n_records - n_before
        if n_new < topic.n_expected:
            report.progress("replay", n_new, topic.n_expected)
        if n_new - n_committed >= COMMIT_EVERY_RECORDS:
            appender.commit(topic.positions())
            n_committed = n_new
    appender.insist_on_reaching(topic.positions())
    appender.commit(topic.positions())
    n_new = appender.n_records - n_before
    report.progress("replay", n_new, n_new)


def _items_offsets(source: KafkaSource) -> dict[int, int]:
    with open_topic(source, source.items) as items:
        return items.begins


def _now_ms() -> int:
    return int(time.time() * 1000)


def _in_words(log: Log) -> str:
    events = log.events
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in sorted(log.dropped.items())) or "none"
    return (
        f"{len(events):,} events of {len(events.user_ids):,} users and {len(events.item_ids):,} items; "
        f"records left out: {dropped}"
    )
