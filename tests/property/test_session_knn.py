"""VMIS-kNN against its definition in plain Python."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.session_knn import SessionKNN, SessionKNNConfig

CLICKS = st.lists(st.tuples(st.integers(0, 7), st.integers(0, 12)), max_size=80)
"""Session and item."""
CONFIGS = st.builds(
    SessionKNNConfig,
    window_len=st.integers(1, 12),
    n_recent=st.integers(1, 8),
    n_neighbours=st.integers(1, 8),
    session_len=st.integers(1, 6),
    proximity=st.sampled_from([0.0, 0.5, 1.0]),
    lists_last_item=st.booleans(),
    max_clicks=st.sampled_from([1, 2, 8, 32, 1024]),
)


def remembered(clicks: list[tuple[int, int]], config: SessionKNNConfig) -> list[tuple[int, int]]:
    """What is left of the clicks."""
    log: list[tuple[int, int]] = []
    for session, item in clicks:
        items = [other for code, other in log if code == session][-config.session_len :]
        if item and item not in items:
            log = [*log, (session, item)][-config.max_clicks :]
    return log


def definition(clicks: list[tuple[int, int]], window: list[int], config: SessionKNNConfig) -> dict[int, float]:
    """The score of each item that has one."""
    newest = [item for item in window if item][-config.window_len :][::-1]
    n = len(newest)
    age = {item: newest.index(item) for item in newest}
    recent = list(dict.fromkeys(session for session, item in reversed(clicks) if item in age))[: config.n_recent]
    items = {code: [i for c, i in reversed(clicks) if c == code][: config.session_len] for code in recent}
    similarity = {code: np.float32(sum((n - age[item]) / n for item in items[code] if item in age)) for code in recent}
    neighbours = sorted((code for code in recent if similarity[code] > 0), key=lambda code: -similarity[code])
    given: dict[int, float] = {}
    for code in neighbours[: config.n_neighbours]:
        shared = min((item for item in items[code] if item in age), key=lambda item: age[item])
        match_weight = max(0.0, 1 - 0.1 * (age[shared] + 1))
        for place, item in enumerate(items[code]):
            distance = abs(place - items[code].index(shared))
            share = similarity[code] * match_weight / (1 + distance) ** config.proximity
            given[item] = given.get(item, 0.0) + float(share)
    n_sessions = len({session for session, _ in clicks})
    n_with = {item: sum(other == item for _, other in clicks) for item in given}
    left_out = set() if config.lists_last_item else set(newest[:1])
    return {
        item: share * log(max(1.0, n_sessions / n_with[item]))
        for item, share in given.items()
        if share > 0 and item not in left_out
    }


@given(CLICKS, st.lists(st.lists(st.integers(0, 14), max_size=12), min_size=1, max_size=4), CONFIGS, st.integers(1, 15))
@settings(max_examples=300)
def test_scores_are_those_of_the_definition(
    clicks: list[tuple[int, int]], windows: list[list[int]], config: SessionKNNConfig, k: int
) -> None:
    knn = SessionKNN(config)
    half = len(clicks) // 2
    for part in (clicks[:half], clicks[half:]):
        knn.learn(
            np.array([session for session, _ in part], dtype=np.int64),
            np.array([item for _, item in part], dtype=np.int64),
            np.zeros(len(part)),
        )
    padded = np.array([[0] * (12 - len(window)) + window for window in windows])
    items, scores = knn.retrieve(padded, k)
    for window, row, row_scores in zip(windows, items.tolist(), scores.tolist(), strict=True):
        expected = definition(remembered(clicks, config), window, config)
        best = sorted(expected.values(), reverse=True)[:k]
        assert [score for item, score in zip(row, row_scores, strict=True) if item] == pytest.approx(best, abs=1e-6)
        found = [item for item in row if item]
        assert len(set(found)) == len(found)
        assert [expected[item] for item in found] == pytest.approx(best, abs=1e-6)
