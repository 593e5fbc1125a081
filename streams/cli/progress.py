"""Progress of something that is counted: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

LINE_EVERY_S = 5.0
"""How often a line is printed where there is no terminal."""
DRAW_EVERY_S = 0.05


@contextmanager
def counted(console: Console, label: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show how far something has come.

    Args:
        console: Where to show it.
        label: What is counted, in plain words.
        total: The number at which it is done.

    Yields:
        A function to call with how many are done by now; it is cheap and may be called for each one.

    Example:
        >>> with counted(Console(), "films", 2) as done:
        ...     done(1)
        ...     done(2)
        films: 2 of 2
    """
    draw = _bar(label, total, console) if console.is_terminal else _lines(label, total, console)
    with draw as show:
        n_done, n_shown, shown_at = 0, -1, time.monotonic()

        def done(n: int) -> None:
            nonlocal n_done, n_shown, shown_at
            n_done = n
            if (now := time.monotonic()) - shown_at >= (DRAW_EVERY_S if console.is_terminal else LINE_EVERY_S):
                show(n)
                n_shown, shown_at = n, now

        yield done
        if n_done != n_shown:
            show(n_done)


@contextmanager
def _bar(label: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(label, total=total)
        yield lambda n: progress.update(task, completed=n)


@contextmanager
def _lines(label: str, total: int, console: Console) -> Iterator[Callable[[int], None]]:
    yield lambda n: console.print(f"{label}: {n:,} of {total:,}", highlight=False)
