"""What can go wrong with an index file, and what to do about it."""

from __future__ import annotations


class VectorIndexError(Exception):
    """An index file is missing, damaged or of another kind than the one asked for.

    Operator: the message names the file; publish the model again (`streamrec train`).
    """
