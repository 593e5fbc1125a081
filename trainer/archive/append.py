"""Appending to an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from trainer.archive.files import LOCK_FILE, GrowingFile, HeldError, locked
from trainer.archive.manifest import (
    COLUMN_FILES,
    END_FILES,
    ID_TABLES,
    TEXT_FILES,
    Manifest,
    PartitionCounts,
    load_manifest,
    store_manifest,
)
from trainer.archive.read import read_ids
from trainer.errors import ArchiveError
from trainer.ids import IdTable
from trainer.rows import COLUMN_TYPES, KafkaRecord, RowMaker

if TYPE_CHECKING:
    from trainer.replay import TopicIdentity


_WAYS_OUT = (
    "Give another folder with --archive (trainer.archive), move this one away to begin anew with what the topic holds, "
    "or train without one with --no-archive"
)


class Appender:
    """An archive that is being appended to, by this process alone; use it as a context.

    Leaving it drops what was not committed. After an error nothing more can be committed.

    Args:
        directory: Made if it is missing.
        topic: What is read into it.
        begins: By partition, the oldest offset that the topic still holds. There may be more partitions than before.
        max_record_bytes: Larger records are dead.

    Raises:
        ArchiveError: On entry, if the archive is damaged, of another topic, or in use. From any method, if the disk
            does not take what is written: what was committed before stays.
    """

    manifest: Manifest
    """The last commit."""
    next_offsets: PartitionCounts
    """Where each partition is to be read from."""
    n_lost: int
    """How many offsets retention has removed since the last reading, before they were read."""
    n_records: int
    """How many records it has taken in all, those included that are not committed yet."""

    def __init__(self, directory: Path, topic: TopicIdentity, begins: Mapping[int, int], max_record_bytes: int) -> None:
        self._directory, self._topic, self._begins = directory, topic, begins
        self._max_record_bytes = max_record_bytes

    def __enter__(self) -> Self:
        with ExitStack() as opened, self._disk_errors():
            self._directory.mkdir(parents=True, exist_ok=True)
            try:
                opened.enter_context(locked(self._directory / LOCK_FILE))
            except HeldError as holder:
                raise ArchiveError(
                    f"{holder} is reading into the archive {self._directory}; wait until it has, or give this trainer "
                    "another folder with --archive"
                ) from None
            found = load_manifest(self._directory)
            self._is_new = found is None
            self.manifest = self._of_this_topic(found)
            self._files = {
                name: opened.enter_context(GrowingFile(self._directory / name, record))
                for name, record in self.manifest.files.items()
            }
            tables = [IdTable(read_ids(self._directory, self.manifest, table)) for table in ID_TABLES]
            self._opened = opened.pop_all()
        users, items, catalogues = self._tables = tables
        dead = Counter(self.manifest.dead)
        self._maker = RowMaker(len(self._begins), self._max_record_bytes, users, items, catalogues, dead)
        self._n_rows, self.n_records = self.manifest.n_rows, self.manifest.n_records
        self._go_on()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._opened.close()

    def append(self, records: Sequence[KafkaRecord]) -> None:
        """Take records, those of a partition in the order of their offsets; what it has already is passed over."""
        new = [record for record in records if record.offset >= self.next_offsets.get(record.partition, 0)]
        try:
            columns = self._maker.columns(new)
        except OverflowError as error:
            raise ArchiveError(f"the archive {self._directory} is full: {error}; begin another one") from error
        with self._disk_errors():
            for name, dtype in COLUMN_TYPES.items():
                self._files[COLUMN_FILES[name]].append(getattr(columns, name).astype(dtype, copy=False).tobytes())
        for record in new:
            self.next_offsets[record.partition] = record.offset + 1
        self._n_rows += len(columns)
        self.n_records += len(new)

    def commit(self, positions: Mapping[int, int]) -> None:
        """Make all that was appended count; it is on the disk when this returns.

        Args:
            positions: By partition, the offset behind what was read. It may be beyond the last record, where
                transactions ended or records were compacted; where it is before it, it is passed over.
        """
        self.next_offsets.update({p: max(offset, self.next_offsets.get(p, 0)) for p, offset in positions.items()})
        if not self._is_new and self.next_offsets == self.manifest.next_offsets:
            return
        with self._disk_errors():
            self._append_ids()
            for file in self._files.values():
                file.sync()
            committed = self._as_it_is()
            store_manifest(self._directory, committed)
        self.manifest, self._is_new = committed, False
        for file in self._files.values():
            file.committed()

    def insist_on_reaching(self, positions: Mapping[int, int]) -> None:
        """Check that the log did not end before what was read of it earlier.

        Raises:
            ArchiveError: If it did: the topic lost records, and what will stand at these offsets would be missed.
        """
        for partition, offset in positions.items():
            if offset < self.manifest.next_offsets.get(partition, 0):
                raise ArchiveError(
                    f"partition {partition} of topic {self._topic.name!r} ends at offset {offset:,}, and was read "
                    f"through {self.manifest.next_offsets[partition]:,} before: it has lost its newest records. "
                    f"{_WAYS_OUT}"
                )

    def _of_this_topic(self, found: Manifest | None) -> Manifest:
        """The last commit, or an empty one; refuses one of another topic."""
        topic, n_partitions = self._topic, len(self._begins)
        if found is None:
            return Manifest(
                cluster_id=topic.cluster_id, topic=topic.name, topic_id=topic.topic_id, n_partitions=n_partitions
            )
        if (found.cluster_id, found.topic) != (topic.cluster_id, topic.name):
            raise ArchiveError(
                f"the archive {self._directory} is of topic {found.topic!r} on the Kafka cluster {found.cluster_id!r}, "
                f"and this is {topic.name!r} on {topic.cluster_id!r}. {_WAYS_OUT}"
            )
        made_anew = found.topic_id and topic.topic_id and found.topic_id != topic.topic_id
        if made_anew or n_partitions < found.n_partitions:
            raise ArchiveError(
                f"topic {topic.name!r} was deleted and made anew since the archive {self._directory} was written: its "
                f"offsets begin anew. {_WAYS_OUT}"
            )
        return found

    def _go_on(self) -> None:
        """Find out where each partition goes on, and what is missing there."""
        reached, self._lost = self.manifest.next_offsets, Counter(self.manifest.lost)
        self.next_offsets = {p: max(begin, reached.get(p, 0)) for p, begin in self._begins.items()}
        gaps = {p: begin - reached[p] for p, begin in self._begins.items() if begin > reached.get(p, begin)}
        self._lost.update(gaps)
        self.n_lost = sum(gaps.values())

    def _append_ids(self) -> None:
        for name, table in zip(ID_TABLES, self._tables, strict=True):
            text, ends = self._files[TEXT_FILES[name]], self._files[END_FILES[name]]
            ids = table.ids
            text.append(ids.text[text.record.n_bytes :].tobytes())
            ends.append(ids.offsets[1 + ends.record.n_bytes // 8 :].astype("<i8", copy=False).tobytes())

    def _as_it_is(self) -> Manifest:
        before = self.manifest
        changes = {
            "n_partitions": len(self._begins),
            "first_offsets": {**self._begins, **before.first_offsets},
            "next_offsets": dict(self.next_offsets),
            "lost": dict(self._lost),
            "n_records": self.n_records,
            "n_rows": self._n_rows,
            "dead": dict(self._maker.dead),
            "files": {name: file.record for name, file in self._files.items()},
        }
        return Manifest.model_validate({**before.model_dump(), **changes})

    @contextmanager
    def _disk_errors(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise ArchiveError(
                f"cannot write to the archive {self._directory}: {error.strerror or error}; what was committed before "
                "is kept. Make room or correct its rights, or give another folder with --archive (trainer.archive)"
            ) from error
