"""Popularity that learns every click."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.popularity import LivePopularity, PopularityConfig, decayed_counts


def popularity(items: list[int], times_s: list[float], half_life_s: float | None = 60) -> LivePopularity:
    learned = LivePopularity(PopularityConfig(half_life_s=half_life_s))
    learned.learn(np.zeros(len(items), dtype=np.int64), np.array(items), np.array(times_s))
    return learned


def counts(learned: LivePopularity) -> dict[int, float]:
    items, scores = learned.retrieve(np.array([[1]]), 100)
    return {item: score for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True) if item}


def test_counts_halve_with_each_half_life() -> None:
    assert counts(popularity([5, 5, 7, 9], [0, 60, 120, 120])) == {7: 1.0, 9: 1.0, 5: 0.75}


def test_a_click_that_comes_late_counts_what_is_left_of_it() -> None:
    assert counts(popularity([7, 5], [120, 0])) == {7: 1.0, 5: 0.25}


def test_without_decay_clicks_are_counted() -> None:
    assert counts(popularity([5, 5, 7], [0, 1e6, 1e12], half_life_s=None)) == {5: 2.0, 7: 1.0}


def test_of_equal_counts_the_lower_number_comes_first() -> None:
    assert list(counts(popularity([9, 3, 6], [0, 0, 0]))) == [3, 6, 9]


def test_counts_are_those_of_the_whole_log() -> None:
    """Over some thousand half-lives, so that the start of the decay moves often."""
    rng = np.random.default_rng(4)
    items, times_s = rng.integers(1, 40, 20_000), np.cumsum(rng.random(20_000))
    whole = decayed_counts(items, times_s, np.ones(len(items)), 39, half_life_s=5.0)
    found = counts(popularity(items.tolist(), times_s.tolist(), half_life_s=5.0))
    assert found == pytest.approx({item: float(whole[item]) for item in range(1, 40)}, rel=1e-5)
    assert list(found) == (np.argsort(-whole[1:], kind="stable") + 1).tolist()


def test_time_that_jumps_by_many_half_lives_leaves_only_what_is_new() -> None:
    assert counts(popularity([5, 7], [0, 1e9])) == {7: 1.0}


@pytest.mark.parametrize("half_life_s", [0.0, -1.0, np.nan])
def test_a_half_life_that_is_not_positive_is_refused(half_life_s: float) -> None:
    with pytest.raises(ValueError, match="half_life_s"):
        PopularityConfig(half_life_s=half_life_s)
