"""Next-item prediction as served: a list for each event, scored against the same user's next one.

Shape letters: ``E`` events of the log, ``Q`` events to be predicted, ``B`` of them at once, ``k`` length of a list.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoders.protocols import IntArray, Retriever
from encoders.window import WindowRule
from trainer.dataset import Timelines, cut_windows
from trainer.interactions import BoolArray, Interactions

QUERIES_AT_ONCE = 512
NOT_FOUND = np.iinfo(np.int64).max
"""Rank of an item that is not in the list."""


@dataclass(frozen=True)
class Questions:
    """Which events are to be predicted, and what each user had seen before."""

    events: Interactions
    numbers: IntArray
    """Item number of each event, 0 where the model does not know the item. Shape: ``(E,)``."""
    timelines: Timelines
    targets: IntArray
    """Positions of the events to be predicted. Shape: ``(Q,)``."""
    n_before: IntArray
    """How many events of the same user come before each event. Shape: ``(E,)``."""
    max_len: int

    def __len__(self) -> int:
        return len(self.targets)


def ask(events: Interactions, rule: WindowRule, numbers: IntArray, is_target: BoolArray) -> Questions:
    """Every marked event for which there was a list: the user had an event before, and not this item yet.

    An item that the model does not know stays a target, which nobody can hit. One that the user has seen
    does not: lists leave out what was seen.

    Shape:
        - numbers, is_target: ``(E,)``
    """
    by_user = np.argsort(events.user_codes, kind="stable")
    n_before = np.empty(len(events), dtype=np.int64)
    n_before[by_user] = np.arange(len(events)) - np.searchsorted(events.user_codes[by_user], events.user_codes[by_user])
    seen_before = np.ones(len(events), dtype=bool)
    pairs = events.user_codes[by_user] * max(1, len(events.item_ids)) + events.item_codes[by_user]
    seen_before[by_user[np.unique(pairs, return_index=True)[1]]] = False
    targets = np.flatnonzero(is_target & (n_before > 0) & ~seen_before)
    return Questions(events, numbers, cut_windows(events, rule), targets, n_before, rule.max_len)


@dataclass(frozen=True)
class Answers:
    """How a retriever did."""

    ranks: IntArray
    """Place of each target in its list, from 0; `NOT_FOUND` where it is not in it. Shape: ``(Q,)``."""
    coverage: float
    """Share of all items that are in at least one list."""


def answer(
    questions: Questions, retriever: Retriever, n_items: int, k: int, report: Callable[[int], None] = lambda done: None
) -> Answers:
    """Rank all items for every question, leaving out what the user had seen.

    Args:
        questions: What to predict.
        retriever: Who predicts.
        n_items: How many items the retriever has.
        k: Length of a list.
        report: Called with how many questions are done.
    """
    first_seen = _FirstSeen(questions, n_items)
    ranks = np.full(len(questions), NOT_FOUND, dtype=np.int64)
    listed = np.zeros(n_items + 1, dtype=bool)
    n_before = questions.n_before[questions.targets]
    # Who has seen much needs a longer answer to fill a list from: together with their like.
    order = np.argsort(n_before, kind="stable")
    for start in range(0, len(order), QUERIES_AT_ONCE):
        some = order[start : start + QUERIES_AT_ONCE]
        targets = questions.targets[some]
        windows = questions.timelines.windows(
            questions.timelines.previous[targets], questions.numbers, questions.max_len
        )
        items, _ = retriever.retrieve(windows, min(n_items, k + int(n_before[some].max())))
        new = (items > 0) & ~first_seen.before(targets, items)
        place = np.cumsum(new, axis=1) - 1
        in_list = new & (place < k)
        listed[items[in_list]] = True
        row, column = np.nonzero(in_list & (items == questions.numbers[targets, None]))
        ranks[some[row]] = place[row, column]
        report(start + len(some))
    return Answers(ranks, float(listed.sum() / n_items))


class _FirstSeen:
    """When each user first had each item, counted in events of the user."""

    def __init__(self, questions: Questions, n_items: int) -> None:
        self._width = n_items + 1
        self._n_before = questions.n_before
        self._users = questions.events.user_codes
        in_order = np.argsort(questions.n_before, kind="stable")
        keys = self._users[in_order] * self._width + questions.numbers[in_order]
        self._keys, first = np.unique(keys, return_index=True)
        self._first = questions.n_before[in_order[first]]

    def before(self, targets: IntArray, items: IntArray) -> BoolArray:
        """Whether each target's user had the items before it. Shape: ``(B,)``, ``(B, K)`` to ``(B, K)``."""
        wanted = self._users[targets, None] * self._width + items
        places = np.minimum(np.searchsorted(self._keys, wanted), len(self._keys) - 1)
        known = self._keys[places] == wanted
        before: BoolArray = known & (self._first[places] < self._n_before[targets, None])
        return before


def recall_at_k(ranks: IntArray, k: int) -> float:
    """Share of the targets among the first ``k``; with one target a list, this is the hit rate.

    Example:
        >>> recall_at_k(np.array([0, 2, 5, 10]), k=10)
        0.75
    """
    return float((ranks < k).mean())


def ndcg_at_k(ranks: IntArray, k: int) -> float:
    """Mean of ``1 / log2(rank + 2)`` over the targets, 0 for those not among the first ``k``.

    Example:
        >>> ndcg_at_k(np.array([0, 2, 10]), k=10)
        0.5
    """
    found = ranks[ranks < k]
    return float((1 / np.log2(found + 2.0)).sum() / len(ranks))


def mrr_at_k(ranks: IntArray, k: int) -> float:
    """Mean of ``1 / (rank + 1)`` over the targets, 0 for those not among the first ``k``.

    Example:
        >>> mrr_at_k(np.array([0, 1, 10]), k=10)
        0.5
    """
    found = ranks[ranks < k]
    return float((1 / (found + 1.0)).sum() / len(ranks))


def metrics(questions: Questions, answers: Answers, known_users: BoolArray, k: int) -> dict[str, float]:
    """All figures by name; of users the model had not learned from apart, where there are such.

    Args:
        questions: What was asked.
        answers: What came.
        known_users: For each user code, whether the model learned from them.
        k: Length of a list.

    Returns:
        Empty if nothing was asked.
    """
    if not len(questions):
        return {}
    ranks = answers.ranks
    figures = {
        f"recall@{k}": recall_at_k(ranks, k),
        f"ndcg@{k}": ndcg_at_k(ranks, k),
        f"mrr@{k}": mrr_at_k(ranks, k),
        f"coverage@{k}": answers.coverage,
    }
    is_new = ~known_users[questions.events.user_codes[questions.targets]]
    if is_new.any():
        figures[f"recall@{k}_new_users"] = recall_at_k(ranks[is_new], k)
    return figures
