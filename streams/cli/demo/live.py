"""The live view: who just watched what, what is recommended now, and running figures."""

from __future__ import annotations

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from streams.cli.demo.score import percentiles
from streams.cli.demo.traffic import Ledger

LINE_EVERY_S = 5.0
"""How often a line is printed where there is no terminal."""
WATCHED_ROWS = 6
FRAMES_A_SECOND = 4


class LiveView:
    """Shows the replay: a picture on a terminal, a line now and then elsewhere.

    Args:
        console: Where to show it.
        ledger: What it shows.
        titles: Film titles by item id.
        n_replayed: How many events the replay has.
        top_n: How long a list is.
    """

    def __init__(
        self, console: Console, ledger: Ledger, titles: Mapping[str, str], n_replayed: int, top_n: int
    ) -> None:
        self._console = console
        self._ledger = ledger
        self._titles = titles
        self._n_replayed = n_replayed
        self._top_n = top_n
        self._status = ""
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None
        self._line_at_s = time.monotonic() + LINE_EVERY_S
        self._seen: tuple[float, int] = (time.monotonic(), 0)
        self._rate = 0.0

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def say(self, text: str) -> None:
        """Print a line that stays, above the picture, and show it as what is going on."""
        self._status = text.strip()
        self._console.print(text, highlight=False, soft_wrap=True)

    def refresh(self) -> None:
        """Show the present state, if it is time to."""
        now_s = time.monotonic()
        if self._live and now_s - self._seen[0] >= 1 / FRAMES_A_SECOND:
            self._measure(now_s)
            self._live.update(self.picture(), refresh=True)
        elif not self._live and now_s >= self._line_at_s:
            self._measure(now_s)
            self._line_at_s = now_s + LINE_EVERY_S
            self._console.print(self.lines(), highlight=False, markup=False, soft_wrap=True)

    def _measure(self, now_s: float) -> None:
        before_s, n_before = self._seen
        n_sent = len(self._ledger.sent_s)
        current = (n_sent - n_before) / max(now_s - before_s, 1e-9)
        self._rate = current if not self._live else 0.8 * self._rate + 0.2 * current
        self._seen = (now_s, n_sent)

    def picture(self) -> Group:
        """The view as rich draws it."""
        n_sent = len(self._ledger.sent_s)
        bar = Table.grid(padding=(0, 1), expand=True)
        bar.add_column(ratio=1)
        bar.add_column(justify="right")
        bar.add_row(ProgressBar(self._n_replayed, n_sent), f"{n_sent:,} of {self._n_replayed:,} events")
        return Group(Text(self._status, style="bold"), bar, self._watched(), self._newest_list(), Text(self.figures()))

    def lines(self) -> str:
        """The view as a line or two."""
        n_sent = len(self._ledger.sent_s)
        head = f"   {n_sent:,} of {self._n_replayed:,} events: {self.figures()}"
        if not self._ledger.recent:
            return head
        event, made, _ = self._ledger.recent[-1]
        ranked = enumerate(made.items[: self._top_n], start=1)
        films = "  ".join(f"{rank}. {self._title(item.item_id)}" for rank, item in ranked)
        return f"{head}\n      user {event.user_id} just watched {self._title(event.item_id)}; now: {films}"

    def figures(self) -> str:
        """Running figures in a few words."""
        ledger = self._ledger
        newest = [shown.event.event_id for shown in list(ledger.recent)]
        trips = [(ledger.received_s[e] - ledger.sent_s[e]) * 1000 for e in newest if e in ledger.received_s]
        parts = [f"{self._rate:,.0f} events/s", f"{ledger.n_unanswered:,} under way"]
        found = percentiles(trips)
        if found.p50 is not None and found.p95 is not None:
            parts.append(f"latency p50 {found.p50:,.0f} ms, p95 {found.p95:,.0f} ms")
        if ledger.targets:
            parts.append(f"hit rate@10 {ledger.hits / ledger.targets:.3f} of {ledger.targets:,}")
        if ledger.versions:
            parts.append(f"model {ledger.versions[-1]}")
        return ", ".join(parts)

    def _watched(self) -> Table:
        table = Table("user", "just watched", "was in the list before", expand=True)
        rows = list(self._ledger.recent)[-WATCHED_ROWS:]
        marks = {True: "yes", False: "", None: "no list before"}
        for event, _, foreseen in reversed(rows):
            table.add_row(event.user_id, escape(self._title(event.item_id)), marks[foreseen])
        return table

    def _newest_list(self) -> Panel:
        if not self._ledger.recent:
            return Panel("", title="recommended")
        event, made, _ = self._ledger.recent[-1]
        ranked = enumerate(made.items[: self._top_n], start=1)
        films = "\n".join(f"{n:>2}. {escape(self._title(item.item_id))}" for n, item in ranked)
        return Panel(films, title=f"recommended to user {escape(event.user_id)} now", title_align="left")

    def _title(self, item_id: str | None) -> str:
        return self._titles.get(item_id or "", item_id or "nothing")
