"""How a program that learns talks to the comparison: a line in, some steps, a line out.

Shape letters: ``Q`` validation queries, ``N`` items, ``D`` embedding dimension.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Vectors = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
"""A model as what ranks items: vectors of the queries and of the items, whose inner products are the scores.

Shapes: ``(Q, D)`` and ``(N + 1, D)``; row 0 of the items is padding.
"""


class Turns:
    """One side of a comparison. Nothing is learned, and no clock runs, outside its turns.

    Args:
        folder: Where vectors are put.
        name: Of this side, to name its file by.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.npz"
        # What libraries print must not end up between the lines.
        self._answers = os.fdopen(os.dup(1), "w")
        os.dup2(2, 1)

    def begin(self, **facts: Any) -> None:
        """Say that all is read and made, with what there is to say of it, and wait for the first turn."""
        self._answer(facts)
        self._await_turn()

    def over(self, n_targets: int, loss: float, vectors: Callable[[], Vectors]) -> None:
        """A turn is over; returns when the next turn begins, and ends the program where there is none.

        Args:
            n_targets: Target positions that were learned in it.
            loss: Their mean.
            vectors: What the model has become; asked for while the clock stands.
        """
        seconds = time.perf_counter() - self._since_s
        cpu_seconds = time.process_time() - self._cpu_since_s
        queries_QD, items_ND = vectors()
        np.savez(self._path, queries=queries_QD, items=items_ND)
        self._answer({"n_targets": n_targets, "loss": loss, "seconds": seconds, "cpu_seconds": cpu_seconds})
        self._await_turn()

    def _answer(self, line: dict[str, Any]) -> None:
        print(json.dumps(line), file=self._answers, flush=True)

    def _await_turn(self) -> None:
        if not sys.stdin.readline():
            sys.exit()
        self._since_s, self._cpu_since_s = time.perf_counter(), time.process_time()
