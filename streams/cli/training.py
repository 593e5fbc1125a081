"""What the commands of the trainer share: their progress, and tables of figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from encoders.window import WindowRule
    from streams.cli.config import Settings
    from trainer.cleaning import CleaningRules
    from trainer.gate import Verdict
    from trainer.replay import KafkaSource

LINE_EVERY_S = 5.0
"""How often a line is printed where there is no terminal."""


class ConsoleReport:
    """A `trainer.report.Report` on a console: bars on a terminal, a line now and then elsewhere.

    Args:
        console: Where.
        prefix: What each line begins with.
    """

    def __init__(self, console: Console, prefix: str = "") -> None:
        self._console, self._prefix = console, prefix
        self._bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.fields[speed]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}"),
            console=console,
            disable=not console.is_terminal,
        )
        self._tasks: dict[str, TaskID] = {}
        self._began: dict[str, tuple[float, int]] = {}
        self._done: dict[str, int] = {}
        self._printed_s = 0.0

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def say(self, text: str) -> None:
        """One line in plain words."""
        self._console.print(f"{self._prefix}{text}", highlight=False)

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        """How far a step has come; drawn a few times a second at most, and at its end."""
        now_s = time.monotonic()
        if done < self._done.get(label, 0):  # the same step of another period
            del self._began[label]
            if label in self._tasks:
                self._bars.reset(self._tasks[label])
        self._done[label] = done
        began_s, n_before = self._began.setdefault(label, (now_s, done))
        every_s = 0.1 if self._console.is_terminal else LINE_EVERY_S
        if done < total and now_s - self._printed_s < every_s:
            return
        self._printed_s = now_s
        rate = (done - n_before) / (now_s - began_s) if now_s > began_s else 0.0
        if self._console.is_terminal:
            task = self._tasks.get(label)
            if task is None:
                task = self._tasks[label] = self._bars.add_task(label, total=total, speed="", note="")
            self._bars.update(task, completed=done, total=total, speed=f"{rate:,.0f}/s", note=note)
        else:
            left = f", about {(total - done) / rate:.0f} s left" if rate and done < total else ""
            speed = f" ({rate:,.0f}/s{left})" if rate else ""
            self.say(f"  {label}: {done:,} of {total:,}{speed}{'; ' if note else ''}{note}")


def figures_table(figures: Mapping[str, float], title: str) -> Table:
    """The model's figures beside popularity's."""
    table = Table(title=title, title_justify="left")
    table.add_column("next-item prediction")
    for name in ("model", "popularity"):
        table.add_column(name, justify="right")
    for name, value in figures.items():
        if (beside := figures.get(f"popularity_{name}")) is not None:
            table.add_row(name.replace("_new_users", ", users it had not seen"), f"{value:.4f}", f"{beside:.4f}")
    return table


def verdict_lines(verdict: Verdict) -> list[str]:
    """What the gate said, in plain words, one line a fact."""
    from trainer.gate import comparison_line

    lines = []
    if verdict.comparison:
        lines.append(comparison_line(verdict.comparison, verdict.serving or ""))
    said = {"promoted": "promoted", "rejected": "rejected", "forced": "rejected, but announced by order (--force)"}
    lines.append(f"{said[verdict.outcome]}: {verdict.reason}")
    return [f"gate: {line}" for line in lines] + [f"warning: {warning}" for warning in verdict.warnings]


def kafka_source(settings: Settings) -> KafkaSource:
    """Where the trainer reads and announces.

    Raises:
        DependencyError: If no broker answers or it does not let us in.
    """
    from streams.topics import open_admin
    from trainer.replay import KafkaSource

    with open_admin(settings.kafka):  # says what is wrong, where a consumer would only try for long
        pass
    topics = settings.kafka.topics
    return KafkaSource(settings.kafka.kafka_python_config(), topics.interactions, topics.items, topics.model_updates)


def cleaning_rules(settings: Settings, window_rule: WindowRule, catalogue: str) -> CleaningRules:
    """What counts as usable: the worker's own limits, and the trainer's filters."""
    from trainer.cleaning import CleaningRules

    worker, filters = settings.worker, settings.trainer.cleaning
    return CleaningRules(window_rule, catalogue, worker.max_future, worker.max_record_bytes, filters)
