"""Functions over arrays and numbers, compiled to machine code by Numba.

What an event costs in Python is objects. The few loops that every event goes through are therefore written over
arrays, in the subset of Python that Numba compiles, and read as what they do. `NUMBA_DISABLE_JIT=1` runs
them as plain Python.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
Int = Any
"""A whole number in a compiled function, where an `int` and an element of an array are the same."""


def compiled(function: F) -> F:
    """Compile a function when it is first called with arguments of new types; the machine code is kept on disk."""
    return cast(F, njit(cache=True, nogil=True)(function))


def as_bytes(data: bytes) -> Bytes:
    """Bytes as an array that shares their memory, and cannot be written to."""
    return np.frombuffer(data, dtype=np.uint8)


@compiled
def copy_bytes(into: Bytes, at: Int, source: Bytes, start: Int, n: Int) -> Int:
    """Copy ``n`` bytes, and return where the next go."""
    for i in range(n):
        into[at + i] = source[start + i]
    return at + n


@compiled
def read_int(source: Bytes, at: Int, n: Int) -> Int:
    """A signed integer of ``n`` bytes, little endian; with fewer than eight bytes it is not negative."""
    value: Int = np.int64(0)
    for i in range(n):
        value |= np.int64(source[at + i]) << np.int64(8 * i)
    return value


@compiled
def write_int(into: Bytes, at: Int, value: Int, n: Int) -> Int:
    """Write an integer of ``n`` bytes, little endian, and return where the next go."""
    for i in range(n):
        into[at + i] = np.uint8((value >> (8 * i)) & 0xFF)
    return at + n
