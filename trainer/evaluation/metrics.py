"""How good lists are, for each query and not only on average: the bootstrap needs every value.

Shape letters: ``Q`` queries, ``K`` length of a list, ``M`` most targets of a query, ``N`` items, ``D`` dimensions.
Item number 0 is padding wherever it stands: of a list that is shorter than ``K``, or of a query's targets.

References:
    Järvelin & Kekäläinen, "Cumulated gain-based evaluation of IR techniques", TOIS 2002 (ndcg).
    Vargas & Castells, "Rank and relevance in novelty and diversity metrics for recommender systems", RecSys 2011.
    Yin et al., "Challenging the long tail recommendation", VLDB 2012 (average recommendation popularity).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from encoders.protocols import FloatArray, IntArray
from trainer.interactions import BoolArray

NOT_FOUND = np.iinfo(np.int64).max
"""Rank of a target that is in no place."""
KS = (5, 10, 20)
"""Lengths of lists that the figures are for."""
ROWS_AT_ONCE = 4_096
"""Lists whose items' vectors are held at once."""

Values = npt.NDArray[np.float64]
"""One value for each query. Shape: ``(Q,)``."""


def rank_metrics(ranks: IntArray, ks: Iterable[int] = KS) -> dict[str, Values]:
    """All figures of queries with one target each.

    Args:
        ranks: Place of each query's target, from 0; `NOT_FOUND` where it has none.
        ks: Lengths of lists.

    Returns:
        By name and length, as in ``ndcg@10``, the value of each query.

    Shape:
        - ranks: ``(Q,)``
        - Output: ``(Q,)`` each

    Example:
        >>> [f"{name} {values[0]:.2f}" for name, values in rank_metrics(np.array([2]), ks=[5]).items()]
        ['hit_rate@5 1.00', 'recall@5 1.00', 'precision@5 0.20', 'f1@5 0.33', 'ndcg@5 0.50', 'mrr@5 0.33']
    """
    figures: dict[str, Values] = {}
    for k in ks:
        hit = (ranks < k).astype(np.float64)
        places = np.where(ranks < k, ranks, 0) + 1.0
        figures |= {
            f"hit_rate@{k}": hit,
            f"recall@{k}": hit,
            f"precision@{k}": hit / k,
            f"f1@{k}": 2 * hit / (k + 1),
            f"ndcg@{k}": hit / np.log2(places + 1),
            f"mrr@{k}": hit / places,
        }
    return figures


def list_metrics(lists: IntArray, targets: IntArray, ks: Iterable[int] = KS) -> dict[str, Values]:
    """All figures of queries with any number of targets each, all of them equally good.

    A query without targets scores 0. A list that is shorter than ``k`` counts as filled up with misses.

    Args:
        lists: Item numbers, best first, none twice in a list.
        targets: Item numbers, none twice for a query.
        ks: Lengths of lists, each at most ``K``.

    Returns:
        As `rank_metrics` does.

    Raises:
        ValueError: If the lists are shorter than one of ``ks``.

    Shape:
        - lists: ``(Q, K)``
        - targets: ``(Q, M)``
        - Output: ``(Q,)`` each

    Example:
        >>> figures = list_metrics(np.array([[7, 8, 9, 4]]), np.array([[8, 4, 5]]), ks=[4])
        >>> [f"{name} {values[0]:.2f}" for name, values in figures.items()]
        ['hit_rate@4 1.00', 'recall@4 0.67', 'precision@4 0.50', 'f1@4 0.57', 'ndcg@4 0.50', 'mrr@4 0.50']
    """
    ks = tuple(ks)
    if lists.shape[1] < max(ks, default=0):
        raise ValueError(f"lists of {lists.shape[1]} items have no figures at {max(ks)}")
    relevant_QK = _relevant(lists, targets)
    n_targets = np.count_nonzero(targets, axis=1)
    discounts = 1 / np.log2(np.arange(max(lists.shape[1], targets.shape[1])) + 2.0)
    ideal = np.concatenate(([0.0], np.cumsum(discounts)))
    figures: dict[str, Values] = {}
    for k in ks:
        found_QK = relevant_QK[:, :k]
        n_found = found_QK.sum(axis=1).astype(np.float64)
        any_found = n_found > 0
        figures |= {
            f"hit_rate@{k}": any_found.astype(np.float64),
            f"recall@{k}": n_found / np.maximum(n_targets, 1),
            f"precision@{k}": n_found / k,
            f"f1@{k}": 2 * n_found / (k + n_targets),
            f"ndcg@{k}": found_QK @ discounts[:k] / ideal[np.clip(n_targets, 1, k)],
            f"mrr@{k}": any_found / (found_QK.argmax(axis=1) + 1.0),
        }
    return figures


def _relevant(lists: IntArray, targets: IntArray) -> BoolArray:
    """Which items of each list are among its targets. Shape: ``(Q, K)``, ``(Q, M)`` to ``(Q, K)``."""
    width = int(max(lists.max(initial=0), targets.max(initial=0))) + 1
    rows = width * np.arange(len(lists))[:, None]
    found: BoolArray = np.isin(rows + lists, (rows + targets)[targets > 0]) & (lists > 0)
    return found


def exposure(lists: IntArray, n_items: int) -> IntArray:
    """In how many lists each of the items 1, 2, … is. Shape: ``(Q, K)`` to ``(N,)``."""
    counts: IntArray = np.bincount(lists.ravel(), minlength=n_items + 1)[1:]
    return counts


def coverage(lists: IntArray, n_items: int) -> float:
    """Share of the catalogue that is in at least one list.

    Example:
        >>> coverage(np.array([[1, 2], [1, 3]]), n_items=4)
        0.75
    """
    return float(np.count_nonzero(exposure(lists, n_items)) / n_items)


def gini(counts: npt.NDArray[np.number]) -> float:
    """Gini index of how often each item is listed: 0 if all are equally often, towards 1 if one takes it all.

    Args:
        counts: For every item of the catalogue, 0 for those that are never listed.

    Shape:
        - counts: ``(N,)``

    Example:
        >>> gini(np.array([1, 1, 1, 1])), gini(np.array([0, 0, 0, 4]))
        (0.0, 0.75)
    """
    ascending, n = np.sort(counts.astype(np.float64)), len(counts)
    total = ascending.sum()
    if total == 0:
        return 0.0
    return float((2 * np.arange(1, n + 1) - n - 1) @ ascending / (n * total))


def novelty(lists: IntArray, counts: npt.NDArray[np.number]) -> Values:
    """Mean self-information of each list's items in bits, ``-log2`` of an item's share of all interactions.

    An item without interactions counts as having one: it is as surprising as the rarest. NaN for an empty list.

    Args:
        lists: Item numbers.
        counts: How many interactions each item number has; row 0 is padding.

    Shape:
        - lists: ``(Q, K)``
        - counts: ``(N + 1,)``
        - Output: ``(Q,)``

    Example:
        >>> novelty(np.array([[1, 2]]), np.array([0, 4, 2, 2]))
        array([1.5])
    """
    bits = -np.log2(np.maximum(counts, 1) / counts[1:].sum())
    return _mean_over_items(lists, bits)


def recommended_popularity(lists: IntArray, counts: npt.NDArray[np.number]) -> Values:
    """Mean number of interactions of each list's items; its mean over lists is the ARP. NaN for an empty list.

    Shape:
        - lists: ``(Q, K)``
        - counts: ``(N + 1,)``, row 0 is padding
        - Output: ``(Q,)``

    Example:
        >>> recommended_popularity(np.array([[1, 2], [3, 0]]), np.array([0, 4, 2, 1]))
        array([3., 1.])
    """
    return _mean_over_items(lists, counts.astype(np.float64))


def _mean_over_items(lists: IntArray, values: Values) -> Values:
    is_item = lists > 0
    with np.errstate(invalid="ignore"):  # 0 / 0: a list without items has no mean
        means: Values = np.where(is_item, values[lists], 0).sum(axis=1) / is_item.sum(axis=1)
    return means


def diversity(lists: IntArray, item_vectors: FloatArray) -> Values:
    """One minus the mean cosine of each list's pairs of items. NaN for a list of fewer than two items.

    The vectors should be the same for all models that are compared: those of categories (`category_vectors`), or of
    one model. An item whose vector is zero resembles none.

    Shape:
        - lists: ``(Q, K)``
        - item_vectors: ``(N + 1, D)``
        - Output: ``(Q,)``

    Example:
        >>> diversity(np.array([[1, 2], [1, 3]]), np.array([[0, 0], [1, 0], [0, 2], [3, 0]], dtype=np.float32))
        array([1., 0.])
    """
    lengths = np.linalg.norm(item_vectors, axis=1, keepdims=True)
    units = np.divide(item_vectors, lengths, out=np.zeros_like(item_vectors), where=lengths > 0)
    units[0] = 0  # padding adds nothing
    own = np.square(units).sum(axis=1, dtype=np.float64)  # 1, of a zero vector 0
    spread = np.full(len(lists), np.nan)
    for start in range(0, len(lists), ROWS_AT_ONCE):
        some = lists[start : start + ROWS_AT_ONCE]
        # The square of a sum holds every pair twice, and every item with itself once.
        squared_sum = np.square(units[some].sum(axis=1, dtype=np.float64)).sum(axis=1)
        n = np.count_nonzero(some, axis=1)
        twice_pairs = np.where(n > 1, n * (n - 1.0), np.nan)
        spread[start : start + len(some)] = 1 - (squared_sum - own[some].sum(axis=1)) / twice_pairs
    return spread


def category_vectors(categories: Sequence[Sequence[str]]) -> FloatArray:
    """A vector for each item with 1 at each of its categories, whose cosine is how much two items share.

    Args:
        categories: Of item number 1, 2, …

    Shape:
        - Output: ``(N + 1, C)`` for ``C`` categories

    Example:
        >>> category_vectors([["comedy"], [], ["comedy", "drama"]])
        array([[0., 0.],
               [1., 0.],
               [0., 0.],
               [1., 1.]], dtype=float32)
    """
    columns = {name: place for place, name in enumerate(sorted({name for names in categories for name in names}))}
    vectors = np.zeros((len(categories) + 1, len(columns)), dtype=np.float32)
    for number, names in enumerate(categories, start=1):
        vectors[number, [columns[name] for name in names]] = 1
    return vectors
