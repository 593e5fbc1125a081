"""One side of the comparison, seen from outside: a process of one thread that learns when it is told to."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

import numpy as np

from trainer.errors import RecBoleError
from trainer.recbole.peer_venv import last_line
from trainer.recbole.turns import Vectors

ROOT = Path(__file__).parents[2]
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
SECONDS_TO_END = 10.0


class Turn(NamedTuple):
    """What was learned at a stretch, and what it took; neither reading the data nor validation is in it."""

    n_targets: int
    """Target positions that were learned."""
    loss: float
    """Their mean."""
    seconds: float
    cpu_seconds: float


def our_command() -> list[str]:
    """What runs `ours`."""
    return [sys.executable, "-m", "trainer.recbole.ours"]


def their_command(python: Path) -> list[str]:
    """What runs `theirs` with the interpreter of RecBole's venv."""
    return [str(python), "-m", "trainer.recbole.theirs"]


class Contestant:
    """A program that uses `turns.Turns`; it is stopped when the block ends.

    Args:
        name: Of its files: `ours` or `theirs`.
        command: Runs it, without folder and name.
        folder: What `task` puts into it; the program runs in it, with a log beside.

    Raises:
        RecBoleError: If it ends before it is ready.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path) -> None:
        self.name, self._folder, self._log = name, folder, folder / f"{name}.log"
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, str(folder), name],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                cwd=folder,
                env={**os.environ, **ONE_THREAD, "PYTHONPATH": str(ROOT)},
            )
        facts = self._answer()
        if facts is None:
            raise RecBoleError(f"{name} ended before it was asked anything")
        self.facts: dict[str, Any] = facts
        """What it says of itself: `n_targets` of a pass, its settings, versions."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._close()

    def learn(self) -> Turn | None:
        """Let it learn for one turn; blocks until it is over. None if its schedule is over.

        Raises:
            RecBoleError: If it fails.
        """
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # where it has ended, why is told below
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
        answer = self._answer()
        return None if answer is None else Turn(**answer)

    def vectors(self) -> Vectors:
        """What it has become in its last turn. Shapes: ``(Q, D)`` and ``(N + 1, D)``."""
        with np.load(self._folder / f"{self.name}.npz") as held:
            return held["queries"], held["items"]

    def _answer(self) -> dict[str, Any] | None:
        """Its next line; None if it has ended well."""
        assert self._process.stdout is not None
        if line := self._process.stdout.readline():
            answer: dict[str, Any] = json.loads(line)
            return answer
        if code := self._process.wait():
            said = last_line(self._log.read_text(errors="replace"))
            raise RecBoleError(f"{self.name} failed with exit code {code} and said last: {said}")
        return None

    def _close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # it may have ended before
            self._process.stdin.close()
        try:
            self._process.wait(SECONDS_TO_END if self._process.poll() is None else 0)
        except subprocess.TimeoutExpired:
            self._process.kill()  # in the middle of a turn
            self._process.wait()
        self._process.stdout.close()
