"""Where a training run says what it does."""

from __future__ import annotations

from typing import Protocol


class Report(Protocol):
    """Told by a run as it goes."""

    def say(self, text: str) -> None:
        """One line in plain words."""

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        """How far a step has come; called often. ``label`` tells the steps apart."""
