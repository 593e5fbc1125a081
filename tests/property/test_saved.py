"""What a retriever has learned, saved and restored, is all there is to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.bundle import RETRIEVERS, BundledRetriever
from encoders.markov import MarkovConfig
from encoders.popularity import PopularityConfig
from encoders.session_knn import SessionKNNConfig

N_ITEMS = 12
Events = tuple[np.ndarray, np.ndarray, np.ndarray]
CLICKS = st.integers(1, 70)
CONFIGS = {
    "popularity": st.builds(PopularityConfig, half_life_s=st.sampled_from([None, 1, 50])),
    "markov": st.builds(
        MarkovConfig,
        max_distance=st.integers(1, 4),
        max_rules=st.integers(1, 6),
        half_life_s=st.sampled_from([None, 1, 50]),
        max_clicks=CLICKS,
    ),
    "session-knn": st.builds(
        SessionKNNConfig,
        n_recent=st.integers(1, 9),
        n_neighbours=st.integers(1, 5),
        session_len=st.integers(1, 20),
        max_clicks=CLICKS,
        lists_last_item=st.booleans(),
    ),
}
WINDOWS = np.array([[a, b, c] for a in (0, 3) for b in range(0, N_ITEMS + 1, 2) for c in range(N_ITEMS + 1)])


@st.composite
def logs(draw: st.DrawFn) -> Events:
    """Events of few sessions and items, so that rings overflow, slots are used again and rules are replaced."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    n = draw(st.integers(0, 400))
    times_s = np.cumsum(rng.exponential(draw(st.sampled_from([0.1, 30.0])), n)) + rng.normal(0, 1, n)
    codes = rng.integers(-(2**63), 2**63 - 1, draw(st.integers(1, 60)))
    return codes[rng.integers(0, len(codes), n)], rng.integers(0, N_ITEMS + 1, n), times_s


def assert_same(one: BundledRetriever, other: BundledRetriever) -> None:
    for found, expected in zip(one.retrieve(WINDOWS, N_ITEMS), other.retrieve(WINDOWS, N_ITEMS), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", RETRIEVERS)
@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_restored_retriever_answers_and_learns_as_the_one_that_was_saved(kind: str, data: st.DataObject) -> None:
    saved = RETRIEVERS[kind](data.draw(CONFIGS[kind]))
    saved.learn(*data.draw(logs()))
    config = saved.config.model_dump(mode="json")
    restored = RETRIEVERS[kind].restored(config, saved.arrays(), N_ITEMS)
    assert_same(restored, saved)
    more = data.draw(logs())
    for each in (saved, restored):
        each.learn(*more)
    assert_same(restored, saved)
    for name, array in restored.arrays().items():
        np.testing.assert_array_equal(array, saved.arrays()[name])
