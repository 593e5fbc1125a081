"""What a model learns of the events that pass through a worker.

Shape letters: ``B`` events.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.protocols import DoubleArray, IntArray, LiveRetriever


class Clicks(NamedTuple):
    """Events of one partition that entered windows, of items that the model knows, in the order of their offsets."""

    offset_B: IntArray
    session_B: IntArray
    """Codes, see `encoders.sessions`."""
    item_B: IntArray
    """Item numbers."""
    time_s_B: DoubleArray

    def where(self, some: npt.NDArray[np.bool_] | slice) -> Clicks:
        """Some of them."""
        return Clicks(self.offset_B[some], self.session_B[some], self.item_B[some], self.time_s_B[some])


_NOTHING = np.zeros(0, dtype=np.int64)
NO_CLICKS = Clicks(_NOTHING, _NOTHING, _NOTHING, np.zeros(0))


class Learner:
    """Lets a retriever learn events, each of them once, in whatever order partitions and their batches come.

    What it was trained on it has learned already, and what comes again (since a batch was worked out anew, or a
    partition that was given up comes back) it has learned before. So a worker may begin far back in the log, or
    rebuild its sessions from it, without counting anything twice.

    Args:
        retriever: Who learns.
        trained_through: By topic and partition, the offset of the first event that it has not learned.
    """

    def __init__(self, retriever: LiveRetriever, trained_through: Mapping[str, Mapping[int, int]]) -> None:
        self._retriever = retriever
        self._through = {
            (topic, n): offset for topic, offsets in trained_through.items() for n, offset in offsets.items()
        }

    def learn(self, topic: str, partition: int, clicks: Clicks) -> int:
        """Let the retriever have the events that it has not learned; returns how many.

        Args:
            topic: Where they come from.
            partition: Where they come from.
            clicks: The events.
        """
        new = clicks.where(clicks.offset_B >= self._through.get((topic, partition), 0))
        if len(new.offset_B):
            self._retriever.learn(new.session_B, new.item_B, new.time_s_B)
            self._through[topic, partition] = int(new.offset_B[-1]) + 1
        return len(new.offset_B)
