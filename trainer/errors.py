"""Operational errors of the trainer; each docstring ends with what the operator should do."""

from __future__ import annotations


class TrainerError(Exception):
    """Base of every error this package raises on purpose."""


class DatasetError(TrainerError):
    """A folder holds no data set that streamrec knows, a file of it cannot be read, or the fetch failed.

    Operator: the message names the file or lists the layouts that were looked for; correct the folder.
    """
