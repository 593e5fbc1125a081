"""Whether a new model takes over: the two rules at their boundaries, and what is said."""

from __future__ import annotations

import numpy as np
import pytest
from pydantic import ValidationError

from trainer.evaluation.confidence import paired_interval
from trainer.gate import (
    Comparison,
    Verdict,
    below_popularity,
    compare,
    comparison_line,
    decide,
    final,
    without_comparison,
)
from trainer.settings import GateSettings

UNLESS_WORSE = GateSettings(tolerance=0.05)
IF_NOT_WORSE = GateSettings(tolerance=0.05, rule="if_not_worse")


def compared(low: float, high: float) -> Comparison:
    """With a serving model of 0.2, of which 5 % are 0.01."""
    middle = (low + high) / 2
    return Comparison(
        metric="ndcg@10",
        candidate=0.2 + middle,
        serving=0.2,
        difference=middle,
        low=low,
        high=high,
        confidence=0.95,
        n_queries=1_234,
        n_users=56,
    )


@pytest.mark.parametrize(
    ("low", "high", "unless_worse", "if_not_worse"),
    [
        (0.01, 0.02, "promoted", "promoted"),  # better
        (-0.01, 0.02, "promoted", "promoted"),  # at worst it loses exactly what may be lost
        (-0.0101, 0.02, "promoted", "rejected"),  # too little to tell
        (-0.03, -0.01, "promoted", "rejected"),  # at best it loses exactly what may be lost
        (-0.03, -0.0101, "rejected", "rejected"),  # worse
    ],
)
def test_the_rules_differ_where_the_interval_does_not_tell(
    low: float, high: float, unless_worse: str, if_not_worse: str
) -> None:
    assert decide(compared(low, high), "v1", UNLESS_WORSE).outcome == unless_worse
    assert decide(compared(low, high), "v1", IF_NOT_WORSE).outcome == if_not_worse


def test_the_verdict_says_what_was_compared_and_how_it_came_out() -> None:
    verdict = decide(compared(-0.03, -0.02), "v1", UNLESS_WORSE)
    assert (verdict.serving, verdict.comparison) == ("v1", compared(-0.03, -0.02))
    assert verdict.reason == "it is worse by more than 5 %"
    assert comparison_line(compared(-0.03, -0.02), "v1") == (
        "ndcg@10 0.1750 against 0.2000 of v1, difference -0.0250 (95 % interval -0.0300 to -0.0200), on 1,234 next "
        "events of 56 users that neither had learned"
    )


def test_without_a_tolerance_no_loss_is_named() -> None:
    assert decide(compared(-0.03, -0.02), "v1", GateSettings(tolerance=0)).reason == "it is worse"


def test_a_comparison_is_of_means_over_queries_with_the_paired_interval_over_users() -> None:
    rng = np.random.default_rng(0)
    users, serving = rng.integers(0, 30, 400), rng.random(400)
    candidate = serving - rng.random(400) / 10
    found = compare(candidate, serving, users, GateSettings(metric="recall@10", confidence=0.9))
    expected = paired_interval(candidate, serving, users, level=0.9)
    assert (found.difference, found.low, found.high) == tuple(expected)
    assert found.candidate - found.serving == pytest.approx(found.difference)
    assert (found.metric, found.confidence, found.n_queries, found.n_users) == ("recall@10", 0.9, 400, 30)


def test_a_loss_in_every_query_is_certain() -> None:
    users = np.arange(50)
    found = compare(np.full(50, 0.1), np.full(50, 0.2), users, GateSettings())
    assert (found.low, found.high) == (pytest.approx(-0.1), pytest.approx(-0.1))
    assert decide(found, "v1", GateSettings()).outcome == "rejected"


def test_a_loss_of_one_user_among_many_is_not() -> None:
    candidate = np.full(50, 0.2)
    candidate[0] = 0
    found = compare(candidate, np.full(50, 0.2), np.arange(50), GateSettings())
    assert found.difference == pytest.approx(-0.004)
    assert decide(found, "v1", GateSettings(tolerance=0)).outcome == "promoted"
    assert decide(found, "v1", GateSettings(tolerance=0, rule="if_not_worse")).outcome == "rejected"


@pytest.mark.parametrize(
    ("serving", "settings", "outcome"),
    [
        (None, GateSettings(if_not_comparable="reject"), "promoted"),
        ("v1", GateSettings(), "promoted"),
        ("v1", GateSettings(if_not_comparable="reject"), "rejected"),
        ("v1", GateSettings(if_not_comparable="reject", enabled=False), "promoted"),
    ],
)
def test_what_cannot_be_compared_follows_the_setting_unless_nothing_serves_or_the_gate_is_off(
    serving: str | None, settings: GateSettings, outcome: str
) -> None:
    verdict = without_comparison("so it is", serving, settings)
    assert verdict == Verdict(outcome=outcome, reason="so it is", serving=serving)


BELOW, ABOVE = ({"ndcg@10": figure, "popularity_ndcg@10": 0.2} for figure in (0.1, 0.3))


@pytest.mark.parametrize(
    ("figures", "serving_figures", "settings", "outcome"),
    [
        (BELOW, ABOVE, GateSettings(), "rejected"),
        (ABOVE, ABOVE, GateSettings(), "promoted"),
        (BELOW, BELOW, GateSettings(), "promoted"),
        (BELOW, {}, GateSettings(), "promoted"),
        ({}, ABOVE, GateSettings(), "promoted"),
        (BELOW, ABOVE, GateSettings(enabled=False), "promoted"),
    ],
)
def test_one_below_popularity_does_not_replace_uncompared_one_that_was_not(
    figures: dict[str, float], serving_figures: dict[str, float], settings: GateSettings, outcome: str
) -> None:
    verdict = final(without_comparison("so it is", "v1", settings), figures, serving_figures, settings, force=False)
    assert verdict.outcome == outcome
    assert ("below popularity, which v1 was not" in verdict.reason) == (outcome == "rejected")
    assert bool(verdict.warnings) == (figures is BELOW)


def test_a_comparison_decides_whatever_popularity_is() -> None:
    promoted = decide(compared(0.03, 0.03), "v1", UNLESS_WORSE)
    assert final(promoted, BELOW, ABOVE, UNLESS_WORSE, force=False).outcome == "promoted"


def test_the_first_model_is_promoted_even_below_popularity() -> None:
    first = without_comparison("no model serves yet", None, UNLESS_WORSE)
    assert final(first, BELOW, {}, UNLESS_WORSE, force=False).outcome == "promoted"


def test_an_order_overrides_a_rejection_and_leaves_a_promotion_as_it_is() -> None:
    rejected, promoted = (decide(compared(low, low), "v1", UNLESS_WORSE) for low in (-0.03, 0.03))
    assert final(rejected, {}, {}, UNLESS_WORSE, force=True).outcome == "forced"
    assert final(rejected, {}, {}, UNLESS_WORSE, force=False).outcome == "rejected"
    assert final(promoted, {}, {}, UNLESS_WORSE, force=True).outcome == "promoted"
    uncompared = without_comparison("so it is", "v1", UNLESS_WORSE)
    assert final(uncompared, BELOW, ABOVE, UNLESS_WORSE, force=True).outcome == "forced"


def test_a_model_below_popularity_is_warned_of() -> None:
    (warning,) = below_popularity({"ndcg@10": 0.1, "popularity_ndcg@10": 0.2}, "ndcg@10")
    assert "below popularity: ndcg@10 0.1000 against 0.2000" in warning


@pytest.mark.parametrize("figures", [{}, {"ndcg@10": 0.2, "popularity_ndcg@10": 0.2}])
def test_one_that_is_not_or_was_not_measured_is_not(figures: dict[str, float]) -> None:
    assert below_popularity(figures, "ndcg@10") == ()


@pytest.mark.parametrize("given", [{"metric": "auc"}, {"tolerance": 1}, {"confidence": 1}, {"min_users": 1}])
def test_settings_that_make_no_sense_are_refused(given: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        GateSettings.model_validate(given)
