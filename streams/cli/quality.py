"""`streamrec quality`: the table of models and data sets, cell by cell, and the page that is drawn from it."""

from __future__ import annotations

import json
import os
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from streams.cli.app import app
from streams.cli.cell_processes import LIBRARIES, Outcome, Run, print_line_by_line, run_cells
from streams.cli.ending import end_as_by_ctrl_c
from streams.cli.room import insist_on_room, write_figures

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from trainer.quality.cells import Cell

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
    seeds: Annotated[
        list[int] | None,
        typer.Option(
            "--seed",
            metavar="N",
            help="Only cells with this seed; repeatable. Models without chance have seed 0.",
            show_default=False,
        ),
    ] = None,
    jobs: Annotated[
        int, typer.Option("--jobs", min=1, metavar="N", help="Cells that are run at once, each on one processor.")
    ] = 1,
    summary: Annotated[
        Path | None,
        typer.Option(
            "--summary",
            metavar="FILE",
            help="Write how long the run took by the clock; the page shows it at <!-- run: NAME --> if FILE is"
            " OUTPUT/NAME.json.",
            show_default=False,
        ),
    ] = None,
    listed: Annotated[
        bool, typer.Option("--list", help="Only say which cells there are, and which are to be run.")
    ] = False,
) -> None:
    """Run every model on every data set as their papers do, and draw the tables of docs/models.md.

    Which models, and how each is set, says a file for each data set in `trainer/quality/configurations`; each model is
    fitted to the training part with several seeds and asked the test part once. A cell is a model, a data set and a
    seed: it has a process and a file of its own. One whose file is there, with the same configuration, is not run
    again, so a run that was stopped goes on where it was; within a fit, at most a minute is lost. A blend fits its
    members, or takes their fits where they are kept: with --jobs it waits for those that are going on.

    `streamrec quality sasrec-ml-1m sasrec gru` runs the cells of these two models on that data set.
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # inherited by each cell, which reads it when torch is imported
    end_as_by_ctrl_c()  # or the cell's process would go on
    print_line_by_line()
    from rich.console import Console

    from trainer.quality.cells import all_cells, chosen, read_cell
    from trainer.quality.goals import read_goals
    from trainer.quality.page import draw_page

    console = Console()
    cells = all_cells()
    wanted = chosen(cells, words or [], seeds or [])
    todo = [cell for cell in wanted if again or read_cell(output, cell) is None]
    if listed:
        for cell in wanted:
            console.print(f"{'to run' if cell in todo else 'done  '} {cell.name}", highlight=False)
        return
    _insist_on_psutil()
    console.print(f"{len(todo)} of {len(wanted)} cells to run", highlight=False)
    there = _with_data(todo, console)
    for option, file in (("--summary", summary), ("--page", page if page.exists() else None)):
        if file and there:
            insist_on_room(option, file, file)
    if there:
        insist_on_room("--output", output, output / f"{there[0].name}.json")
    since_s = time.monotonic()
    outcome = run_cells(there, Run(jobs, output, working), console)
    wall_s = time.monotonic() - since_s
    failed = [cell for cell in todo if cell not in outcome.took_s]
    if failed:
        console.print(f"NOT RUN: {', '.join(cell.name for cell in failed)}", style="bold red", highlight=False)
    if summary and outcome.took_s:
        _write_summary(summary, there, outcome, jobs, wall_s, output)
    elif summary:
        console.print(f"nothing was run, so {summary} is left as it is", highlight=False)
    if page.exists():
        draw_page(page, output, cells, read_goals())
        console.print(f"{page} is drawn", highlight=False)
    else:
        console.print(f"there is no {page}, so no page is drawn", highlight=False)
    if failed:
        raise typer.Exit(1)


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


def _write_summary(path: Path, todo: Sequence[Cell], outcome: Outcome, jobs: int, wall_s: float, output: Path) -> None:
    """How long cells took together, and which of them took no time to fit as they were fitted before, for JSON."""
    from trainer.machine import machine
    from trainer.quality.cells import read_cell

    done = [cell for cell in todo if cell in outcome.took_s]
    content_of = {cell: read_cell(output, cell) or {} for cell in done}
    before = [cell for cell in done if content_of[cell].get("fit", {}).get("earlier_s")]
    # That a blend finds the fits of its members is no wonder where these were run before it.
    fitted_now = {fit for cell in done if cell not in before for fit in cell.fits}
    content = {
        "cells": [cell.name for cell in done],
        "failed": [cell.name for cell in outcome.failed],
        "fitted_before": [cell.name for cell in before if not cell.fits <= fitted_now],
        "jobs": jobs,
        "wall_s": wall_s,
        "environment": machine(LIBRARIES),
    }
    write_figures("--summary", path, json.dumps(content, indent=2) + "\n")
