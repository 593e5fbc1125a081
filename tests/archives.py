"""Records as Kafka hands them over, and archives of them, without a broker."""

from __future__ import annotations

import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from encoders.records import Interaction
from streams.routing import partition_of
from trainer.archive import Appender, Manifest
from trainer.cleaning import CleaningRules, Record
from trainer.replay import TopicIdentity

TOPIC = TopicIdentity("cluster", "interactions", "11111111-1111-1111-1111-111111111111")
RULES = CleaningRules()


class RecordLog:
    """A topic in memory: gives records offsets, each partition its own."""

    def __init__(self, n_partitions: int = 2) -> None:
        self.ends = dict.fromkeys(range(n_partitions), 0)

    def record(self, value: bytes | None, partition: int, headers: Sequence[tuple[str, bytes | None]] = ()) -> Record:
        """The next record of a partition."""
        self.ends[partition] += 1
        return Record(value, headers, partition, self.ends[partition] - 1)

    def interactions(self, given: Sequence[Interaction]) -> list[Record]:
        """Each in its user's partition."""
        return [self.record(each.to_json(), partition_of(each.user_id, len(self.ends))) for each in given]


def append(
    directory: Path,
    records: Sequence[Record],
    ends: Mapping[int, int],
    topic: TopicIdentity = TOPIC,
    begins: Mapping[int, int] | None = None,
) -> Manifest:
    """One reading: all records are appended and committed."""
    begins = begins or dict.fromkeys(ends, 0)
    with Appender(directory, topic, begins, RULES.max_record_bytes) as appender:
        appender.append(records)
        appender.insist_on_reaching(ends)
        appender.commit(ends)
        return appender.manifest


@contextmanager
def no_file_larger_than(n_bytes: int) -> Iterator[None]:
    """As a disk that is full: this process can make no file larger."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
