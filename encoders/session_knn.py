"""VMIS-kNN: what came next in the sessions most like this one, learned click by click.

Kersbergen, Sprangers & Schelter, "Serenade", SIGMOD 2022, after VS-kNN of Ludewig & Jannach, "Evaluation of
session-based recommendation algorithms", UMUAI 2018. Of a window the newest ``n`` clicks count, and the item clicked
``p`` clicks before the last weighs ``(n - p) / n``, one clicked twice by its newer click.

1. Candidates are the sessions that clicked one of these items most recently.
2. A candidate's similarity is the sum of the weights of the items that it shares with the window. The most similar
   are the neighbours, of equally similar ones the more recent.
3. A neighbour gives each of its items its similarity times ``1 - (p + 1) / 10``, where ``p`` belongs to the newest
   click that it shares; and, beyond the paper, divided by ``1 +`` the number of places between the item and the shared
   one, as in STAN (Garg et al., SIGIR 2019). An item's score is what it is given times ``ln(sessions / sessions with
   it)``.

The paper's inverted index, from an item to its most recent sessions, is a chain through the log of clicks
(`encoders.click_log`): a click extends its session and puts it in front of the item's sessions in constant time. A
session is therefore as recent as its click on the *shared* item, where the paper takes its last click.

Shape letters: ``B`` windows, ``T`` window length, ``A`` items of a session that count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field

from encoders.click_log import (
    ITEM,
    SINCE_SESSION,
    ClickLog,
    append,
    click_before,
    empty_log,
    row_of,
    session_slot,
    with_room,
)
from encoders.compiled import Int, compiled
from encoders.neighbours import Limits, answers_of_neighbours, empty_scratch, scratch_for
from encoders.protocols import DoubleArray, FloatArray, IntArray
from encoders.saved import Arrays, restored_log, saved_clicks
from encoders.vocabulary import PADDING_ITEM


class SessionKNNConfig(BaseModel):
    """How far back VMIS-kNN looks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    window_len: int = Field(default=4, ge=1, le=1_000)
    """``W``: how many of a window's newest clicks count. Those beyond the ninth weigh nothing in step 3."""
    n_recent: int = Field(default=500, ge=1, le=100_000)
    """``R``, the paper's ``m``: how many sessions are compared with a window."""
    n_neighbours: int = Field(default=100, ge=1, le=100_000)
    """``N``, the paper's ``k``: how many of them, the most similar, give their items."""
    session_len: int = Field(default=50, ge=1, le=1_000)
    """``A``: how many of a session's newest items count. Bounds what a long session costs."""
    proximity: float = Field(default=1.0, ge=0)
    """Power of ``1 + distance`` by which what a neighbour gives is divided. 0 is the paper's: all items alike."""
    lists_last_item: bool = False
    """Whether the item that was clicked last may be an answer. Most neighbours have it, and the paper leaves it out;
    with true it is listed too, and the others keep their scores."""
    max_clicks: int = Field(default=1 << 22, ge=1, le=1 << 30)
    """How many clicks are remembered (rounded up to a power of two): 16 bytes each, and at most 130 a session."""


class SessionKNN:
    """VMIS-kNN as a `LiveRetriever`. Not for two threads at once.

    An item that is among a session's newest `session_len` is not learned again, so a session is a set of items, as in
    the paper, in the order of their first clicks. Of all sessions the newest `max_clicks` clicks are remembered, and
    no more memory is taken: a session is forgotten click by click, oldest first, and an item with the last of its
    clicks.

    Args:
        config: How far back it looks.

    Example:
        >>> knn = SessionKNN()
        >>> knn.learn(np.array([1, 1, 2]), np.array([5, 6, 7]), np.zeros(3))
        >>> knn.retrieve(np.array([[0, 5], [0, 8]]), k=2)[0]
        array([[6, 0],
               [0, 0]])
    """

    kind: ClassVar[str] = "session-knn"
    Config: ClassVar[type[BaseModel]] = SessionKNNConfig

    def __init__(self, config: SessionKNNConfig | None = None) -> None:
        self.config = config or SessionKNNConfig()
        self._log = empty_log()
        self._closeness_A: DoubleArray = np.power(1.0 + np.arange(self.config.session_len), -self.config.proximity)
        self._scratch = empty_scratch()
        self._limits = Limits(
            self.config.window_len,
            self.config.n_recent,
            self.config.n_neighbours,
            self.config.session_len,
            self.config.lists_last_item,
        )

    @classmethod
    def restored(cls, config: Mapping[str, Any], arrays: Arrays, n_items: int) -> Self:
        """One that has learned what `arrays` gave; see `BundledRetriever.restored`."""
        found = cls(SessionKNNConfig.model_validate(config))
        found._log = restored_log(arrays, n_items, found.config.max_clicks)
        return found

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What was learned: the clicks that are remembered; see `BundledRetriever.arrays`."""
        return saved_clicks(self._log)

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Extend sessions by their clicks. The order counts, the times do not; see `LiveRetriever.learn`."""
        self._log = with_room(self._log, len(items), int(items.max(initial=0)), self.config.max_clicks)
        _learn(self._log, sessions, items, self.config.session_len)

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` of the neighbours' items for each window, best first; see `Retriever.retrieve`.

        Without neighbours there are no answers. No score is negative.
        """
        self._scratch = scratch_for(self._log, self._scratch)
        return answers_of_neighbours(self._log, self._scratch, windows, self._limits, self._closeness_A, k)


@compiled
def _learn(log: ClickLog, sessions: IntArray, items: IntArray, session_len: int) -> None:
    for i in range(len(items)):
        if items[i] != PADDING_ITEM and not _has(log, sessions[i], items[i], session_len):
            append(log, sessions[i], items[i])


@compiled
def _has(log: ClickLog, code: Int, item: Int, session_len: int) -> bool:
    """Whether an item is among the newest ``session_len`` of a session."""
    slot = session_slot(log, code)
    click = log.newest_S[slot] if slot >= 0 else np.int64(0)
    for _ in range(session_len):
        if click == 0:
            return False
        if row_of(log, click)[ITEM] == item:
            return True
        click = click_before(log, click, SINCE_SESSION)
    return False
