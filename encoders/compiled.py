"""Functions over arrays and numbers, compiled to machine code by Numba.

What an event costs in Python is objects. The few loops that every event goes through are therefore written over
arrays, in the subset of Python that Numba compiles, and read as what they do.

Numba keeps machine code on disk and looks only at the file of a function to see whether it is still right. A loop here
calls functions of other files, so what is kept lies in a folder for exactly these sources.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import blake2b
from pathlib import Path
from typing import Any, TypeVar, cast

import numpy as np
import numpy.typing as npt
from numba import config, njit, types
from numba.core import cgutils
from numba.extending import intrinsic

F = TypeVar("F", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
IntArray = npt.NDArray[np.int64]
Int = Any
"""A whole number in a compiled function, where an `int` and an element of an array are the same."""


def _folder() -> Path:
    """Where machine code is kept: beside these sources, else among the user's caches."""
    here = Path(__file__).resolve().parent
    sources = sorted(path for package in (here, here.parent / "streams") for path in package.glob("*.py"))
    name = f"compiled-{blake2b(b''.join(path.read_bytes() for path in sources), digest_size=8).hexdigest()}"
    folder = here / "__pycache__" / name
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return folder if os.access(folder, os.W_OK) else Path.home() / ".cache" / "streamrec" / name


_settings: Any = config
_settings.CACHE_DIR = _settings.CACHE_DIR or str(_folder())


def compiled(function: F) -> F:
    """Compile a function when it is first called with arguments of new types; the machine code is kept on disk."""
    return cast(F, njit(cache=True)(function))


def compiled_without_nan(function: F) -> F:
    """The same for a loop over numbers that are never NaN nor divided by zero; it does many of them at once."""
    return cast(F, njit(cache=True, fastmath={"nnan", "nsz", "contract"}, error_model="numpy")(function))


def as_bytes(data: bytes) -> Bytes:
    """Bytes as an array that shares their memory, and cannot be written to."""
    return np.frombuffer(data, dtype=np.uint8)


def _call_memcpy(typing_context: Any, into: Any, at: Any, source: Any, start: Any, n: Any) -> Any:
    """C's `memcpy` between two arrays of bytes: LLVM makes none of a loop, as it cannot know that they are two."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        to, origin = (
            builder.gep(context.make_array(signature.args[n])(context, builder, arguments[n]).data, [arguments[n + 1]])
            for n in (0, 2)
        )
        raw_memcpy: Callable[..., None] = cgutils.raw_memcpy
        raw_memcpy(builder, to, origin, arguments[4], 1)

    return types.void(into, at, source, start, n), generate


_memcpy: Any = intrinsic(_call_memcpy)


@compiled
def copy_bytes(into: Bytes, at: Int, source: Bytes, start: Int, n: Int) -> Int:
    """Copy ``n`` bytes from one array into another, and return where the next go."""
    _memcpy(into, at, source, start, n)
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
