"""An encoder that takes up items as they arrive, though it was trained before there were any clicks on them.

A new item gets the mean of the vectors of those trained items that were clicked just before it or just after, each as
often as that happened. So it is found where its neighbours are found, and a window that holds it is encoded as if it
held one of them. Until it has a trained neighbour, it is lent the vector of the first new one beside it that has any.
That moves nothing else: what was trained stays as it is until it is trained again. It is folding in (Sarwar et al.),
with the neighbours' vectors in place of the users'. Workers do not do so yet: evaluation does.

Shape letters: ``B`` events or windows, ``I`` item numbers, ``D`` embedding dimension, ``K`` answers.

References:
    Sarwar, Karypis, Konstan and Riedl, "Incremental singular value decomposition algorithms for highly scalable
    recommender systems", ICCIT 2002.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.best import offer, put_in_order
from encoders.bundle import BundledEncoder
from encoders.click_log import ITEM, ClickLog, append, empty_log, row_of, session_slot, with_room
from encoders.compiled import Int, compiled
from encoders.growth import grown
from encoders.protocols import DoubleArray, FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM

BoolArray = npt.NDArray[np.bool_]
MAX_CLICKS = 1 << 20
"""A session that clicked nothing among so many clicks of all sessions begins anew."""
_LENT = -1
"""In place of a number of neighbours; see `_Table`."""
_SCORES_AT_ONCE = 1 << 22
"""Scores that are held together, 16 MB."""


class _Table(NamedTuple):
    """Where items are."""

    is_trained_I: BoolArray
    """Which items the encoder was trained on; they never move."""
    n_near_I: IntArray
    """How often a new item had a trained one beside it: its vector is the mean of so many. `_LENT` for one that has
    that of another new item, 0 for one without a vector."""
    vectors_ID: FloatArray


class LiveEncoder:
    """A trained encoder as a `LiveRetriever`, with exact search. Not for two threads at once.

    Holds the vectors of all items twice, once for itself and once for its copy of the encoder, and the newest
    `MAX_CLICKS` clicks, 16 bytes each. Items that were neither trained on nor clicked beside another that is known
    are no answers, and in windows they are passed over.

    Args:
        encoder: Trained. It is copied, and stays as it is.
        is_trained: Which items it was trained on; row 0 is padding.

    Shape:
        - is_trained: ``(n_items + 1,)``, as many as the encoder has item vectors

    Raises:
        ValueError: If there is not one for each item vector.
    """

    def __init__(self, encoder: BundledEncoder, is_trained: BoolArray) -> None:
        if len(is_trained) != len(encoder.item_vectors):
            raise ValueError(f"{len(is_trained)} marks for {len(encoder.item_vectors)} item vectors")
        is_trained = is_trained.copy()
        is_trained[PADDING_ITEM] = False
        vectors = encoder.item_vectors * is_trained[:, None]
        self._encoder = _with_vectors(encoder, vectors)
        self._table = _Table(is_trained, np.zeros(len(vectors), np.int64), vectors)
        self._log = empty_log()

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Put new items near those beside which they are clicked; see `LiveRetriever.learn`."""
        n_items = int(items.max(initial=0))
        self._log = with_room(self._log, len(items), n_items, MAX_CLICKS)
        if n_items >= len(self._table.vectors_ID):
            is_trained, n_near, vectors = self._table
            n_rows = n_items + 1
            self._table = _Table(grown(is_trained, n_rows), grown(n_near, n_rows), grown(vectors, n_rows))
            self._encoder = _with_vectors(self._encoder, self._table.vectors_ID)
        moved = np.zeros(len(self._table.vectors_ID), dtype=np.bool_)
        _learn(self._log, self._table, sessions, items, moved)
        if moved.any():
            self._encoder.place(where := np.flatnonzero(moved), self._table.vectors_ID[where])

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` of the items that are known for each window, best first; see `Retriever.retrieve`."""
        is_known = self._table.is_trained_I | (self._table.n_near_I != 0)
        inside = np.where(windows < len(is_known), windows, PADDING_ITEM)
        _, queries = self._encoder.encode(np.where(is_known[inside], inside, PADDING_ITEM))
        numbers_BK = np.zeros((len(queries), k), dtype=np.int64)
        best_BK = np.full((len(queries), k), -np.inf, dtype=np.float32)
        n_rows = max(1, _SCORES_AT_ONCE // len(is_known))
        for start in range(0, len(queries), n_rows):
            rows = slice(start, start + n_rows)
            _best(queries[rows] @ self._table.vectors_ID.T, is_known, numbers_BK[rows], best_BK[rows])
        return numbers_BK, best_BK


def _with_vectors(encoder: BundledEncoder, vectors: FloatArray) -> BundledEncoder:
    """The same encoder over a copy of other item vectors."""
    return type(encoder).load(encoder.config, encoder.weights, vectors.copy())


@compiled
def _learn(log: ClickLog, table: _Table, sessions: IntArray, items: IntArray, moved_I: BoolArray) -> None:
    for i in range(len(items)):
        item = items[i]
        if item == PADDING_ITEM:
            continue
        slot = session_slot(log, sessions[i])
        before = np.int64(row_of(log, log.newest_S[slot])[ITEM]) if slot >= 0 else PADDING_ITEM
        if before not in (PADDING_ITEM, item):
            _draw_near(table, item, before, moved_I)
            _draw_near(table, before, item, moved_I)
        append(log, sessions[i], item)


@compiled
def _draw_near(table: _Table, item: Int, neighbour: Int, moved_I: BoolArray) -> None:
    """Let a new item's vector be the mean over one trained neighbour more, or lend it that of a new one."""
    if table.is_trained_I[item]:
        return
    if table.is_trained_I[neighbour]:
        table.n_near_I[item] = 1 if table.n_near_I[item] == _LENT else table.n_near_I[item] + 1
    elif table.n_near_I[item] == 0 and table.n_near_I[neighbour] != 0:
        table.n_near_I[item] = _LENT
    else:
        return
    vector, other, share = table.vectors_ID[item], table.vectors_ID[neighbour], np.float32(1)
    if table.n_near_I[item] > 1:
        share /= np.float32(table.n_near_I[item])
    for d in range(len(vector)):
        vector[d] += (other[d] - vector[d]) * share
    moved_I[item] = True


@compiled
def _best(scores_BI: FloatArray, is_known_I: BoolArray, numbers_BK: IntArray, best_BK: FloatArray) -> None:
    """The known items with the highest scores, put in place, best first."""
    for b in range(len(scores_BI)):
        n = 0
        for item in range(1, len(is_known_I)):
            if is_known_I[item]:
                n = offer(best_BK[b], numbers_BK[b], n, scores_BI[b, item], item)
        put_in_order(best_BK[b], numbers_BK[b], n)
