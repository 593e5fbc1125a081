"""From encoder states to lists: one search of the index for a whole batch, and filters over all of it at once.

Shape letters: ``B`` questions, ``K`` candidates of each, ``T`` longest window, ``D`` embedding dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from encoders.vocabulary import PADDING_ITEM
from streams.decode import Event
from streams.lists import ANN
from streams.strategy import first_allowed, seen_mask
from streams.waves import Waves

_DECIMALS = 6
"""Of a score on the wire."""


class Question(NamedTuple):
    """What an event asks for: a list for its user as of this event."""

    event: Event
    turn: Any
    """Whose answer it will be; the pipeline's own."""
    place: int
    """Where the encoder state is that answers it; -1 if there is none."""
    window: bytes
    """Items of the window, in their stored form."""
    seen: frozenset[int]
    """Fingerprints of items that have left the window."""


class Answer(NamedTuple):
    """The items of one list, best first, as columns."""

    item_ids: list[str]
    scores: list[float]
    sources: list[str]


class Search:
    """Finds the model's nearest items for all questions that it can answer, and filters them.

    The index is asked at once for somewhat more than a list takes; rows that filters leave short are searched
    again, wider, until they are full or the catalogue is at its end.

    Args:
        questions: Of all batches.
        waves: The states of those batches, worked out.
        unavailable: 64-bit hashes of items that may not be listed.
        top_n: Length of a list.
    """

    def __init__(self, questions: Sequence[Question], waves: Waves, unavailable: frozenset[int], top_n: int) -> None:
        model = self._model = waves.model
        self._questions, self._top_n = questions, top_n
        self._n_items = model.bundle.vocabulary.n_items
        self._index = model.index_without(unavailable)
        places = np.fromiter((question.place for question in questions), np.int64, len(questions))
        self._asked = np.flatnonzero((places >= 0) & waves.answers[places]) if len(waves.answers) else np.arange(0)
        self._queries_BD = waves.vectors(places[self._asked])
        self._k = model.width.candidates(top_n)
        self._find()

    def _find(self) -> None:
        self._k = min(self._k, self._n_items)
        if not len(self._asked):
            return
        self._numbers_BK, self._scores_BK = self._index.search(self._queries_BD, self._k)

    def answers(self) -> list[Answer]:
        """The best items that may be listed, for each question; fewer where the catalogue has no more."""
        answers = [Answer([], [], []) for _ in self._questions]
        first_k = self._k
        while len(self._asked):
            asked = [self._questions[n] for n in self._asked.tolist()]
            allowed_BK = self._numbers_BK != PADDING_ITEM
            candidates_BK = self._model.fingerprints[self._numbers_BK]
            allowed_BK &= ~seen_mask(candidates_BK, [q.window for q in asked], [q.seen for q in asked])
            rows, columns = first_allowed(allowed_BK, self._top_n)
            item_ids = list(map(self._model.item_ids.__getitem__, self._numbers_BK[rows, columns].tolist()))
            scores = self._scores_BK[rows, columns].astype(np.float64).round(_DECIMALS).tolist()
            ends = np.searchsorted(rows, np.arange(1, len(asked) + 1)).tolist()
            start = 0
            for n, end in zip(self._asked.tolist(), ends, strict=True):
                answers[n] = Answer(item_ids[start:end], scores[start:end], [ANN] * (end - start))
                start = end
            if self._k == self._n_items:
                break
            short = np.diff(ends, prepend=0) < self._top_n
            if self._k == first_k:  # a wider one does not say whether the first was wide enough
                self._model.width.learn(len(short), int(short.sum()))
            self._asked, self._queries_BD = self._asked[short], self._queries_BD[short]
            self._k *= 3
            self._find()
        return answers
