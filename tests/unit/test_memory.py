"""What a training run holds beside its log, counted in bytes an event: numpy tells `tracemalloc` of every array.

`make memory` measures a whole run; these name the step that has begun to hold more.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import numpy as np
import pytest

from encoders.popularity import PopularityRetriever
from encoders.window import WindowRule
from tests.logs import CLICK
from trainer.dataset import training_rows
from trainer.evaluate import answer, ask
from trainer.interactions import Interactions
from trainer.measure import popularity
from trainer.split import split_by_time

N_EVENTS, N_ITEMS = 100_000, 500
RULE = WindowRule()
SLACK = 500_000
"""Bytes for what does not grow with the log."""


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Ten events a user."""
    random = np.random.default_rng(0)
    users, items = random.integers(0, N_EVENTS // 10, N_EVENTS), random.integers(0, N_ITEMS, N_EVENTS)
    times_ms, types = 1000 * np.arange(N_EVENTS), np.full(N_EVENTS, CLICK, dtype=np.uint8)
    ids = [""] * (N_EVENTS // 10), [""] * N_ITEMS
    return Interactions(*ids, users, items, times_ms, types, np.zeros(N_EVENTS, dtype=np.int32), np.arange(N_EVENTS))


@pytest.fixture(autouse=True)
def traced() -> Iterator[None]:
    tracemalloc.start()
    yield
    tracemalloc.stop()


def bytes_held_by(step: Callable[[], Any]) -> tuple[Any, int]:
    """What a step gives, and the most that was held at a time while it ran, beside what was there before."""
    step()  # so that what it calls is compiled
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    result = step()
    return result, tracemalloc.get_traced_memory()[1] - before


def test_a_log_is_split_without_a_sort_of_it(log: Interactions) -> None:
    _, held = bytes_held_by(lambda: split_by_time(log, 0.1, 0.1))
    assert held < 20 * N_EVENTS + SLACK


def test_rows_are_made_without_a_copy_of_the_log(log: Interactions) -> None:
    split, numbers = split_by_time(log, 0.1, 0.1), log.item_codes + 1
    rows, held = bytes_held_by(lambda: training_rows(log, RULE, numbers, split.validation, among=~split.test))
    own = rows.inputs.nbytes + rows.targets.nbytes
    assert own > 20 * N_EVENTS
    assert held < own + 13 * N_EVENTS + SLACK


def test_rows_are_looked_through_without_a_copy_of_them(log: Interactions) -> None:
    rows = training_rows(log, RULE, log.item_codes + 1, np.ones(N_EVENTS, dtype=bool))
    for step in (lambda: rows.lengths, lambda: rows.counts(N_ITEMS)):
        _, held = bytes_held_by(step)
        assert held < 4 * len(rows) + SLACK < rows.inputs.nbytes / 2


def test_questions_are_asked_without_a_sort_of_the_log(log: Interactions) -> None:
    numbers, is_target = log.item_codes + 1, log.times_ms >= 900 * N_EVENTS
    _, held = bytes_held_by(lambda: ask(log, RULE, numbers, is_target))
    assert held < 45 * N_EVENTS + SLACK


def test_answers_take_little_more_than_their_lists(log: Interactions) -> None:
    questions = ask(log, RULE, log.item_codes + 1, np.ones(N_EVENTS, dtype=bool))
    model = PopularityRetriever(np.arange(N_ITEMS + 1, dtype=np.float32))
    assert len(questions) > 0.8 * N_EVENTS
    _, held = bytes_held_by(lambda: answer(questions, model, N_ITEMS, k=10))
    assert held < 150 * N_EVENTS + 6 * SLACK


def test_popularity_is_counted_without_a_copy_of_the_log(log: Interactions) -> None:
    before = log.times_ms < 900 * N_EVENTS
    _, held = bytes_held_by(lambda: popularity(log, timedelta(days=7), before))
    assert held < 50 * N_EVENTS + SLACK
