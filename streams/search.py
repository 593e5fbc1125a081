"""From query vectors to candidates: one search of the index for a whole batch.

Shape letters: ``B`` events, ``R`` those that the model answers, ``D`` embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import numpy as np

from encoders.protocols import FloatArray, IntArray
from index.flat import FlatIndex
from index.protocol import ExcludingSearch
from streams.exclusion import ByFingerprint, Exclusion
from streams.lists import Lists
from streams.serving import ServingModel
from streams.strategy import Passed, choose


def find(
    model: ServingModel,
    rows_R: IntArray,
    queries_RD: FloatArray,
    passed: Passed,
    stored_seen: Sequence[bytes],
    lists: Lists,
    unavailable: frozenset[int],
    stage: Callable[[str], AbstractContextManager[object]],
) -> None:
    """Put the model's nearest items into lists, in place, those left out that a user has come by.

    An index that can leave out what each user has come by is asked for just that. Any other is asked for somewhat
    more than a list takes; rows that are left short are searched again, wider, until they are full or the catalogue
    is at its end.

    Args:
        model: What answers.
        rows_R: Which lists, by event.
        queries_RD: Their query vectors.
        passed: What each user has come by.
        stored_seen: Of each session, what had left its window before the batch.
        lists: To be filled.
        unavailable: 64-bit hashes of items that may not be listed.
        stage: Times `retrieve` and `strategy`.
    """
    index = model.index_without(unavailable)
    if model.exclusion and isinstance(index, ExcludingSearch) and index.excludes:
        with stage("retrieve"):
            excluded = model.exclusion.of(passed, stored_seen, rows_R)
            numbers_RN, scores_RN = index.search_without(queries_RD, lists.items_BN.shape[1], excluded)
        with stage("strategy"):
            lists.items_BN[rows_R], lists.scores_BN[rows_R] = numbers_RN, scores_RN
            lists.lengths_B[rows_R] = np.count_nonzero(numbers_RN, axis=1)
        return
    n_items, top_n = model.bundle.vocabulary.n_items, lists.items_BN.shape[1]
    first_k = k = min(model.width.candidates(top_n), n_items)
    while len(rows_R):
        with stage("retrieve"):
            numbers_RK, scores_RK = map(np.ascontiguousarray, index.search(queries_RD, k))
        with stage("strategy"):
            choose(rows_R, numbers_RK, scores_RK, model.fingerprints, passed, lists)
        if k == n_items:
            break
        is_short = lists.lengths_B[rows_R] < top_n
        if k == first_k:  # a wider one does not say whether the first was wide enough
            model.width.learn(len(rows_R), int(is_short.sum()))
        rows_R, queries_RD, k = rows_R[is_short], queries_RD[is_short], min(3 * k, n_items)


def compile_search() -> None:
    """Compile what a search runs on, see `streams.pipeline.compile_loops`."""
    one, fingerprint = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.uint32)
    passed, lists = Passed(fingerprint, one, one, fingerprint, one, one), Lists.empty(1, 1)
    by_fingerprint = ByFingerprint.of(np.arange(2, dtype=np.uint32))
    if by_fingerprint:
        vectors = np.ones((2, 1), dtype=np.float32)
        FlatIndex.build(vectors).search_without(vectors[:1], 1, Exclusion(by_fingerprint).of(passed, [], one))
    choose(one, one[:, None], np.zeros((1, 1), dtype=np.float32), fingerprint, passed, lists)
