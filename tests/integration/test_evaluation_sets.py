"""The real data sets: what their papers count in them, and what popularity scores.

They lie in `STREAMREC_DATA` (default ../shared/data); one that is not there is left out, and pytest says so.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from encoders.popularity import PopularityRetriever
from tests.rankers import Silent, full_scores
from trainer.errors import DatasetError
from trainer.evaluation import EvaluationSet, evaluate, exams, read_set, set_folder
from trainer.evaluation.metrics import rank_metrics


@cache
def load(name: str) -> EvaluationSet:
    try:
        folder = set_folder(name)
    except DatasetError as error:
        pytest.skip(str(error))
    return read_set(folder)


@pytest.mark.parametrize(
    ("name", "n_users", "n_items", "n_events", "has_arrival"),
    [
        ("sasrec-ml-1m", 6_040, 3_416, 999_611, False),
        ("s3rec-beauty", 22_363, 12_101, 198_502, False),
        ("diginetica-srgnn", 202_633, 43_097, 982_961, True),
        ("diginetica-ader", 204_789, 43_136, 993_483, True),
        ("serenade-sample", 24_385, 18_009, 116_285, True),
        ("ml-1m", 6_040, 3_706, 1_000_209, True),
    ],
)
def test_counts_are_the_published_ones(name: str, n_users: int, n_items: int, n_events: int, has_arrival: bool) -> None:
    events = load(name).events
    assert (len(events.user_ids), len(events.item_ids), len(events)) == (n_users, n_items, n_events)
    assert load(name).has_arrival == has_arrival


def test_diginetica_has_the_published_numbers_of_prefixes() -> None:
    (exam,) = exams(load("diginetica-srgnn"))
    training = exam.training
    assert len(exam.queries()) == 60_858
    assert len(training) - len(np.unique(training.user_codes)) == 719_470


@pytest.mark.parametrize("name", ["sasrec-ml-1m", "s3rec-beauty"])
def test_leave_one_out_asks_every_user_once(name: str) -> None:
    (exam,) = exams(load(name))
    for part in ("validation", "test"):
        assert np.array_equal(np.sort(exam.queries(part).users), np.arange(len(exam.events.user_ids)))


def test_ader_has_sixteen_test_periods_of_known_items() -> None:
    n_queries = []
    for exam in exams(load("diginetica-ader")):
        queries = exam.queries()
        assert (queries.item_counts[queries.target_items] > 0).all()
        n_queries.append(len(queries))
    assert len(n_queries) == 16


def test_popularity_on_movielens_scores_as_published_by_list_and_by_scores() -> None:
    """Published, without anything that the user has seen: recall@10 .037, ndcg@10 .018."""
    (exam,) = exams(load("sasrec-ml-1m"))
    counts = np.bincount(exam.training.item_codes + 1, minlength=len(exam.events.item_ids) + 1).astype(np.float32)
    models = {"list": PopularityRetriever(counts), "scores": full_scores(counts)}
    answers = evaluate(models, replace(exam, excluded="seen").queries(), Silent()).answers
    for name in models:
        figures = rank_metrics(answers[name].ranks, [10])
        assert figures["recall@10"].mean() == pytest.approx(0.037, abs=5e-4)
        assert figures["ndcg@10"].mean() == pytest.approx(0.018, abs=5e-4)
