"""The benchmark of catalogue sizes: how it measures an index."""

from __future__ import annotations

import numpy as np

from index.flat import FlatIndex
from streams.cli.bench import catalogue as benchmark


def test_a_search_is_timed_for_each_query() -> None:
    vectors = np.random.default_rng(0).normal(size=(5_001, 16)).astype(np.float32)
    index = FlatIndex.build(vectors)
    assert 0 < benchmark.search_us(index, vectors[1:601], 10) < 10_000
