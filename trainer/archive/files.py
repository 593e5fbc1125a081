"""Files that only grow, and the lock of a directory."""

from __future__ import annotations

import fcntl
import os
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Self

from trainer.archive.manifest import FileRecord
from trainer.errors import ArchiveError

LOCK_FILE = "lock"
_PIECE_BYTES = 1 << 22


class GrowingFile:
    """A file that is appended to; use it as a context. On entry and on exit, what does not count is cut off.

    Args:
        path: Made if it is missing and nothing of it was committed.
        committed: How much of it counts.

    Raises:
        ArchiveError: On entry, if it is shorter than what was committed.
        OSError: If it cannot be written.
    """

    record: FileRecord
    """Its length and checksum now."""

    def __init__(self, path: Path, committed: FileRecord) -> None:
        self._path, self._committed = path, committed

    def __enter__(self) -> Self:
        insist_on_length(self._path, self._committed)
        self._file = self._path.open("r+b" if self._path.exists() else "x+b", buffering=0)
        self._cut()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._cut()
        self._file.close()

    def append(self, data: bytes) -> None:
        """Write behind what is there."""
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]
        before = self.record
        self.record = FileRecord(n_bytes=before.n_bytes + len(data), crc32=zlib.crc32(data, before.crc32))

    def sync(self) -> None:
        """Make it durable."""
        os.fsync(self._file.fileno())

    def committed(self) -> None:
        """What it holds counts from now on."""
        self._committed = self.record

    def _cut(self) -> None:
        self._file.truncate(self._committed.n_bytes)
        self._file.seek(self._committed.n_bytes)
        self.record = self._committed


def insist_on_length(path: Path, record: FileRecord) -> None:
    """Check that a file has what counts of it.

    Raises:
        ArchiveError: If it is missing or too short.
    """
    there = path.stat().st_size if path.exists() else 0
    if there < record.n_bytes:
        raise ArchiveError(f"{path} has {there:,} bytes instead of {record.n_bytes:,}; {way_out(path.parent)}")


def insist_on_checksum(path: Path, record: FileRecord) -> None:
    """Check what counts of a file, all of it.

    Raises:
        ArchiveError: If it is missing, too short or not what was written.
    """
    insist_on_length(path, record)
    crc32, left = 0, record.n_bytes
    if left:
        with path.open("rb", buffering=0) as file:
            while left and (piece := file.read(min(left, _PIECE_BYTES))):
                crc32, left = zlib.crc32(piece, crc32), left - len(piece)
    if crc32 != record.crc32:
        raise ArchiveError(f"{path} is damaged: its contents are not what was written; {way_out(path.parent)}")


def way_out(directory: Path) -> str:
    """What to do about a damaged archive."""
    return f"restore {directory} from a copy, or move it away: the next run reads what the topic still holds anew"


class HeldError(Exception):
    """Another process has the lock; says which."""


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes out; one that dies lets go.

    Raises:
        HeldError: If another one has the lock.
    """
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise HeldError(f"process {file.read().strip() or '?'}") from None
        file.truncate(0)
        file.write(f"{os.getpid()} on {os.uname().nodename}")
        file.flush()
        yield
