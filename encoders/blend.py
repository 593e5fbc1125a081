"""Several retrievers as one, with weights that are learned on validation.

Shape letters: ``M`` members, ``B`` windows, ``T`` window length, ``D`` length of a member's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from encoders.fusion import Fusion, Lists, fuse, points, target_ranks
from encoders.live_encoder import LiveEncoder
from encoders.protocols import DoubleArray, FloatArray, IntArray, LiveRetriever, Retriever
from encoders.retrieval import EncoderRetriever

Metric = Literal["mrr", "recall"]
_SHARES = np.linspace(0.0, 1.0, 21)
"""What is tried as a member's share of all weights."""
_MOST_ROUNDS = 10


def lists_of(answers: Sequence[tuple[IntArray, FloatArray]], logits: Sequence[bool]) -> Lists:
    """What members answered, one after the other, as one."""
    return Lists(np.stack([items for items, _ in answers]), np.stack([scores for _, scores in answers]), logits)


def logits_of(members: Sequence[Retriever]) -> tuple[bool, ...]:
    """Whose scores are logits, those of encoders; all others' count something."""
    return tuple(isinstance(member, EncoderRetriever | LiveEncoder) for member in members)


class Blend:
    """A `Retriever` of several, whose lists are fused.

    Args:
        members: Whom to ask.
        weights: How much each one's list counts; all the same if not given. See `learned_weights`.
        fusion: How an item's score comes about.
        depth: How many items each member is asked for, or ``k``, if that is more. Answers of different ``k`` agree as
            long as neither is more than this.
        logits: Whose scores are logits; as `logits_of` has it, if not given.

    Raises:
        ValueError: If there are no members, or not one weight for each, or weights are negative, not finite or all 0.
    """

    def __init__(
        self,
        members: Sequence[Retriever],
        weights: Sequence[float] | DoubleArray | None = None,
        fusion: Fusion = "reciprocal_rank",
        depth: int = 100,
        logits: Sequence[bool] | None = None,
    ) -> None:
        self.members = tuple(members)
        self.logits = logits_of(members) if logits is None else tuple(logits)
        self.weights = np.ones(len(self.members)) if weights is None else np.asarray(weights, dtype=np.float64)
        well = np.isfinite(self.weights) & (self.weights >= 0)
        if self.weights.shape != (len(self.members),) or not well.all() or not self.weights.any():
            raise ValueError(f"{len(self.members)} members cannot have the weights {self.weights.tolist()}")
        self.fusion: Fusion = fusion
        self.depth = depth

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` of the members' items for each window, best first; see `Retriever.retrieve`."""
        depth = max(k, self.depth)
        return self.fused([member.retrieve(windows, depth) for member in self.members], k)

    def fused(self, answers: Sequence[tuple[IntArray, FloatArray]], k: int) -> tuple[IntArray, FloatArray]:
        """The best ``k`` of what the members answered, for whoever strikes items out of their lists first.

        Struck out afterwards, they would still have decided what other items of a list are worth.
        """
        return fuse(lists_of(answers, self.logits), self.weights, k, self.fusion)


class LiveBlend(Blend):
    """A `Blend` in which some members learn; a `LiveRetriever`."""

    def learn(self, sessions: IntArray, items: IntArray, times_s: DoubleArray) -> None:
        """Let the members learn that do; see `LiveRetriever.learn`."""
        for member in self.members:
            if isinstance(member, LiveRetriever):
                member.learn(sessions, items, times_s)


def blend(
    members: Sequence[Retriever],
    weights: Sequence[float] | DoubleArray | None = None,
    fusion: Fusion = "reciprocal_rank",
    depth: int = 100,
) -> Blend:
    """A `LiveBlend` if any member is a `LiveRetriever`, else a `Blend`; the arguments are those of `Blend`."""
    kind = LiveBlend if any(isinstance(member, LiveRetriever) for member in members) else Blend
    return kind(members, weights, fusion, depth)


def learned_weights(
    lists: Lists, targets: IntArray, k: int, metric: Metric = "mrr", fusion: Fusion = "reciprocal_rank"
) -> DoubleArray:
    """Weights under which the fused lists find the targets best, by coordinate ascent from equal ones.

    One member after the other gets the share of all weights, in steps of a twentieth, that makes the metric highest,
    the others keeping their proportions, until none can gain. For two members that is a search of the whole grid.

    Args:
        lists: What the members answered on validation, with what may not be listed struck out.
        targets: The item that was to be found, for each window.
        k: Where the fused list is cut off.
        metric: Mean reciprocal rank, or the share of targets that are found.
        fusion: How an item's score comes about.

    Returns:
        Weights that sum to 1. Equal ones where nothing is better.

    Shape:
        - targets: ``(B,)``
        - Output: ``(M,)``
    """
    points_MBD = points(lists, fusion)

    def value(weights_M: DoubleArray) -> float:
        ranks_B = target_ranks(lists, points_MBD, weights_M, targets)
        found = ranks_B[ranks_B < k]
        return float((1 / (found + 1.0)).sum()) if metric == "mrr" else float(len(found))

    n_members = len(lists.items_MBD)
    weights_M = np.full(n_members, 1 / n_members)
    best = value(weights_M)
    for _ in range(_MOST_ROUNDS if n_members > 1 else 0):
        before = best
        for member in range(n_members):
            tried = [_with_share(weights_M, member, share) for share in _SHARES]
            values = [value(weights) for weights in tried]
            if max(values) > best:
                best = max(values)
                weights_M = tried[int(np.argmax(values))]
        if best == before:
            break
    return weights_M


def _with_share(weights_M: DoubleArray, member: int, share: float) -> DoubleArray:
    """Weights of sum 1 in which one member has the given share, and the others their proportions among them."""
    others_M = weights_M.copy()
    others_M[member] = 0
    if not others_M.any():
        others_M = np.ones(len(weights_M))
        others_M[member] = 0
    changed_M: DoubleArray = others_M * ((1 - share) / others_M.sum())
    changed_M[member] = share
    return changed_M
