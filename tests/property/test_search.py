"""A list does not depend on how its items are looked for."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.records import Recommendation
from encoders.vocabulary import item_hash
from encoders.window import WindowRule
from index.flat import FlatIndex
from index.ivf import IVFFlatIndex
from streams.pipeline import Batch, Rules, Serving, Source, process
from tests.inmemory import NOW_MS, click, events, model

N_ITEMS = 120
ITEMS = tuple(str(number) for number in range(1, N_ITEMS + 1))
MODELS = [model("kinds", ITEMS, index_type=kind) for kind in (FlatIndex, IVFFlatIndex)]
"""Both exact; the first leaves out by itself what a user has come by, of the second it is passed over."""
TOLERANCE = 1e-4

clicks = st.lists(st.tuples(st.integers(0, 2), st.integers(0, N_ITEMS)), min_size=1, max_size=60)
"""Of which user and on which item; 0 is a request."""


@given(
    clicks, st.just(set()) | st.sets(st.integers(1, N_ITEMS)), st.integers(1, 40) | st.just(N_ITEMS), st.integers(2, 8)
)
@settings(max_examples=60)
def test_either_way_gives_the_best_that_may_be_listed(
    given_clicks: list[tuple[int, int]], gone: set[int], top_n: int, max_len: int
) -> None:
    """Users may have seen most of the catalogue, and most of it may be unavailable."""
    decoded = events([click(f"u{u}", str(i) if i else None, str(n)) for n, (u, i) in enumerate(given_clicks)])
    unavailable = frozenset(item_hash(str(number)) for number in gone)
    rules = Rules(window=WindowRule(max_len=max_len), top_n=top_n)
    batch = Batch(Source("c", "t", 0), decoded)
    found = []
    for serving in MODELS:
        (outcome,) = process([batch], Serving(serving, unavailable=unavailable), rules, NOW_MS)
        found.append([Recommendation.model_validate_json(made) for made in outcome.lists])
    come_by: dict[int, set[int]] = {user: set() for user in range(3)}
    for (user, item), *made in zip(given_clicks, *found, strict=True):
        come_by[user] |= {item} - {0}
        left = set(range(1, N_ITEMS + 1)) - gone - come_by[user]
        scores = [[entry.score for entry in each.items] for each in made]
        for each in made:
            listed = [int(entry.item_id) for entry in each.items]
            assert len(listed) == len(set(listed)) == (min(top_n, len(left)) if come_by[user] else 0)
            assert left.issuperset(listed)
        np.testing.assert_allclose(*scores, atol=TOLERANCE)
