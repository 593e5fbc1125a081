"""How sure a figure is: the bootstrap over users.

Queries of one user resemble each other, so whole users are drawn, with replacement, and all their queries with them.

References:
    Efron & Tibshirani, "An Introduction to the Bootstrap", 1993, chapters 13 (percentile interval) and 8 (clusters).
    Sakai, "Evaluating evaluation metrics based on the bootstrap", SIGIR 2006 (paired).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.protocols import IntArray
from trainer.evaluation.metrics import Values

N_RESAMPLES = 1_000
LEVEL = 0.95
DRAWS_AT_ONCE = 4_000_000
"""Users drawn at once, which bounds the memory: some 100 MB."""

Matrix = npt.NDArray[np.float64]


class Interval(NamedTuple):
    """A mean over queries and the percentile interval around it."""

    mean: float
    low: float
    high: float


def resampled_means(values: Matrix, users: IntArray, n_resamples: int = N_RESAMPLES, seed: int = 0) -> Matrix:
    """Means over the queries of as many users as there are, drawn anew each time.

    All columns see the same users, so differences of columns are differences of models on the same queries.

    Args:
        values: One column for each figure.
        users: Whose query each row is; any whole numbers.
        n_resamples: ``R``.
        seed: Decides the users that are drawn.

    Shape:
        - values: ``(Q, F)``
        - users: ``(Q,)``
        - Output: ``(R, F)``

    Raises:
        ValueError: If there are no queries.
    """
    if not len(values):
        raise ValueError("there are no queries to resample")
    _, codes = np.unique(users, return_inverse=True)
    n_queries = np.bincount(codes)
    n_users = len(n_queries)
    sums_UF = np.stack([np.bincount(codes, column, n_users) for column in values.T], axis=1)
    rng, at_once = np.random.default_rng(seed), max(1, DRAWS_AT_ONCE // n_users)
    means = np.empty((n_resamples, values.shape[1]))
    for start in range(0, n_resamples, at_once):
        n = min(at_once, n_resamples - start)
        # Counting draws gives multinomial weights, several times faster than `rng.multinomial`.
        draws = rng.integers(0, n_users, (n, n_users)) + n_users * np.arange(n)[:, None]
        weights = np.bincount(draws.ravel(), minlength=n * n_users).reshape(n, n_users).astype(np.float64)
        means[start : start + n] = (weights @ sums_UF) / (weights @ n_queries)[:, None]
    return means


def percentiles(means: Matrix, resampled: Matrix, level: float = LEVEL) -> list[Interval]:
    """The interval of each column: the middle ``level`` of its resampled means.

    Shape:
        - means: ``(F,)``
        - resampled: ``(R, F)``
    """
    low, high = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=0)
    return [Interval(*map(float, three)) for three in zip(means, low, high, strict=True)]


def interval(
    values: Values, users: IntArray, n_resamples: int = N_RESAMPLES, level: float = LEVEL, seed: int = 0
) -> Interval:
    """Mean of one figure over all queries, and how sure it is; see `resampled_means`."""
    column = values[:, None]
    return percentiles(column.mean(axis=0), resampled_means(column, users, n_resamples, seed), level)[0]


def paired_interval(
    values: Values,
    baseline: Values,
    users: IntArray,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
) -> Interval:
    """By how much a model's figure is above a baseline's on the same queries; narrower than two intervals apart.

    Shape:
        - values, baseline, users: ``(Q,)``
    """
    return interval(values - baseline, users, n_resamples, level, seed)
