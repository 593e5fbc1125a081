"""What a retriever is asked by a batch, and what it may learn of it: windows and events as item numbers.

Shape letters: ``B`` events, ``R`` those that the model answers, ``T`` entries of all windows, ``L`` longest window.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from encoders.compiled import IntArray, compiled
from encoders.sessions import session_codes, user_hashes
from encoders.window import WindowRule
from streams.advance import Advanced, BoolArray
from streams.columns import Received
from streams.learning import Clicks
from streams.serving import RetrieverModel


class Asked(NamedTuple):
    """A batch as its model reads it."""

    model: RetrieverModel
    row_R: IntArray
    """Which events it answers: those of its catalogue."""
    windows_RL: IntArray
    """Their windows, oldest first, padded on the left with 0; items that the model does not know are left out."""
    clicks: Clicks
    """What it may learn."""
    is_click_B: BoolArray
    """Which of the events these are."""

    @classmethod
    def of(cls, model: RetrieverModel, received: Received, advanced: Advanced, rule: WindowRule) -> Asked:
        """A batch after its events were let into their sessions.

        Args:
            model: Who is asked.
            received: The events.
            advanced: What they did to their sessions.
            rule: The window rule, which says what a session is.
        """
        windows = advanced.windows
        number_T = model.bundle.vocabulary.item_numbers(windows.item_T)
        answered_U = np.array([key.catalogue == model.catalogue for key in received.keys], dtype=np.bool_)
        answered_B = answered_U[received.session_B]
        rows_R = np.flatnonzero(answered_B)
        longest = int((windows.end_B - windows.first_B)[rows_R].max(initial=1))
        windows_RL = _windows(number_T, windows.first_B[rows_R], windows.end_B[rows_R], longest)
        entered = np.flatnonzero(advanced.entered_B & answered_B)
        entered = entered[number_T[windows.end_B[entered] - 1] > 0]
        users_U = user_hashes(key.user_id for key in received.keys)
        oldest_s = windows.time_T[windows.first_B[entered]]
        clicks = Clicks(
            received.offset_B[entered],
            session_codes(users_U[received.session_B[entered]], oldest_s, rule.session_gap_s),
            number_T[windows.end_B[entered] - 1],
            received.timestamp_ms_B[entered] / 1000,
        )
        is_click_B = np.zeros(len(received), dtype=np.bool_)
        is_click_B[entered] = True
        return cls(model, rows_R, windows_RL, clicks, is_click_B)

    def clicks_of(self, events: slice) -> Clicks:
        """What there is to learn of some of the events."""
        first = int(self.is_click_B[: events.start].sum())
        return self.clicks.where(slice(first, first + int(self.is_click_B[events].sum())))


@compiled
def _windows(number_T: IntArray, first_R: IntArray, end_R: IntArray, longest: int) -> IntArray:
    """Slices of all windows' items as rows of one length, without items that are not known. Shape: ``(R, L)``."""
    windows_RL = np.zeros((len(first_R), longest), dtype=np.int64)
    for r in range(len(first_R)):
        place = longest - 1
        for t in range(end_R[r] - 1, first_R[r] - 1, -1):
            if number_T[t] > 0:
                windows_RL[r, place] = number_T[t]
                place -= 1
    return windows_RL


def compile_asking() -> None:
    """Compile what it takes to ask, see `streams.pipeline.compile_loops`."""
    one = np.ones(1, dtype=np.int64)
    _windows(one, one - 1, one, 1)
