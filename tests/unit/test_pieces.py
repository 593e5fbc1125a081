"""Histories in pieces, by hand."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.logs import make_log
from trainer.pieces import pieces


def test_pieces_are_counted_from_the_newest_event_and_each_target_stands_once() -> None:
    log = make_log([(0, i, i) for i in range(6)])
    rows = pieces(log, 3, log.item_codes + 1)
    assert rows.inputs.tolist() == [[1, 2, 0], [3, 4, 5]]
    assert rows.targets.tolist() == [[2, 3, 0], [4, 5, 6]]


def test_pieces_of_exactly_the_length_are_one_row_and_users_are_apart() -> None:
    log = make_log([(0, 0, 1), (1, 4, 2), (0, 1, 3), (2, 5, 4), (0, 2, 5), (1, 3, 6)])
    rows = pieces(log, 2, log.item_codes + 1)
    assert rows.inputs.tolist() == [[1, 2], [5, 0]]
    assert rows.targets.tolist() == [[2, 3], [4, 0]]


def test_pieces_of_nothing_are_no_rows() -> None:
    for log in (make_log([]), make_log([(0, 0, 1), (1, 1, 2)])):
        rows = pieces(log, 4, log.item_codes + 1)
        assert (rows.inputs.shape, rows.n_targets) == ((0, 4), 0)
        assert len(rows.anew(np.random.default_rng(0))) == 0


def test_a_history_that_does_not_fill_its_pieces_is_cut_elsewhere_in_each_pass() -> None:
    """Five targets in two pieces of four leave three places free, so that the newest piece has one to four."""
    log = make_log([(0, i, i) for i in range(6)])
    rows = pieces(log, 4, log.item_codes + 1)
    newest = {tuple(rows.anew(np.random.default_rng(seed)).targets[1]) for seed in range(60)}
    assert newest == {(6, 0, 0, 0), (5, 6, 0, 0), (4, 5, 6, 0), (3, 4, 5, 6)}


@pytest.mark.parametrize("seed", range(20))
def test_wherever_it_is_cut_each_event_stands_once_as_a_target_after_the_one_before(seed: int) -> None:
    random = np.random.default_rng(seed)
    users = random.integers(0, 9, 120)
    log = make_log([(int(user), moment, moment) for moment, user in enumerate(users)])
    rows = pieces(log, 5, log.item_codes + 1)
    for _ in range(3):
        cut = rows.anew(random)
        assert cut.inputs.shape == rows.inputs.shape
        is_target = cut.targets > 0
        assert np.array_equal(is_target, cut.inputs > 0)
        found = sorted(zip(cut.inputs[is_target].tolist(), cut.targets[is_target].tolist(), strict=True))
        histories = [(np.flatnonzero(users == user) + 1).tolist() for user in range(9)]
        assert found == sorted(pair for history in histories for pair in pairwise(history))
        for inputs, targets, length in zip(cut.inputs, cut.targets, is_target.sum(axis=1), strict=True):
            assert inputs[1:length].tolist() == targets[: length - 1].tolist()
