"""Exact ranks are those of sorting everything."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.popularity import PopularityRetriever
from encoders.protocols import FloatArray
from tests.logs import make_log
from tests.rankers import full_scores
from trainer.evaluation.metrics import NOT_FOUND
from trainer.evaluation.queries import Crop, Excluded, Queries
from trainer.evaluation.run import rank_all, rank_listed

N_ITEMS = 12
EVENTS = st.lists(st.tuples(st.integers(0, 3), st.integers(0, N_ITEMS - 1)), min_size=2, max_size=40)
SCORES = st.lists(st.integers(-3, 3), min_size=N_ITEMS, max_size=N_ITEMS)
"""Few values, so that many items tie."""
CHOICES = st.sampled_from(["none", "last", "fed", "seen"])
MAX_LEN, K = 3, 4


def sorted_lists(
    events: list[tuple[int, int]], scores: FloatArray, excluded: Excluded, candidates: set[int]
) -> list[tuple[int, list[int]]]:
    """For each event but a user's first its item, and all items that may be listed, best first."""
    histories: dict[int, list[int]] = {}
    expected = []
    for user, code in events:
        had = histories.setdefault(user, [])
        if had:
            barred = {"none": [], "last": had[-1:], "fed": had[-MAX_LEN:], "seen": had}[excluded]
            listed = [i for i in range(1, N_ITEMS + 1) if i not in barred and i in candidates]
            expected.append((code + 1, sorted(listed, key=lambda item: (-scores[item], item))))
        had.append(code + 1)
    return expected


@given(EVENTS, SCORES, CHOICES, st.sets(st.integers(1, N_ITEMS)))
def test_ranks_and_lists_are_those_of_sorting(
    events: list[tuple[int, int]], values: list[int], excluded: Excluded, candidates: set[int]
) -> None:
    scores = np.array([7, *values], dtype=np.float32)
    log = make_log([(user, item, time) for time, (user, item) in enumerate(events)])
    may = np.isin(np.arange(N_ITEMS + 1), list(candidates))
    every, counts = np.ones(len(log), dtype=bool), np.zeros(N_ITEMS + 1, dtype=np.int64)
    queries = Queries.of(log, log.item_codes + 1, every, counts, Crop(MAX_LEN), excluded, may)
    expected = sorted_lists(events, scores, excluded, candidates)

    exact = rank_all(queries, full_scores(scores), K)
    assert exact.ranks.tolist() == [x.index(item) if item in x else NOT_FOUND for item, x in expected]
    found = [[item for item in row if item] for row in exact.lists.tolist()]
    assert [scores[row].tolist() for row in found] == [scores[x[:K]].tolist() for _, x in expected]

    listed = rank_listed(queries, PopularityRetriever(scores), N_ITEMS, K)
    assert listed.ranks.tolist() == [x[:K].index(item) if item in x[:K] else NOT_FOUND for item, x in expected]
    assert [[item for item in row if item] for row in listed.lists.tolist()] == [x[:K] for _, x in expected]
