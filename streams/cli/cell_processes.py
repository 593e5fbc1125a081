"""Cells of the table of quality, each run in a process of its own, several at once."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from collections.abc import Sequence
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


def run_cells(todo: Sequence[Cell], jobs: int, output: Path, working: Path, console: Console) -> list[Cell]:
    """Run cells in their order, some at once; returns those that failed.

    Of cells that need the same fit, one waits for the other.

    Raises:
        Exit: With 130, if it is interrupted; the processes end, too.
    """
    from trainer.quality.cells import left_s

    waiting, failed = list(todo), []
    took_s: dict[Cell, float] = {}
    running: dict[int, _Running] = {}
    try:
        while waiting or running:
            while len(running) < jobs and (cell := next_free(waiting, [each.cell for each in running.values()])):
                left = left_s(waiting, took_s)
                about = "" if left is None else f", about {left / min(jobs, len(waiting)) / 60:.0f} min left"
                console.rule(f"{len(todo) - len(waiting) + 1} of {len(todo)}: {cell.name}{about}")
                waiting.remove(cell)
                started = _Running(cell, output, working, is_alone=jobs == 1)
                running[started.process.sentinel] = started
            for sentinel in wait(list(running)):
                ended = running.pop(int(sentinel))  # type: ignore[arg-type]  # sentinels of processes are numbers
                ended.process.join()
                if ended.process.exitcode:
                    failed.append(ended.cell)
                else:
                    took_s[ended.cell] = time.monotonic() - ended.since_s
    except KeyboardInterrupt:
        for each in running.values():
            each.process.terminate()
        for each in running.values():
            each.process.join()
        console.print("\nstopped; the next run goes on from here")
        raise typer.Exit(130) from None
    return failed


class _Running:
    """A cell in its process, which shows what the cell takes of memory, and leaves none behind."""

    def __init__(self, cell: Cell, output: Path, working: Path, is_alone: bool) -> None:
        self.cell, self.since_s = cell, time.monotonic()
        spawn = multiprocessing.get_context("spawn")
        self.process: SpawnProcess = spawn.Process(target=run_in_process, args=(cell, output, working, is_alone))
        self.process.start()


def next_free(waiting: Sequence[Cell], running: Sequence[Cell]) -> Cell | None:
    """The first cell whose fits nobody is at; None if there is none."""
    going_on = {fit for cell in running for fit in cell.fits}
    return next((cell for cell in waiting if not cell.fits & going_on), None)


def run_in_process(cell: Cell, output: Path, working: Path, is_alone: bool = True) -> None:
    """Run a cell and write its file; what goes wrong is said in one line, and ends the process with 1.

    Args:
        cell: Which.
        output: Where its file goes.
        working: Where fits are kept.
        is_alone: Whether no other cell is run beside it. If one is, there are lines in place of bars, which would
            overwrite each other, and each begins with the cell's name.
    """
    threading.Thread(target=_end_with_parent, daemon=True).start()
    print_line_by_line()
    from rich.console import Console

    from streams.cli.training import ConsoleReport
    from trainer.errors import TrainerError
    from trainer.machine import machine
    from trainer.quality.cells import run_cell, write_cell

    console = Console() if is_alone else Console(force_terminal=False, soft_wrap=True)
    try:
        with ConsoleReport(console, "" if is_alone else f"{cell.name}: ") as report:
            figures = run_cell(cell, working, report)
        path = write_cell(output, cell, {**figures, "environment": machine(LIBRARIES)})
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
