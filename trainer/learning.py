"""Learning in place of fitting: a retriever is given every event once, as a worker gives it what comes later."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from encoders.bundle import RETRIEVERS, BundledRetriever
from encoders.protocols import DoubleArray, IntArray, LiveRetriever
from encoders.sessions import session_codes, user_hashes
from encoders.window import WindowRule
from trainer.dataset import cut_windows
from trainer.interactions import AnyIntArray, BoolArray, Interactions
from trainer.report import Report
from trainer.settings import TrainerSettings
from trainer.split import running_max_by_user

EVENTS_AT_ONCE = 65_536


@dataclass(frozen=True)
class Lessons:
    """The events that entered a window, in the order in which they happened; each user's in their own order.

    Shape letters: ``W`` events that entered a window.
    """

    event_W: AnyIntArray
    """Their positions in the log."""
    session_W: IntArray
    """See `encoders.sessions`."""
    item_W: IntArray
    """Item numbers."""
    time_s_W: DoubleArray

    @classmethod
    def of(cls, events: Interactions, rule: WindowRule) -> Self:
        """All of a log.

        Args:
            events: The log, items of code 0, 1, … having numbers 1, 2, …
            rule: Which events enter a window, and what a session is.
        """
        timelines = cut_windows(events, rule)
        entered = timelines.entered
        entered = entered[np.argsort(running_max_by_user(events)[entered], kind="stable")]
        oldest = timelines.entered[timelines.starts[entered]]
        users = user_hashes(events.user_ids)[events.user_codes[entered]]
        codes = session_codes(users, events.times_ms[oldest] // 1000, rule.session_gap_s)
        return cls(entered, codes, events.item_codes[entered] + 1, events.times_ms[entered] / 1000)

    def __len__(self) -> int:
        return len(self.event_W)

    def teach(self, retriever: LiveRetriever, which: BoolArray, label: str, report: Report) -> None:
        """Let a retriever have some of them.

        Args:
            retriever: Who learns.
            which: Events of the log, those that entered no window included.
            label: What the progress is called.
            report: Told how far it is.

        Shape:
            - which: ``(n_events,)``
        """
        lessons = np.flatnonzero(which[self.event_W])
        for start in range(0, len(lessons), EVENTS_AT_ONCE):
            some = lessons[start : start + EVENTS_AT_ONCE]
            retriever.learn(self.session_W[some], self.item_W[some], self.time_s_W[some])
            report.progress(label, start + len(some), len(lessons))


def new_retriever(settings: TrainerSettings) -> BundledRetriever:
    """One of the kind that the settings name, which has learned nothing."""
    configs = (settings.popularity, settings.markov, settings.session_knn)
    kind = RETRIEVERS[settings.model]
    return kind(next(config for config in configs if isinstance(config, kind.Config)))
