"""Answers as figures, and figures as a page."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from encoders.protocols import FloatArray
from trainer.evaluation.confidence import interval, paired_interval
from trainer.evaluation.metrics import NOT_FOUND, rank_metrics
from trainer.evaluation.report import FIGURES, PAGE, markdown, write_report
from trainer.evaluation.run import Answers, Evaluation
from trainer.evaluation.summary import Result, summarise

COUNTS = np.array([0, 4, 2, 1, 1])
"""Four items: of 8 interactions they have 1, 2, 3 and 3 bits."""


def answers(ranks: list[int], lists: list[list[int]], seconds: float = 0.0) -> Answers:
    return Answers(np.array(ranks), np.array(lists), seconds, learning_seconds=seconds / 2)


def evaluation(best: int = 0) -> Evaluation:
    models = {
        "popular": answers([1, NOT_FOUND, 0, 3], [[1, 2]] * 4),
        "trained": answers([best, 1, 0, NOT_FOUND], [[1, 2], [3, 4], [1, 3], [4, 0]], seconds=8e-6),
    }
    return Evaluation(np.array([0, 0, 1, 2]), COUNTS, models)


def result(item_vectors: FloatArray | None = None) -> Result:
    return summarise([evaluation()], ks=(1, 2), item_vectors=item_vectors, n_resamples=200, dataset="tiny")


def test_figures_are_means_over_queries_with_the_bootstraps_interval() -> None:
    figures = result()["models"]["trained"]["figures"]
    values = rank_metrics(np.array([0, 1, 0, NOT_FOUND]), [2])["mrr@2"]
    expected = interval(values, np.array([0, 0, 1, 2]), n_resamples=200)
    assert figures["recall@2"]["mean"] == 0.75
    assert figures["mrr@2"] == pytest.approx(expected._asdict())


def test_every_figure_is_there_at_every_length() -> None:
    names = ("hit_rate", "recall", "precision", "f1", "ndcg", "mrr")
    assert set(result()["models"]["popular"]["figures"]) == {f"{name}@{k}" for name in names for k in (1, 2)}


def test_differences_are_those_of_the_later_model_over_the_earlier_on_the_same_queries() -> None:
    (pair,) = result()["differences"]
    ours, theirs = (rank_metrics(a.ranks, [2])["mrr@2"] for a in reversed(evaluation().answers.values()))
    expected = paired_interval(ours, theirs, np.array([0, 0, 1, 2]), n_resamples=200)
    assert (pair["model"], pair["baseline"]) == ("trained", "popular")
    assert pair["figures"]["mrr@2"] == pytest.approx(expected._asdict())


def test_each_period_counts_the_same() -> None:
    short = Evaluation(np.array([7]), COUNTS, {n: answers([0], [[1, 2]]) for n in ("popular", "trained")})
    both = summarise([evaluation(), short], ks=(1, 2), n_resamples=50)
    assert both["models"]["popular"]["figures"]["recall@2"]["mean"] == (2 / 4 + 1) / 2
    assert (both["n_periods"], both["n_queries"], both["n_users"]) == (2, 5, 4)


def test_lists_are_judged_beside_accuracy() -> None:
    one_each = np.eye(5, dtype=np.float32)
    beyond = result(one_each)["models"]["trained"]["beyond"]
    # Lists of items 1 and 2, 3 and 4, 1 and 3, and of 4 alone, which has no diversity.
    assert beyond == pytest.approx(
        {
            "coverage@2": 1.0,
            "novelty@2": (1.5 + 3 + 2 + 3) / 4,
            "popularity@2": (3 + 1 + 2.5 + 1) / 4,
            "gini@2": (2 * (1 * 1 + 2 * 2 + 3 * 2 + 4 * 2) / 7 - 5) / 4,
            "diversity@2": 1.0,
        }
    )


def test_without_vectors_there_is_no_diversity() -> None:
    assert "diversity@2" not in result()["models"]["trained"]["beyond"]


def test_the_cost_is_that_of_a_query() -> None:
    model = result()["models"]["trained"]
    assert (model["us_per_query"], model["learning_us_per_query"]) == pytest.approx((2, 1))


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(ValueError, match="no evaluation"):
        summarise([])


def test_figures_beyond_the_lists_are_refused() -> None:
    """A retriever's rank ends with its list: a figure further down would be too low."""
    with pytest.raises(ValueError, match="lists of 2 items have no figures at 5"):
        summarise([evaluation()], ks=(2, 5))


def test_the_page_says_what_was_asked_and_shows_figures_with_intervals() -> None:
    text = markdown(result())
    assert text.startswith("# tiny\n\n4 queries of 3 users, all of 4 items ranked.")
    figure = result()["models"]["trained"]["figures"]["recall@2"]
    assert f".7500 [{figure['low']:.4f}, ".replace("0.", ".") in text
    assert "| model | coverage | novelty, bits | interactions of a listed item | Gini index of exposure |" in text


def test_a_sure_difference_is_bold_and_an_unsure_one_is_not() -> None:
    unsure, sure = {"mean": 0.01, "low": -0.002, "high": 0.02}, {"mean": -0.01, "low": -0.02, "high": -0.002}
    drawn = result()
    drawn["differences"][0]["figures"] |= {"recall@2": unsure, "mrr@2": sure}
    text = markdown(drawn)
    assert "| +.0100 [-.0020, +.0200] |" in text
    assert "| **-.0100** [-.0200, -.0020] |" in text


def test_a_report_is_a_page_with_its_plots_and_the_figures(tmp_path: Path) -> None:
    page = write_report(result(), tmp_path / "report")
    assert page == tmp_path / "report" / PAGE
    assert json.loads((page.parent / FIGURES).read_text()) == result()
    for plot in ("accuracy.png", "differences.png"):
        assert f"({plot})" in page.read_text()
        assert (page.parent / plot).read_bytes().startswith(b"\x89PNG")


def test_a_page_is_drawn_from_figures_that_were_read_back() -> None:
    assert markdown(json.loads(json.dumps(result()))) == markdown(result())


def test_one_model_alone_has_no_differences(tmp_path: Path) -> None:
    alone = Evaluation(np.array([0]), COUNTS, {"popular": answers([0], [[1, 2]])})
    page = write_report(summarise([alone], ks=(1,), n_resamples=10), tmp_path)
    assert "Differences" not in page.read_text()
    assert not (tmp_path / "differences.png").exists()


def test_what_a_fit_cost_is_shown_of_those_that_have_one() -> None:
    told = result()
    told["models"]["trained"]["fit"] = {"wall_s": 61.2, "cpu_s": 0.25, "targets_per_s": 1234.5, "weights": [[1, 2]]}
    told["models"]["popular"]["fit"] = {"wall_s": 0.1, "cpu_s": 0.1, "targets_per_s": 2.0}
    cost = markdown(told).split("## Cost")[1]
    assert "| fit, s | fit, CPU s | targets a second |" in cost
    assert "| 61 | 0.25 | 1,234 |" in cost
    assert "µs a step" not in cost
