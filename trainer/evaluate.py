"""Next-item prediction as served: a list for each event, scored against the same user's next one.

What a training run measures itself by; `trainer.evaluation` compares models as papers do.

Shape letters: ``E`` events of the log, ``Q`` events to be predicted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from encoders.protocols import IntArray, Retriever
from encoders.window import WindowRule
from trainer.evaluation.metrics import coverage, rank_metrics
from trainer.evaluation.queries import Queries
from trainer.evaluation.run import rank_listed
from trainer.firsts import first_of_each
from trainer.interactions import BoolArray, Interactions

FIGURES = ("recall", "ndcg", "mrr")


def ask(events: Interactions, rule: WindowRule, numbers: IntArray, is_target: BoolArray) -> Queries:
    """Every marked event for which there was a list: the user had an event before, and not this item yet.

    An item that the model does not know stays a target, which nobody can hit. One that the user has seen
    does not: lists leave out what was seen.

    Shape:
        - numbers, is_target: ``(E,)``
    """
    is_new = first_of_each(events.user_codes, events.item_codes)
    return Queries.of(events, numbers, is_target & is_new, np.bincount(numbers[~is_target]), rule, excluded="seen")


@dataclass(frozen=True)
class Answers:
    """How a retriever did."""

    ranks: IntArray
    """Place of each target in its list, from 0; `NOT_FOUND` where it is not in it. Shape: ``(Q,)``."""
    coverage: float
    """Share of all items that are in at least one list."""


def answer(
    questions: Queries, retriever: Retriever, n_items: int, k: int, report: Callable[[int], None] = lambda done: None
) -> Answers:
    """Rank all items for every question, leaving out what the user had seen.

    Args:
        questions: What to predict.
        retriever: Who predicts.
        n_items: How many items the retriever has.
        k: Length of a list.
        report: Called with how many questions are done.
    """
    answers = rank_listed(questions, retriever, n_items, k, report)
    return Answers(answers.ranks, coverage(answers.lists, n_items))


def metrics(questions: Queries, answers: Answers, known_users: BoolArray, k: int) -> dict[str, float]:
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
    values = rank_metrics(answers.ranks, [k])
    figures = {f"{name}@{k}": float(values[f"{name}@{k}"].mean()) for name in FIGURES}
    figures[f"coverage@{k}"] = answers.coverage
    is_new = ~known_users[questions.users]
    if is_new.any():
        figures[f"recall@{k}_new_users"] = float(values[f"recall@{k}"][is_new].mean())
    return figures
