"""What two curves come to: targets a second, and time to the same validation ndcg.

Shape letters: ``Q`` queries, ``B`` of them at once, ``N`` items, ``D`` embedding dimension.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from encoders.protocols import IntArray
from encoders.vocabulary import PADDING_ITEM
from trainer.evaluation import Queries
from trainer.evaluation.metrics import rank_metrics
from trainer.evaluation.run import QUERIES_AT_ONCE, exact_ranks
from trainer.recbole.contestant import Turn
from trainer.recbole.turns import Vectors

FIGURE, K = "ndcg@10", 10
LEVELS = (0.9, 0.95, 1.0)
"""Shares of the peer's best figure that the time to is compared at: a best that is late by chance must not decide."""


def figure(queries: Queries, vectors: Vectors) -> float:
    """Mean ndcg@10 over all items but those that may not be listed, the same for both sides.

    Raises:
        ValueError: If a score is no number.
    """
    parts = np.array_split(np.arange(len(queries)), -(-len(queries) // QUERIES_AT_ONCE))
    ranks = np.concatenate([_ranks(queries, some, vectors) for some in parts])
    return float(rank_metrics(ranks, [K])[FIGURE].mean())


def _ranks(queries: Queries, some: IntArray, vectors: Vectors) -> IntArray:
    queries_QD, items_ND = vectors
    scores_BN = queries_QD[some] @ items_ND.T
    if not np.isfinite(scores_BN).all():
        raise ValueError("there are scores that are no numbers")
    scores_BN[:, PADDING_ITEM] = -np.inf
    scores_BN[queries.excluded_items(some, queries.windows(some))] = -np.inf
    return exact_ranks(scores_BN, queries.target_items[some])


class Spent(NamedTuple):
    """What it took to get somewhere."""

    n_targets: int
    seconds: float
    cpu_seconds: float


def spent_until(turns: Sequence[Turn], figures: Sequence[float], level: float) -> Spent | None:
    """What it took until the figure first was at the level; None if it never was.

    Example:
        >>> turns = [Turn(10, 1.0, seconds=2, cpu_seconds=1)] * 3
        >>> spent_until(turns, [0.1, 0.3, 0.2], level=0.2)
        Spent(n_targets=20, seconds=4, cpu_seconds=2)
    """
    for n, reached in enumerate(figures, start=1):
        if reached >= level:
            n_targets, _, seconds, cpu_seconds = (sum(column) for column in zip(*turns[:n], strict=True))
            return Spent(int(n_targets), seconds, cpu_seconds)
    return None


def speed(turns: Sequence[Turn]) -> dict[str, float]:
    """Targets a second: the median turn, the first left out where there are more, as it compiles and allocates.

    Example:
        >>> turns = [Turn(10, 1.0, seconds=s, cpu_seconds=1) for s in (9, 4, 5, 2)]
        >>> speed(turns)
        {'targets_per_s': 2.5, 'targets_per_cpu_s': 10.0}
    """
    steady = turns[1:] or turns
    return {
        "targets_per_s": median(one.n_targets / one.seconds for one in steady),
        "targets_per_cpu_s": median(one.n_targets / one.cpu_seconds for one in steady),
    }


class Curve(NamedTuple):
    """How one side went."""

    turns: list[Turn]
    figures: list[float]
    """Of the model after each turn."""

    def to_json(self) -> dict[str, Any]:
        """Turns and what they come to."""
        curve = [{**one._asdict(), FIGURE: reached} for one, reached in zip(self.turns, self.figures, strict=True)]
        return {**speed(self.turns), f"best_{FIGURE}": max(self.figures), "turns": curve}


def compare(ours: Curve, theirs: Curve) -> dict[str, Any]:
    """Ratios in our favour, above 1 where streamrec is faster.

    Returns:
        `targets_per_s_ratio` and `targets_per_cpu_s_ratio`; `levels`, for each of `LEVELS` the figure and what both
        took; `seconds_ratio` and `cpu_seconds_ratio`, the least over the levels, None where we missed one.
    """
    our_speed, their_speed = speed(ours.turns), speed(theirs.turns)
    levels = [_at(share * max(theirs.figures), share, ours, theirs) for share in LEVELS]
    return {
        **{f"{name}_ratio": our_speed[name] / their_speed[name] for name in our_speed},
        **{name: least([level[name] for level in levels]) for name in ("seconds_ratio", "cpu_seconds_ratio")},
        "levels": levels,
    }


def _at(level: float, share: float, ours: Curve, theirs: Curve) -> dict[str, Any]:
    mine, peers = (spent_until(*curve, level) for curve in (ours, theirs))
    assert peers is not None, "no level is above the peer's best"
    return {
        "share_of_best": share,
        FIGURE: level,
        "ours": mine and mine._asdict(),
        "theirs": peers._asdict(),
        "seconds_ratio": peers.seconds / mine.seconds if mine else None,
        "cpu_seconds_ratio": peers.cpu_seconds / mine.cpu_seconds if mine else None,
    }


def least(ratios: Sequence[float | None]) -> float | None:
    """The least of them; None if one is missing.

    Example:
        >>> least([3.0, 2.5]), least([3.0, None])
        (2.5, None)
    """
    known = [ratio for ratio in ratios if ratio is not None]
    return min(known) if len(known) == len(ratios) else None
