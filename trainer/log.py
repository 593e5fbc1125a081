"""The interactions of a topic or of a data set, cleaned."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass

from trainer.cleaning import Cleaner, CleaningRules
from trainer.datasets import Dataset
from trainer.interactions import Interactions
from trainer.replay import KafkaSource, open_topic
from trainer.report import Report


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


def read_log(source: KafkaSource, rules: CleaningRules, report: Report) -> Log:
    """Replay and clean the topic of interactions, as far as it reaches now.

    Raises:
        ReplayError: If a topic does not exist, or the brokers do not answer or stop answering.
    """
    with open_topic(source, source.items) as items:
        items_offsets = items.begins
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


def _now_ms() -> int:
    return int(time.time() * 1000)


def _in_words(log: Log) -> str:
    events = log.events
    dropped = ", ".join(f"{n:,} {reason}" for reason, n in sorted(log.dropped.items())) or "none"
    return (
        f"{len(events):,} events of {len(events.user_ids):,} users and {len(events.item_ids):,} items; "
        f"records left out: {dropped}"
    )
