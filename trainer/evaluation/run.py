"""Full ranking: every item of the catalogue competes with the target, except those that may not be listed.

Shape letters: ``Q`` queries, ``B`` of them at once, ``T`` window length, ``k`` length of a list, ``N`` items, ``D``
embedding dimension.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch

from encoders.blend import Blend
from encoders.protocols import FloatArray, IntArray, Retriever, SequenceEncoder
from trainer.evaluation.metrics import KS, NOT_FOUND
from trainer.evaluation.queries import Queries
from trainer.interactions import AnyIntArray, BoolArray
from trainer.report import Report

QUERIES_AT_ONCE = 512
ANSWERS_AT_ONCE = 2**20
"""Items of lists that are asked for at once: who has seen thousands of items needs a list of thousands."""
SCORES_AT_ONCE = 2**24
"""Scores that are held at once, 64 MB."""


@dataclass(frozen=True)
class FullScores:
    """An encoder whose inner product with every item is taken: exact ranks, however far down the target is.

    The items of a list are exact, too, except that of items with equal scores at its end any may be in it.
    """

    encoder: SequenceEncoder
    item_vectors: FloatArray
    """Shape: ``(N + 1, D)``; row 0 is padding."""


@dataclass(frozen=True)
class Answers:
    """What a model answered."""

    ranks: IntArray
    """Place of each target among all items, from 0; of a `Retriever` only within its list, else `NOT_FOUND`.
    Shape: ``(Q,)``."""
    lists: IntArray
    """Item numbers, best first; 0 where there was none left. Shape: ``(Q, k)``."""
    seconds: float
    """Time that the model took; of `FullScores` with the ranking of all items, of a blend that of its members."""
    learning_seconds: float = 0.0
    """Time that learning between the answers took."""


@dataclass
class Watch:
    """A stopwatch."""

    seconds: float = 0.0


def timed(retriever: Retriever, watch: Watch) -> Retriever:
    """The same retriever with a stopwatch; a blend stays one, of members with that stopwatch."""
    if isinstance(retriever, Blend):
        members = [timed(member, watch) for member in retriever.members]
        return Blend(members, retriever.weights, retriever.fusion, retriever.depth, retriever.logits)
    return _Timed(retriever, watch)


class _Timed:
    def __init__(self, retriever: Retriever, watch: Watch) -> None:
        self._retriever, self._watch = retriever, watch

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        since_s = time.perf_counter()
        answer = self._retriever.retrieve(windows, k)
        self._watch.seconds += time.perf_counter() - since_s
        return answer


@dataclass(frozen=True)
class Evaluation:
    """Models on the same queries."""

    users: IntArray
    """Whom each query is about. Shape: ``(Q,)``."""
    item_counts: IntArray
    """How often each item is in what was known before. Shape: ``(N + 1,)``."""
    answers: Mapping[str, Answers]
    """By the model's name."""

    def where(self, mask: BoolArray) -> Evaluation:
        """On some of the queries; each is taken to have cost the same. Shape: ``(Q,)``."""
        share = np.count_nonzero(mask) / max(1, len(mask))
        answers = {
            name: Answers(each.ranks[mask], each.lists[mask], share * each.seconds, share * each.learning_seconds)
            for name, each in self.answers.items()
        }
        return Evaluation(self.users[mask], self.item_counts, answers)


def evaluate(
    models: Mapping[str, Retriever | FullScores], queries: Queries, report: Report, k: int = max(KS)
) -> Evaluation:
    """Ask each model the same queries.

    Args:
        models: By name. A `Retriever` is asked for as many items as it takes to fill the lists with what may be
            listed.
        queries: What to predict.
        report: Told how far it is.
        k: Length of the lists, and for a `Retriever` where ranks end.

    Raises:
        ValueError: If scores are no numbers, or not one for each item.
    """
    answers = {}
    for name, model in models.items():
        show = progress_bar(report, f"evaluating {name}", len(queries))
        if isinstance(model, FullScores):
            answers[name] = rank_all(queries, model, k, show)
        else:
            answers[name] = rank_listed(queries, model, queries.n_items, k, show)
    return Evaluation(queries.users, queries.item_counts, answers)


def progress_bar(report: Report, label: str, total: int) -> Callable[[int], None]:
    """Tells a report how many queries are done."""
    return lambda done: report.progress(label, done, total)


def rank_listed(
    queries: Queries, retriever: Retriever, n_items: int, k: int, show: Callable[[int], None] = lambda done: None
) -> Answers:
    """Find each target in a retriever's list.

    Args:
        queries: What to predict.
        retriever: Who predicts.
        n_items: How many items the retriever has at most.
        k: Length of a list.
        show: Told how many queries are done.
    """
    lists = np.zeros((len(queries), k), dtype=np.int64)
    # Who has seen much needs a longer answer to fill a list from: together with their like.
    order = np.argsort(queries.n_before, kind="stable")
    watch = Watch()
    retriever = timed(retriever, watch)
    for batch in _batches(k + queries.n_before[order]):
        some = order[batch]
        lists[some], _ = allowed_lists(queries, some, retriever, n_items, k)
        show(batch.start + len(some))
    return Answers(ranks_in(lists, queries.target_items), lists, watch.seconds)


def _batches(n_answers: AnyIntArray) -> Iterator[slice]:
    """Which queries are asked together.

    Args:
        n_answers: How many items each one's list may have to be chosen from, ascending.
    """
    start = 0
    while start < len(n_answers):
        most = int(n_answers[min(start + QUERIES_AT_ONCE, len(n_answers)) - 1])
        stop = start + max(1, min(QUERIES_AT_ONCE, ANSWERS_AT_ONCE // most))
        yield slice(start, stop)
        start = stop


def allowed_lists(
    queries: Queries, some: IntArray, retriever: Retriever, n_items: int, k: int
) -> tuple[IntArray, FloatArray]:
    """The best ``k`` items that may be listed, by asking for more until they fill the list.

    What may not be listed is struck out of the lists of a blend's members, before these are fused.

    Returns:
        Item numbers, best first, 0 where there was none left, and their scores.

    Shape:
        - some: ``(B,)``, which queries
        - Output: ``(B, k)`` and ``(B, k)``
    """
    if isinstance(retriever, Blend):
        depth = max(k, retriever.depth)
        answers = [allowed_lists(queries, some, member, n_items, depth) for member in retriever.members]
        return retriever.fused(answers, k)
    windows = queries.windows(some)
    rows, items = queries.excluded_items(some, windows)
    lists = np.zeros((len(some), k), dtype=np.int64)
    scores = np.full((len(some), k), -np.inf, dtype=np.float32)
    width = n_items + 1
    excluded = rows * width + items
    wanted = min(n_items, k + int(np.bincount(rows).max(initial=0)))
    unfilled = np.arange(len(some))
    while len(unfilled):
        answer, answer_scores = retriever.retrieve(windows[unfilled], wanted)
        allowed = (answer > 0) & ~np.isin(unfilled[:, None] * width + answer, excluded)
        if queries.candidates is not None:
            allowed &= queries.candidates[answer]
        place = np.cumsum(allowed, axis=1) - 1
        row, column = np.nonzero(allowed & (place < k))
        at = unfilled[row], place[row, column]
        lists[at], scores[at] = answer[row, column], answer_scores[row, column]
        may_have_more = (place[:, -1] < k - 1) & (answer[:, -1] > 0)
        unfilled = unfilled[may_have_more & (wanted < n_items)]
        wanted = min(n_items, 2 * wanted)
    return lists, scores


def ranks_in(lists: IntArray, targets: IntArray) -> IntArray:
    """Place of each target in its list.

    Shape:
        - lists: ``(Q, k)``
        - targets: ``(Q,)``
        - Output: ``(Q,)``

    Example:
        >>> ranks_in(np.array([[4, 2], [4, 0]]), np.array([2, 0])).tolist() == [1, NOT_FOUND]
        True
    """
    found = (lists == targets[:, None]) & (lists > 0)
    return np.where(found.any(axis=1), found.argmax(axis=1), NOT_FOUND)


def rank_all(queries: Queries, model: FullScores, k: int, show: Callable[[int], None] = lambda done: None) -> Answers:
    """Rank every item by its score; of items with equal scores the lower number comes first.

    Raises:
        ValueError: If there is not one item vector for each item, or a score is no number.
    """
    if len(model.item_vectors) != queries.n_items + 1:
        raise ValueError(f"{len(model.item_vectors) - 1} item vectors for {queries.n_items} items")
    ranks = np.empty(len(queries), dtype=np.int64)
    lists = np.zeros((len(queries), k), dtype=np.int64)
    at_once = max(1, min(QUERIES_AT_ONCE, SCORES_AT_ONCE // (queries.n_items + 1)))
    order = np.argsort(queries.n_before, kind="stable")  # windows of like length together: the shorter cost less
    since_s = time.perf_counter()
    for start in range(0, len(order), at_once):
        some = order[start : start + at_once]
        scores_BN = _allowed_scores(queries, some, model)
        ranks[some] = exact_ranks(scores_BN, queries.target_items[some])
        lists[some, : queries.n_items] = _best(scores_BN, min(k, queries.n_items))
        show(start + len(some))
    return Answers(ranks, lists, time.perf_counter() - since_s)


def exact_ranks(scores_BN: FloatArray, targets: IntArray) -> IntArray:
    """How many items come before each target: those that score more, and of the equal ones those of a lower number.

    Args:
        scores_BN: Of each item number; minus infinity where an item may not be listed.
        targets: Item numbers. One that may not be listed is `NOT_FOUND`.

    Shape:
        - scores_BN: ``(B, N + 1)``
        - targets: ``(B,)``
        - Output: ``(B,)``

    Example:
        >>> exact_ranks(np.array([[-np.inf, 2, 3, 2, 2]]), np.array([3]))
        array([2])
    """
    own_B1 = np.take_along_axis(scores_BN, targets[:, None], axis=1)
    ranks: IntArray = np.count_nonzero(scores_BN > own_B1, axis=1)
    equal_BN = scores_BN == own_B1
    tied = np.flatnonzero(np.count_nonzero(equal_BN, axis=1) > 1)
    ranks[tied] += np.count_nonzero(equal_BN[tied] & (np.arange(scores_BN.shape[1]) < targets[tied, None]), axis=1)
    return np.where(np.isneginf(own_B1[:, 0]), NOT_FOUND, ranks)


def _allowed_scores(queries: Queries, some: IntArray, model: FullScores) -> FloatArray:
    """Scores of all items, minus infinity for those that may not be listed. Shape: ``(B,)`` to ``(B, N + 1)``."""
    windows = queries.windows(some)
    _, queries_BD = model.encoder.encode(windows)
    scores_BN = queries_BD @ model.item_vectors.T
    # A score that is no number is beaten by none, and its target would be ranked first.
    if not np.isfinite(scores_BN).all():
        raise ValueError("the model gives scores that are no numbers")
    scores_BN[:, 0] = -np.inf
    if queries.candidates is not None:
        scores_BN[:, ~queries.candidates] = -np.inf
    scores_BN[queries.excluded_items(some, windows)] = -np.inf
    return scores_BN


def _best(scores_BN: FloatArray, k: int) -> IntArray:
    """The items with the highest scores, best first; 0 where none is left that may be listed."""
    best = torch.from_numpy(scores_BN).topk(k)
    scores, items = best.values.numpy(), best.indices.numpy()
    order = np.lexsort((items, -scores), axis=1)
    return np.take_along_axis(np.where(np.isneginf(scores), 0, items), order, axis=1)
