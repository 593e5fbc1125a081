"""`streamrec quality`: the table of models and data sets, cell by cell, and the page that is drawn from it."""

from __future__ import annotations

import multiprocessing
import os
import sys
import threading
import time
from importlib.util import find_spec
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.ending import end_as_by_ctrl_c

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from trainer.quality.cells import Cell

LIBRARIES = ("torch", "numpy", "numba")
"""Whose versions stand in a cell."""
WORKING = Path(".quality")
"""Where fits are kept by default; git ignores it."""


@app.command()
def quality(
    words: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAMES", help="Data sets and models; all of them if none is named.", show_default=False),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", metavar="DIR", help="Each cell's figures go to DIR/DATA--MODEL--SEED.json.")
    ] = Path("docs/quality"),
    page: Annotated[
        Path, typer.Option("--page", metavar="FILE", help="The page whose tables are drawn from these files.")
    ] = Path("docs/models.md"),
    working: Annotated[Path, typer.Option("--fits", metavar="DIR", help="Where fitted weights are kept.")] = WORKING,
    again: Annotated[bool, typer.Option("--again", help="Run cells that have their file, too.")] = False,
    listed: Annotated[
        bool, typer.Option("--list", help="Only say which cells there are, and which are to be run.")
    ] = False,
) -> None:
    """Run every model on every data set as their papers do, and draw the tables of docs/models.md.

    Which models, and how each is set, says a file for each data set in `trainer/quality/configurations`; each model is
    fitted to the training part with several seeds and asked the test part once. A cell is a model, a data set and a
    seed: it has a process and a file of its own. One whose file is there, with the same configuration, is not run
    again, so a run that was stopped goes on where it was; within a fit, at most a minute is lost.

    `streamrec quality sasrec-ml-1m sasrec gru` runs the cells of these two models on that data set.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by each cell, which reads it when torch is imported
    end_as_by_ctrl_c()  # or the cell's process would go on
    _print_line_by_line()
    from rich.console import Console

    from trainer.quality.cells import all_cells, chosen, read_cell
    from trainer.quality.goals import read_goals
    from trainer.quality.page import draw_page

    console = Console()
    cells = all_cells()
    wanted = chosen(cells, words or [])
    todo = [cell for cell in wanted if again or read_cell(output, cell) is None]
    if listed:
        for cell in wanted:
            console.print(f"{'to run' if cell in todo else 'done  '} {cell.name}", highlight=False)
        return
    _insist_on_psutil()
    console.print(f"{len(todo)} of {len(wanted)} cells to run", highlight=False)
    there = _with_data(todo, console)
    failed = [cell for cell in todo if cell not in there] + _run(there, output, working, console)
    if page.exists():
        draw_page(page, output, cells, read_goals())
        console.print(f"{page} is drawn", highlight=False)
    if failed:
        console.print(f"NOT RUN: {', '.join(cell.name for cell in failed)}", style="bold red", highlight=False)
        raise typer.Exit(1)


def _print_line_by_line() -> None:
    """In a file, too: a run of hours is looked at while it goes on, and the lines of two processes stay in order."""
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(line_buffering=True)


def _insist_on_psutil() -> None:
    """Before the work, not after it, see that the machine can be described."""
    if find_spec("psutil") is None:
        raise typer.BadParameter("the files say on which machine: that needs psutil: pip install 'streamrec[bench]'")


def _with_data(todo: Sequence[Cell], console: Console) -> list[Cell]:
    """The cells whose data set is there; of others it is said, once."""
    from trainer.errors import DatasetError
    from trainer.evaluation import set_folder

    missing = set()
    for data in dict.fromkeys(cell.data for cell in todo):
        try:
            set_folder(data)
        except DatasetError as error:
            missing.add(data)
            console.print(str(error), highlight=False, soft_wrap=True)
    return [cell for cell in todo if cell.data not in missing]


def _run(todo: Sequence[Cell], output: Path, working: Path, console: Console) -> list[Cell]:
    """Run cells one after the other, each in a process of its own; returns those that failed."""
    from trainer.quality.cells import left_s

    # A process of its own shows what a cell takes of memory, and leaves none behind.
    spawn = multiprocessing.get_context("spawn")
    took_s: dict[Cell, float] = {}
    failed = []
    for n, cell in enumerate(todo, start=1):
        process = spawn.Process(target=run_in_process, args=(cell, output, working))
        try:
            left = left_s(todo[n - 1 :], took_s)
            console.rule(
                f"{n} of {len(todo)}: {cell.name}{'' if left is None else f', about {left / 60:.0f} min left'}"
            )
            since_s = time.monotonic()
            process.start()
            process.join()
        except KeyboardInterrupt:
            if process.pid:
                process.terminate()
                process.join()
            console.print("\nstopped; the next run goes on from here")
            raise typer.Exit(130) from None
        if process.exitcode:
            failed.append(cell)
        else:
            took_s[cell] = time.monotonic() - since_s
    return failed


def run_in_process(cell: Cell, output: Path, working: Path) -> None:
    """Run a cell and write its file; what goes wrong is said in one line, and ends the process with 1."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _print_line_by_line()
    from rich.console import Console

    from streams.cli.training import ConsoleReport
    from trainer.errors import TrainerError
    from trainer.machine import machine
    from trainer.quality.cells import run_cell, write_cell

    try:
        with ConsoleReport(Console()) as report:
            figures = run_cell(cell, working, report)
        path = write_cell(output, cell, {**figures, "environment": machine(LIBRARIES)})
    except (TrainerError, OSError) as error:
        print(f"streamrec: {cell.name}: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)
    print(path)


def _end_with_parent() -> None:
    """Whatever ended the process that waits for this one, nobody waits any more."""
    if parent := multiprocessing.parent_process():
        parent.join()
        os._exit(1)
