"""Cells of the table of quality, each run in a process of its own, several at once."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from io import TextIOWrapper
from multiprocessing.connection import wait
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from trainer.quality.cells import Cell

LIBRARIES = ("torch", "numpy", "numba")
"""Whose versions stand in a cell."""
GRACE_S = 5.0
"""How long cells that are interrupted have to tidy up."""


@dataclass(frozen=True)
class Run:
    """How cells were run, and where what they make goes."""

    jobs: int
    """How many at once."""
    output: Path
    """Where their files go."""
    working: Path
    """Where fits are kept."""


@dataclass
class Outcome:
    """What became of cells."""

    took_s: dict[Cell, float] = field(default_factory=dict)
    """Those that were run, and how long each took by the clock."""
    failed: list[Cell] = field(default_factory=list)


def run_cells(todo: Sequence[Cell], run: Run, console: Console) -> Outcome:
    """Run cells in their order, some at once. Of cells that need the same fit, one waits for the other.

    Raises:
        Exit: With 130, if it is interrupted. However it ends, no process is left behind.
    """
    waiting, outcome = list(todo), Outcome()
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            while len(running) < run.jobs and (cell := next_free(waiting, [each.cell for each in running.values()])):
                left = _left(waiting, running, outcome.took_s, run.jobs)
                console.rule(f"{len(todo) - len(waiting) + 1} of {len(todo)}: {cell.name}{left}")
                waiting.remove(cell)
                started = _Running(cell, run)
                running[started.process.sentinel] = started
            for sentinel in wait(list(running)):
                ended = running.pop(int(sentinel))  # type: ignore[arg-type]  # sentinels of processes are numbers
                ended.process.join()
                if code := ended.process.exitcode:
                    outcome.failed.append(ended.cell)
                    _say_killed(ended.cell, code, console)
                else:
                    outcome.took_s[ended.cell] = time.monotonic() - ended.since_s
    except KeyboardInterrupt:
        console.print("\nstopped; the next run goes on from here")
        raise typer.Exit(130) from None
    finally:
        _end([each.process for each in running.values()])
    return outcome


def next_free(waiting: Sequence[Cell], running: Sequence[Cell]) -> Cell | None:
    """The first cell whose fits nobody is at; None if there is none."""
    going_on = {fit for cell in running for fit in cell.fits}
    return next((cell for cell in waiting if not cell.fits & going_on), None)


class _Running:
    """A cell in its process, which shows what the cell takes of memory, and leaves none behind."""

    def __init__(self, cell: Cell, run: Run) -> None:
        self.cell, self.since_s = cell, time.monotonic()
        spawn = multiprocessing.get_context("spawn")
        # A daemon is ended with this process, even if it is interrupted just now.
        self.process: SpawnProcess = spawn.Process(target=run_in_process, args=(cell, run), daemon=True)
        self.process.start()


def _left(waiting: Sequence[Cell], running: Mapping[int, _Running], took_s: Mapping[Cell, float], jobs: int) -> str:
    """How long it will take, for a line; nothing where that is not known."""
    from trainer.quality.cells import left_s

    now_s = time.monotonic()
    spent_s = {each.cell: now_s - each.since_s for each in running.values()}
    left = left_s([*waiting, *spent_s], took_s, spent_s)
    return "" if left is None else f", about {left / min(jobs, len(waiting) + len(running)) / 60:.0f} min left"


def _say_killed(cell: Cell, code: int, console: Console) -> None:
    """Of a process that said nothing itself, say what ended it."""
    if code < 0:
        advice = "; perhaps there is too little memory: give fewer --jobs" if -code == signal.SIGKILL else ""
        name = signal.Signals(-code).name
        console.print(f"{cell.name} was ended by {name}{advice}", highlight=False, soft_wrap=True)


def _end(processes: Sequence[SpawnProcess]) -> None:
    """End what still runs. On a terminal, Ctrl-C has reached it, too, and it puts the terminal in order first."""
    until_s = time.monotonic() + (GRACE_S if sys.stdout.isatty() else 0.0)
    for process in processes:
        process.join(max(0.0, until_s - time.monotonic()))
        process.terminate()
    for process in processes:
        process.join()


def run_in_process(cell: Cell, run: Run) -> None:
    """Run a cell and write its file; what goes wrong is said in one line, and ends the process with 1.

    Where several run at once there are lines in place of bars, which would overwrite each other, and each begins with
    its cell's name.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print_line_by_line()
    from rich.console import Console

    from streams.cli.training import ConsoleReport
    from trainer.errors import TrainerError
    from trainer.machine import machine
    from trainer.quality.cells import run_cell, write_cell

    where = {**machine(LIBRARIES), "jobs": run.jobs}  # as it is now: sources may change while it runs
    console = Console() if run.jobs == 1 else Console(force_terminal=False, soft_wrap=True)
    try:
        with ConsoleReport(console, "" if run.jobs == 1 else f"{cell.name}: ") as report:
            figures = run_cell(cell, run.working, report)
        path = write_cell(run.output, cell, {**figures, "environment": where})
    except (TrainerError, OSError) as error:
        print(f"streamrec: {cell.name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    print(path)


def print_line_by_line() -> None:
    """In a file, too: a run of hours is looked at while it goes on, and the lines of two processes stay in order."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _end_with_parent() -> None:
    """Whatever ended the process that waits for this one, nobody waits any more."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
