"""What an archive says of itself: the one file that a commit replaces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal
from uuid import uuid4

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from encoders.durable import sync
from trainer.errors import ArchiveError
from trainer.rows import COLUMN_TYPES

MANIFEST_FILE = "manifest.json"
ID_TABLES = ("users", "items", "catalogues")
TEXT_FILES = {table: f"{table}.text" for table in ID_TABLES}
"""Ids in UTF-8, one after the other."""
END_FILES = {table: f"{table}.ends" for table in ID_TABLES}
"""Where each id ends, eight bytes each."""
COLUMN_FILES = {column: f"rows.{column}" for column in COLUMN_TYPES}

PartitionCounts = dict[int, int]


class FileRecord(BaseModel):
    """How much of a file counts."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    n_bytes: int = Field(default=0, ge=0)
    crc32: int = 0
    """Of these bytes."""


def _empty_files() -> dict[str, FileRecord]:
    names = (*COLUMN_FILES.values(), *TEXT_FILES.values(), *END_FILES.values())
    return {name: FileRecord() for name in names}


class Manifest(BaseModel):
    """A commit: which topic it is of, how far it has been read, and what counts of each file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format_version: Literal[1] = 1
    archive_id: str = Field(default_factory=lambda: uuid4().hex)
    """Of the directory's contents; commits of one archive only ever append."""
    cluster_id: str
    topic: str
    topic_id: str
    """Kafka's own; empty where the broker is too old to have one."""
    n_partitions: int = Field(ge=1)
    first_offsets: PartitionCounts = {}
    """Where reading began, by partition."""
    next_offsets: PartitionCounts = {}
    """Where it goes on."""
    lost: PartitionCounts = {}
    """How many offsets retention removed before they were read."""
    n_records: int = 0
    """Of every kind, those that are dead included."""
    n_rows: int = 0
    dead: dict[str, int] = {}
    """Records that were no interactions and were not kept, by reason."""
    files: dict[str, FileRecord] = Field(default_factory=_empty_files)

    @model_validator(mode="after")
    def _files_agree(self) -> Manifest:
        if self.files.keys() != _empty_files().keys():
            raise ValueError(f"files {sorted(self.files.keys() ^ _empty_files().keys())} are missing or unknown")
        for column, dtype in COLUMN_TYPES.items():
            if self.files[COLUMN_FILES[column]].n_bytes != self.n_rows * dtype.itemsize:
                raise ValueError(f"file {COLUMN_FILES[column]} is not of {self.n_rows} rows")
        return self

    def n_ids(self, table: str) -> int:
        """How many ids a table holds."""
        return self.files[END_FILES[table]].n_bytes // 8


def load_manifest(directory: Path) -> Manifest | None:
    """The last commit; None where nothing was committed yet.

    Raises:
        ArchiveError: If it cannot be read, or is of another format.
    """
    path = directory / MANIFEST_FILE
    try:
        return Manifest.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ArchiveError(f"cannot read {path}: {error.strerror}; see that this user may read it") from error
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        place = ".".join(map(str, problem["loc"])) or "contents"
        raise ArchiveError(
            f"{path} is damaged or of another version of streamrec ({place}: {problem['msg']}); restore {directory} "
            "from a copy, or move it away: the next run reads what the topic still holds into a new one"
        ) from error


def store_manifest(directory: Path, manifest: Manifest) -> None:
    """Replace the manifest; it is on the disk when this returns.

    Raises:
        OSError: If it cannot be written; the former one still counts.
    """
    scratch = directory / f"{MANIFEST_FILE}.writing"
    with scratch.open("wb") as file:
        file.write(manifest.model_dump_json(indent=2).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
    scratch.replace(directory / MANIFEST_FILE)
    sync(directory)
