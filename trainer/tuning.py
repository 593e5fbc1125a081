"""The windows that an index is tuned with.

An index is to find what the model that serves scores best, so it is tuned to that model's item vectors and queries. Of
queries that a fit has pulled towards an item, more is found in fewer lists than of those that will come. The
published model has learned all events, and the windows after which nothing was to be learned are those that users are
left with: no event has followed them yet. They are also those that the next events will be asked with.
"""

from __future__ import annotations

import numpy as np

from encoders.protocols import IntArray
from encoders.window import WindowRule
from trainer.dataset import cut_windows
from trainer.interactions import Interactions
from trainer.split import Split

N_WINDOWS = 1_000
"""Windows that an index is tuned with and its recall measured."""


def latest_windows(
    events: Interactions, rule: WindowRule, numbers: IntArray, split: Split, n: int = N_WINDOWS
) -> IntArray:
    """The windows of users after their newest events, spread over the time in which these came.

    Of users who came in the validation or the test part; where nobody did, of all. No model is asked with a window
    without an item, so such windows are left out.

    Args:
        events: The log.
        rule: How windows are cut.
        numbers: Item number of each event.
        split: The parts of the log.
        n: How many windows, at most.

    Shape:
        - numbers: ``(E,)``
        - Output: ``(B, T)``, ``B`` at most ``n``, padded on the left with 0
    """
    timelines = cut_windows(events, rule)
    is_newest = timelines.ends > timelines.starts
    is_newest[timelines.previous[timelines.previous >= 0]] = False
    is_late = is_newest & ~split.train
    newest = np.flatnonzero(is_late if is_late.any() else is_newest)
    some = newest[np.linspace(0, len(newest) - 1, min(len(newest), n)).astype(np.int64)]
    return timelines.windows(some, numbers, rule.max_len)
