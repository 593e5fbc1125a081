"""What searches run on: FAISS's process-wide switches, and loops of our own compiled by Numba."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import faiss
from numba import njit

F = TypeVar("F", bound=Callable[..., Any])

_BLAS_FROM = 256
"""Queries times dimensions from which FAISS multiplies matrices: 4 queries of 64 dimensions.

FAISS 1.15 waits for 128,000 (2,000 such queries); from 4 on the product is faster, at 256 by a factor of two. It
is how a flat index compares, and how an IVF index chooses its lists.
"""
_RESERVOIR_FROM = 40
"""Answers for each query from which FAISS collects first and sorts later, instead of keeping a heap."""


def set_kernels() -> None:
    """Let FAISS take the faster way for batches of some hundred queries; asked for by each kind that gains from it."""
    # Up to 1.12 the first one counted queries alone and was 20: that is left as it is.
    faiss.cvar.distance_compute_blas_threshold = min(faiss.cvar.distance_compute_blas_threshold, _BLAS_FROM)
    faiss.cvar.distance_compute_min_k_reservoir = _RESERVOIR_FROM


def compiled(function: F) -> F:
    """Compile a loop over arrays when it is first called; the machine code is kept on disk."""
    return cast(F, njit(cache=True)(function))


def compiled_without_nan(function: F) -> F:
    """The same for a loop that never meets NaN, and compares many numbers at once for it."""
    return cast(F, njit(cache=True, fastmath={"nnan", "nsz"})(function))
