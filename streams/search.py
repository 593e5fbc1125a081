"""From query vectors or windows to candidates: the model is asked once for a whole batch.

Shape letters: ``B`` events, ``R`` those that the model answers, ``D`` embedding dimension.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from encoders.protocols import FloatArray, IntArray
from encoders.vocabulary import PADDING_ITEM
from index.flat import FlatIndex
from index.protocol import excluding
from streams.asking import Asked
from streams.exclusion import ByFingerprint, Exclusion
from streams.lists import Lists
from streams.serving import EncoderModel, ServingModel
from streams.strategy import Passed, choose

Stage = Callable[[str], AbstractContextManager[object]]
Search = Callable[[Any, int], tuple[IntArray, FloatArray]]
"""From what is looked for, a row each, to the best items and their scores; number 0 where there are no more."""


def find(
    model: EncoderModel,
    rows_R: IntArray,
    queries_RD: FloatArray,
    passed: Passed,
    stored_seen: Sequence[bytes],
    lists: Lists,
    unavailable: frozenset[int],
    stage: Stage,
) -> None:
    """Put the model's nearest items into lists, in place, those left out that a user has come by.

    An index that can leave out what each user has come by is asked for just that; any other as `_fill_from` says.

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
    if model.exclusion and (excludes := excluding(index)):
        with stage("retrieve"):
            excluded = model.exclusion.of(passed, stored_seen, rows_R)
            numbers_RN, scores_RN = excludes.search_without(queries_RD, lists.items_BN.shape[1], excluded)
        with stage("strategy"):
            lists.items_BN[rows_R], lists.scores_BN[rows_R] = numbers_RN, scores_RN
            lists.lengths_B[rows_R] = np.count_nonzero(numbers_RN, axis=1)
        return
    _fill_from(index.search, queries_RD, model, rows_R, passed, lists, stage)


def ask(asked: Asked, passed: Passed, lists: Lists, unavailable: frozenset[int], stage: Stage) -> None:
    """Put a retriever's best items into lists, in place, those left out that a user has come by.

    Args:
        asked: What answers, and to what.
        passed: What each user has come by.
        lists: To be filled.
        unavailable: 64-bit hashes of items that may not be listed.
        stage: Times `retrieve` and `strategy`.
    """
    search = partial(asked.model.search_without, unavailable)
    _fill_from(search, asked.windows_RL, asked.model, asked.row_R, passed, lists, stage)


def _fill_from(
    search: Search,
    wanted_R: npt.NDArray[Any],
    model: ServingModel,
    rows_R: IntArray,
    passed: Passed,
    lists: Lists,
    stage: Stage,
) -> None:
    """Fill lists from a search that does not know what users have come by.

    It is asked for somewhat more than a list takes. Rows that are left short are searched again, wider, until they are
    full or there are no more items.
    """
    n_items, top_n = model.bundle.vocabulary.n_items, lists.items_BN.shape[1]
    first_k = k = min(model.width.candidates(top_n), n_items)
    while len(rows_R):
        with stage("retrieve"):
            numbers_RK, scores_RK = map(np.ascontiguousarray, search(wanted_R, k))
        with stage("strategy"):
            choose(rows_R, numbers_RK, scores_RK, model.fingerprints, passed, lists)
        if k == n_items:
            break
        is_short = (lists.lengths_B[rows_R] < top_n) & (numbers_RK[:, -1] != PADDING_ITEM)
        if k == first_k:  # a wider one does not say whether the first was wide enough
            model.width.learn(len(rows_R), int(is_short.sum()))
        rows_R, wanted_R, k = rows_R[is_short], wanted_R[is_short], min(3 * k, n_items)


def compile_search() -> None:
    """Compile what a search runs on, see `streams.pipeline.compile_loops`."""
    one, fingerprint = np.zeros(1, dtype=np.int64), np.ones(1, dtype=np.uint32)
    passed, lists = Passed(fingerprint, one, one, fingerprint, one, one), Lists.empty(1, 1)
    by_fingerprint = ByFingerprint.of(np.arange(2, dtype=np.uint32))
    if by_fingerprint:
        vectors = np.ones((2, 1), dtype=np.float32)
        FlatIndex.build(vectors).search_without(vectors[:1], 1, Exclusion(by_fingerprint).of(passed, [], one))
    choose(one, one[:, None], np.zeros((1, 1), dtype=np.float32), fingerprint, passed, lists)
