"""Sequential rules against counting them in dictionaries."""

from __future__ import annotations

from collections import Counter, defaultdict

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.markov import Markov, MarkovConfig

CLICKS = st.lists(st.tuples(st.integers(-3, 6), st.integers(0, 40)), max_size=200)


@given(CLICKS, st.integers(1, 5), st.lists(st.integers(0, 200), max_size=3))
@settings(max_examples=200)
def test_counts_are_those_of_dictionaries(clicks: list[tuple[int, int]], max_distance: int, cuts: list[int]) -> None:
    markov = Markov(MarkovConfig(max_distance=max_distance))
    for start, end in zip([0, *sorted(cuts)], [*sorted(cuts), len(clicks)], strict=True):
        columns = np.array(clicks[start:end], dtype=np.int64).reshape(-1, 2).T.copy()
        markov.learn(columns[0], columns[1], np.zeros(columns.shape[1]))
    expected: dict[int, Counter[int]] = defaultdict(Counter)
    sessions: dict[int, list[int]] = defaultdict(list)
    for session, item in clicks:
        if item:
            for distance, before in enumerate(sessions[session][: -max_distance - 1 : -1], 1):
                expected[before][item] += 1 / distance  # type: ignore[assignment]
            sessions[session].append(item)
    items, scores = markov.retrieve(np.arange(42)[:, None], 50)
    for before in range(42):
        wanted = sorted(expected[before].items(), key=lambda pair: (-np.float32(round(pair[1], 5)), pair[0]))
        n = len(wanted)
        np.testing.assert_allclose(scores[before, :n], [count for _, count in wanted], rtol=1e-5)
        assert sorted(items[before, :n].tolist()) == sorted(item for item, _ in wanted)
        assert (items[before, n:] == 0).all()
