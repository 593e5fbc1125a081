"""Operational errors of the service; each docstring ends with what the operator should do."""

from __future__ import annotations


class StreamsError(Exception):
    """Base of every error this package raises on purpose."""


class StateFormatError(StreamsError):
    """Stored state has a form that this version of streamrec cannot read.

    Operator: run the version that wrote it, or drop the state with `streamrec state reset`; the worker
    then rebuilds the sessions from the log.
    """


class StateMismatchError(StreamsError):
    """The state in Redis belongs to another cluster, another partition count or a longer log.

    Operator: point the worker at the right Redis or Kafka. If the old state is no longer wanted, drop it
    with `streamrec state reset`.
    """


class StateAheadError(StateMismatchError):
    """The state has applied more than the log is seen to hold.

    Operator: as for `StateMismatchError`.
    """


class OvertakenError(StreamsError):
    """A session already holds events of the batch being computed: another worker was faster.

    Operator: nothing; the worker drops the batch and takes the partition anew if it still has it.
    """


class DependencyError(StreamsError):
    """Kafka or Redis cannot be used at start.

    Operator: the message names the address and what to check.
    """
