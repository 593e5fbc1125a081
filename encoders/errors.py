"""What can go wrong between a record and a vector, and what to do about it."""

from __future__ import annotations


class EncodersError(Exception):
    """Base of every error this package raises on purpose."""


class VocabularyError(EncodersError):
    """Two items share an identity or an item number is out of range.

    Operator: rename one of the two items that the message names; nothing was written.
    """


class BundleError(EncodersError):
    """A model bundle is missing, damaged, of an unknown format or unsafe to serve.

    Operator: the message names the file; publish the model again (`streamrec train`) or restore the
    directory. A running worker keeps serving the model it has.
    """
