"""The best of many scores against sorting them all."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.best import offer, put_in_order


@given(st.lists(st.integers(-5, 5), max_size=60), st.integers(0, 30), st.randoms(use_true_random=False))
@settings(max_examples=300)
def test_the_best_are_kept_in_order_whatever_order_they_come_in(
    scores: list[int], k: int, random: np.random.Generator
) -> None:
    offered = [(np.float32(score), number) for number, score in enumerate(scores, 1)]
    expected = sorted(offered, key=lambda pair: (-pair[0], pair[1]))[:k]
    random.shuffle(offered)  # type: ignore[arg-type]
    best, numbers, n = np.full(k, -np.inf, dtype=np.float32), np.zeros(k, dtype=np.int64), 0
    for score, number in offered:
        n = offer(best, numbers, n, score, number)
    put_in_order(best, numbers, n)
    assert n == len(expected)
    assert list(zip(best[:n], numbers[:n].tolist(), strict=True)) == expected
    assert (best[n:] == -np.inf).all()
    assert (numbers[n:] == 0).all()
