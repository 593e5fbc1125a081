"""Reading what FAISS wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TypeVar

import faiss

from index.errors import VectorIndexError

F = TypeVar("F", bound=faiss.Index)

_METRICS = {faiss.METRIC_INNER_PRODUCT: "inner product", faiss.METRIC_L2: "distance"}


def read_index(path: Path, expected: type[F], metric: int, name: str) -> F:
    """The FAISS index in a file, if it is exactly of the expected type.

    Args:
        path: The file.
        expected: The type.
        metric: What it must compare by.
        name: What messages call such an index, such as ``a flat index``.

    Raises:
        VectorIndexError: If the file cannot be read or holds something else.
    """
    try:
        loaded = faiss.read_index(str(path))
    except RuntimeError as error:  # FAISS raises nothing more particular
        raise VectorIndexError(f"{path} cannot be read as an index: {error}") from error
    if not isinstance(loaded, expected) or loaded.metric_type != metric:
        found = f"{type(loaded).__name__} by {_METRICS.get(loaded.metric_type, 'another metric')}"
        raise VectorIndexError(f"{path} holds a {found}, not {name} by {_METRICS[metric]}")
    return loaded
