"""Bootstrap intervals over users."""

from __future__ import annotations

import numpy as np
import pytest

from trainer.evaluation import confidence
from trainer.evaluation.confidence import interval, paired_interval, resampled_means

RNG = np.random.default_rng(0)


def test_the_mean_is_that_of_the_queries() -> None:
    values = np.array([0.0, 1.0, 1.0])
    assert interval(values, np.array([0, 0, 1])).mean == pytest.approx(2 / 3)


def test_the_same_seed_gives_the_same_interval() -> None:
    values, users = RNG.random(200), np.arange(200)
    assert interval(values, users, seed=3) == interval(values, users, seed=3)
    assert interval(values, users, seed=3) != interval(values, users, seed=4)


def test_with_a_query_a_user_the_interval_is_that_of_the_normal_distribution() -> None:
    values = RNG.random(2_000)
    found = interval(values, np.arange(2_000), n_resamples=4_000)
    error = 1.96 * values.std() / np.sqrt(2_000)
    assert (found.high - found.low) / 2 == pytest.approx(error, rel=0.05)
    assert (found.high + found.low) / 2 == pytest.approx(values.mean(), abs=error / 10)


def test_queries_of_one_user_are_drawn_together() -> None:
    """A hundred copies of a query say no more than it alone."""
    values = RNG.random(50)
    alone = interval(values, np.arange(50))
    copied = interval(np.repeat(values, 100), np.repeat(np.arange(50), 100))
    assert copied == pytest.approx(alone)


def test_a_user_with_more_queries_weighs_more() -> None:
    # Users of 1 and of 3 queries: drawn are both (mean 1/4), the first twice (1), or the second twice (0).
    means = resampled_means(np.array([[1.0], [0.0], [0.0], [0.0]]), np.array([5, 9, 9, 9]))
    assert np.unique(means).tolist() == [0, 0.25, 1]
    assert (means == 0.25).mean() == pytest.approx(1 / 2, abs=0.05)


def test_a_constant_difference_is_sure_where_the_intervals_overlap() -> None:
    values, users = RNG.random(100), np.arange(100)
    difference = paired_interval(values + 0.01, values, users)
    assert difference == pytest.approx((0.01, 0.01, 0.01))
    assert interval(values + 0.01, users).low < interval(values, users).high


def test_columns_see_the_same_users() -> None:
    values = RNG.random((60, 1))
    means = resampled_means(np.hstack([values, values + 1]), np.arange(60))
    assert means[:, 1] - means[:, 0] == pytest.approx(np.ones(len(means)))


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    values, users = RNG.random((90, 2)), RNG.integers(0, 40, 90)
    whole = resampled_means(values, users, n_resamples=100)
    monkeypatch.setattr(confidence, "DRAWS_AT_ONCE", 7 * 40)
    assert resampled_means(values, users, n_resamples=100) == pytest.approx(whole)


def test_nothing_cannot_be_resampled() -> None:
    with pytest.raises(ValueError, match="no queries"):
        resampled_means(np.zeros((0, 1)), np.zeros(0, dtype=np.int64))
