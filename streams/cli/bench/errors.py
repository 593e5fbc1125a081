"""Operational errors of the benchmarks."""

from __future__ import annotations

from streams.errors import StreamsError


class BenchError(StreamsError):
    """A benchmark could not be carried out, so it has no figures.

    Operator: the message says what was missing: servers, memory, or a process that ended by itself.
    """


class UnknownBenchmarkError(BenchError):
    """There is no benchmark of that name.

    Operator: the message says which there are.
    """
