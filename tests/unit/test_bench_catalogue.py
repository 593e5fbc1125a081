"""The benchmark of catalogue sizes: what it needs, and how it measures an index."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from rich.console import Console

from index.flat import FlatIndex
from streams.cli.bench import catalogue as benchmark
from streams.cli.bench.catalogues import CATALOGUES
from streams.cli.bench.errors import BenchError
from streams.cli.bench.stage import Stage


def test_a_catalogue_without_enough_memory_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=1e9))
    with pytest.raises(BenchError, match=r"1,000,000 items takes about 4\.0 GB of memory and 1\.0 GB are available"):
        benchmark.run(Stage(Console(quiet=True), tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_more_items_need_more_memory() -> None:
    needs = [benchmark.memory_gb(catalogue) for catalogue in CATALOGUES.values()]
    assert needs == sorted(needs)


def test_a_search_is_timed_for_each_query() -> None:
    vectors = np.random.default_rng(0).normal(size=(5_001, 16)).astype(np.float32)
    index = FlatIndex.build(vectors)
    assert 0 < benchmark.search_us(index, vectors[1:601], 10) < 10_000
