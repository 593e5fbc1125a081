"""Reading an archive: columns as they lie in the files, mapped into memory. Nothing here needs the lock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.archive.files import insist_on_checksum
from trainer.archive.manifest import COLUMN_FILES, END_FILES, TEXT_FILES, Manifest, load_manifest
from trainer.errors import ArchiveError
from trainer.ids import Ids
from trainer.rows import COLUMN_TYPES, Columns, Rows


def read_manifest(directory: Path) -> Manifest:
    """The last commit of an archive.

    Raises:
        ArchiveError: If there is no archive, or its manifest cannot be read.
    """
    manifest = load_manifest(directory)
    if manifest is None:
        raise ArchiveError(f"there is no archive in {directory}; `streamrec train` writes one, into trainer.archive")
    return manifest


def read_rows(directory: Path, manifest: Manifest) -> Rows:
    """All rows of a commit, the last one or one before it; later ones do not change what is returned.

    Every byte is compared with its checksum first, one file after the other.

    Raises:
        ArchiveError: If a file is missing or damaged.
    """
    columns = {name: _mapped(directory / COLUMN_FILES[name], dtype, manifest) for name, dtype in COLUMN_TYPES.items()}
    users, items, catalogues = (read_ids(directory, manifest, table) for table in ("users", "items", "catalogues"))
    return Rows(Columns(**columns), users, items, catalogues)


def read_ids(directory: Path, manifest: Manifest, table: str) -> Ids:
    """The ids of one table of a commit.

    Raises:
        ArchiveError: If a file is missing or damaged.
    """
    ends = _mapped(directory / END_FILES[table], np.dtype("<i8"), manifest)
    offsets = np.concatenate([np.zeros(1, dtype=np.int64), ends])
    return Ids(_mapped(directory / TEXT_FILES[table], np.dtype(np.uint8), manifest), offsets)


def _mapped(path: Path, dtype: np.dtype[Any], manifest: Manifest) -> npt.NDArray[Any]:
    record = manifest.files[path.name]
    insist_on_checksum(path, record)
    n = record.n_bytes // dtype.itemsize
    return np.asarray(np.memmap(path, dtype, "r", shape=(n,))) if n else np.empty(0, dtype=dtype)
