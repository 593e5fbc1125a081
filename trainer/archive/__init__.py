"""An append-only archive of interactions: what the trainer has read of a topic, as columns that are memory-mapped.

A directory with one file for each column of `trainer.rows.Columns`, two for each table of ids, and a manifest that says
how much of them counts. Files only ever grow; a commit writes the manifest anew, to a temporary name that is renamed.
So a kill at any moment leaves the last commit, and what lies behind it is cut off before more is appended.
"""

from trainer.archive.append import Appender
from trainer.archive.manifest import Manifest
from trainer.archive.read import read_manifest, read_rows

__all__ = ["Appender", "Manifest", "read_manifest", "read_rows"]
