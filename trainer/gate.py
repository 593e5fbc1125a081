"""The gate: whether a new model takes the place of the one that serves. Decides from figures, and does no I/O.

Both models are asked the same next events (`trainer.trial`). What counts is the difference of their figures and its
bootstrap interval over users, since a difference within the noise says nothing. Two rules are known from A/B tests:

* `unless_worse`, a guardrail: the new model is rejected where it is shown to be worse, the whole interval being below
  what may be lost. Where there is little to compare on, the interval is wide, and the new model is promoted.
* `if_not_worse`, a test of non-inferiority: it is promoted only where it is shown not to be worse, the whole interval
  being above what may be lost. Where there is little to compare on, it is rejected.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict

from encoders.protocols import IntArray
from trainer.evaluation.confidence import paired_interval
from trainer.evaluation.metrics import Values
from trainer.settings import GateSettings

Outcome = Literal["promoted", "rejected", "forced"]
"""`forced`: announced by order, although the gate rejected it."""


class Comparison(BaseModel):
    """Two models on the same queries."""

    model_config = ConfigDict(frozen=True)

    metric: str
    candidate: float
    """Mean over the queries."""
    serving: float
    difference: float
    """Of the candidate's mean from the serving model's."""
    low: float
    """Of the interval around the difference."""
    high: float
    confidence: float
    n_queries: int
    n_users: int


class Verdict(BaseModel):
    """What the gate says of a new model, and why."""

    model_config = ConfigDict(frozen=True)

    outcome: Outcome
    reason: str
    """In plain words."""
    serving: str | None = None
    """Version of the model that served when the run began."""
    comparison: Comparison | None = None
    warnings: tuple[str, ...] = ()
    """What an operator should know of a model, whether it is promoted or not."""


def compare(candidate: Values, serving: Values, users: IntArray, settings: GateSettings) -> Comparison:
    """The two models' figures, and how sure their difference is.

    Args:
        candidate: The metric's value of each query.
        serving: The same of the serving model.
        users: Whom each query is about.
        settings: Which metric it is, and how sure to be.

    Shape:
        - candidate, serving, users: ``(Q,)``

    Raises:
        ValueError: If there are no queries.
    """
    difference = paired_interval(candidate, serving, users, level=settings.confidence)
    return Comparison(
        metric=settings.metric,
        candidate=float(candidate.mean()),
        serving=float(serving.mean()),
        difference=difference.mean,
        low=difference.low,
        high=difference.high,
        confidence=settings.confidence,
        n_queries=len(candidate),
        n_users=len(np.unique(users)),
    )


def decide(comparison: Comparison, serving: str, settings: GateSettings) -> Verdict:
    """Promote or reject a model that was compared.

    Args:
        comparison: With the serving model.
        serving: The serving model's version.
        settings: The rule, and what may be lost.

    Example:
        >>> figures = {"candidate": 0.17, "serving": 0.20, "difference": -0.03, "low": -0.04, "high": -0.02}
        >>> on = {"metric": "ndcg@10", "confidence": 0.95, "n_queries": 900, "n_users": 80}
        >>> decide(Comparison(**figures, **on), "v1", GateSettings()).outcome
        'rejected'
    """
    at_most_lost = settings.tolerance * comparison.serving
    guardrail = settings.rule == "unless_worse"
    passes = (comparison.high if guardrail else comparison.low) >= -at_most_lost
    margin = f" by more than {100 * settings.tolerance:g} %" if settings.tolerance else ""
    reason = {
        ("unless_worse", True): f"it is not shown to be worse{margin}",
        ("unless_worse", False): f"it is worse{margin}",
        ("if_not_worse", True): f"it is shown not to be worse{margin}",
        ("if_not_worse", False): f"it is not shown to be no worse{margin}",
    }[settings.rule, passes]
    return Verdict(outcome="promoted" if passes else "rejected", reason=reason, serving=serving, comparison=comparison)


def without_comparison(obstacle: str, serving: str | None, settings: GateSettings) -> Verdict:
    """The verdict on a model that is not compared; where no model serves, or the gate is off, it is promoted.

    Args:
        obstacle: Why it is not.
        serving: The version of the model that serves.
        settings: What to do then.
    """
    stays_out = serving is not None and settings.enabled and settings.if_not_comparable == "reject"
    outcome: Outcome = "rejected" if stays_out else "promoted"
    return Verdict(outcome=outcome, reason=obstacle, serving=serving)


def below_popularity(figures: Mapping[str, float], metric: str) -> tuple[str, ...]:
    """A warning where a model's figure is below that of popularity; empty where it is not, or nothing was measured."""
    own, beside = figures.get(metric), figures.get(f"popularity_{metric}")
    if own is None or beside is None or own >= beside:
        return ()
    return (
        f"it is below popularity: {metric} {own:.4f} against {beside:.4f}; it may need more events, or other settings "
        "of [trainer]",
    )


def final(
    verdict: Verdict,
    figures: Mapping[str, float],
    serving_figures: Mapping[str, float],
    settings: GateSettings,
    force: bool,
) -> Verdict:
    """The verdict in the light of what each model's own run has measured beside popularity, and of what was ordered.

    A model below popularity is warned of. Where nothing could be compared, it does not take the place of one that was
    not below it. A rejected model that is announced all the same is forced.

    Args:
        verdict: From `decide` or `without_comparison`.
        figures: Of the new model, with those of popularity beside them.
        serving_figures: The same, of the run that made the serving model.
        settings: Whether the gate is on, and which metric counts.
        force: Whether the model is announced whatever the gate says.
    """
    warnings, reason, outcome = below_popularity(figures, settings.metric), verdict.reason, verdict.outcome
    serving_was_above = settings.metric in serving_figures and not below_popularity(serving_figures, settings.metric)
    if settings.enabled and not verdict.comparison and outcome == "promoted" and warnings and serving_was_above:
        outcome = "rejected"
        reason += f"; and it is below popularity, which {verdict.serving} was not when it was made"
    if force and outcome == "rejected":
        outcome = "forced"
    return verdict.model_copy(update={"outcome": outcome, "reason": reason, "warnings": warnings})


def comparison_line(comparison: Comparison, serving: str) -> str:
    """A comparison in one line, for people."""
    c = comparison
    return (
        f"{c.metric} {c.candidate:.4f} against {c.serving:.4f} of {serving}, difference {c.difference:+.4f} "
        f"({100 * c.confidence:g} % interval {c.low:+.4f} to {c.high:+.4f}), on {c.n_queries:,} next events of "
        f"{c.n_users:,} users that neither had learned"
    )
