"""The parts of the limit that need no server, and what the limit is the sum of."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from encoders.bundle.manifest import bundle_path
from streams.cli.bench.catalogues import CATALOGUES, make_bundle
from streams.cli.bench.limit import PARTS, LimitOptions, compute, limit_figures

TINY = replace(CATALOGUES["ml1m"], name="tiny", n_items=60, n_users=5, fit_events=600)


@pytest.mark.parametrize(
    ("kind", "ways"), [("flat", {"search_own", "search_faiss"}), ("ivf_flat", {"search_own"})]
)  # plain FAISS cannot search the lists as they are kept
def test_a_step_and_every_way_to_search_are_measured(kind: str, ways: set[str], tmp_path: Path) -> None:
    bundle = bundle_path(make_bundle(tmp_path, TINY, kind).uri)
    nowhere = ("none:1", "interactions", "recommendations", "redis://none", "")
    parts = compute(LimitOptions(*nowhere, str(bundle), 32, 8, 10, 1.0, 0, n_computed=200))
    assert set(parts) == {"encode"} | ways
    assert all(us > 0 for us in parts.values())


@pytest.mark.parametrize(("own", "faiss"), [(7.0, 9.0), (9.0, 7.0)])
def test_the_limit_takes_the_cheaper_way_to_search_and_records_both(own: float, faiss: float) -> None:
    parts = {"consume": 1.0, "encode": 2.0, "mget": 0.5, "script": 0.25, "produce": 4.0, "send": 10.0}
    figures = limit_figures(parts | {"search_own": own, "search_faiss": faiss})
    assert figures["limit_us_search"] == 7.0
    assert (figures["limit_us_search_own"], figures["limit_us_search_faiss"]) == (own, faiss)
    assert figures["limit_us"] == 14.75 == sum(figures[f"limit_us_{part}"] for part in PARTS)
