"""What a model is fitted by: softmax cross-entropy over the catalogue, whole or sampled, and losses over pairs.

All are pure functions, and means over the places. Negatives are shared by all places of a batch, so their scores are
one matrix product; a negative that is a place's target counts nothing there. Nor does one that stands before the place
in its row, if `Seen` is given: where lists never hold it, a model that learns to score it low learns what nobody asks.

Shape letters: ``P`` places with a target, ``D`` embedding dimension, ``N`` negatives, ``B`` rows of
a batch, ``T`` their length, ``C`` places that are looked at together.
"""

from __future__ import annotations

from collections.abc import Callable
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding, logsigmoid

PLACES_AT_ONCE = 256
"""Places whose scores are in memory together: few enough for the processor's cache."""


class Seen(NamedTuple):
    """What stands before each place in its row. Made for a few places at a time: of all it is large."""

    rows_BT: Tensor
    """Item numbers, 0 for none."""
    row_P: Tensor
    """Which row a place is in."""
    last_P: Tensor
    """Where in the row it is; what stands there counts as seen."""

    @classmethod
    def before(cls, rows_BT: Tensor, is_place_BT: Tensor) -> Seen:
        """Of all marked places, row by row. Shape: ``(B, T)`` and ``(B, T)``, ``P`` of them true."""
        return cls(rows_BT, *is_place_BT.nonzero(as_tuple=True))

    def at(self, some: slice) -> Tensor:
        """Items seen before some of the places, 0 for none. Shape: ``(C, T)``."""
        last_C1 = self.last_P[some, None]
        is_later_CT = torch.arange(self.rows_BT.shape[1], device=last_C1.device) > last_C1
        return self.rows_BT[self.row_P[some]].masked_fill(is_later_CT, 0)


def full_softmax_loss(queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, seen: Seen | None = None) -> Tensor:
    """Mean over the places of ``-log softmax(queries · item_vectors)[target]``, over items 1 … n_items.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - seen: of ``P`` places; these items count nothing there, but for the target
        - Output: ``()``
    """
    others_N = torch.arange(1, len(item_vectors), device=item_vectors.device)
    raised_N = torch.zeros_like(others_N, dtype=torch.float32)
    return _softmax_loss(queries_PD, targets_P, item_vectors, others_N, raised_N, seen)


def sampled_softmax_loss(
    queries_PD: Tensor,
    targets_P: Tensor,
    item_vectors: Tensor,
    negatives_N: Tensor,
    log_shares_N: Tensor | None = None,
    seen: Seen | None = None,
) -> Tensor:
    """The same with the other items' part of the denominator estimated from a sample (logQ correction).

    A negative that is drawn with probability ``q`` stands for ``1 / (N * q)`` items, so its logit is raised by the
    logarithm of that. Drawn uniformly, together they stand for all items but the target.

    Args:
        queries_PD: Query vectors.
        targets_P: What came next.
        item_vectors: Of all items.
        negatives_N: Drawn with replacement.
        log_shares_N: ``log q`` of each; None if drawn uniformly.
        seen: What counts nothing at each place.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N, log_shares_N: ``(N,)``, item numbers from 1
        - seen: of ``P`` places
        - Output: ``()``

    References:
        Jean et al., "On using very large target vocabulary for neural machine translation", ACL 2015.
        Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    n = len(negatives_N)
    if log_shares_N is None:
        raised_N = torch.full_like(negatives_N, log((len(item_vectors) - 2) / n), dtype=torch.float32)
    else:
        raised_N = -log_shares_N - log(n)
    negatives_N, order = torch.sort(negatives_N)
    return _softmax_loss(queries_PD, targets_P, item_vectors, negatives_N, raised_N[order], seen)


def _softmax_loss(
    queries_PD: Tensor,
    targets_P: Tensor,
    item_vectors: Tensor,
    negatives_N: Tensor,
    raised_N: Tensor,
    seen: Seen | None,
) -> Tensor:
    """Cross-entropy of targets beside negatives in ascending order, whose logits are raised."""
    target_PD, negative_ND = embedding(targets_P, item_vectors), embedding(negatives_N, item_vectors)
    first_I = _first_places(negatives_N, len(item_vectors) - 1)
    apply: Callable[..., Tensor] = _SharedSoftmax.apply
    return apply(queries_PD, target_PD, negative_ND, raised_N, first_I, targets_P, seen)


class _SharedSoftmax(torch.autograd.Function):
    """Softmax cross-entropy with negatives that all places share, which works out its gradients as it goes.

    Left to itself, torch keeps the scores of all places for the way back, a hundred megabytes for a batch, and moves
    them through memory some ten times. Here those of a few places are turned into gradients while they are still in the
    processor's cache.
    """

    @staticmethod
    def forward(
        ctx: Any,
        queries_PD: Tensor,
        target_PD: Tensor,
        negative_ND: Tensor,
        raised_N: Tensor,
        first_I: Tensor,
        targets_P: Tensor,
        seen: Seen | None,
    ) -> Tensor:
        P, total = len(queries_PD), queries_PD.new_zeros(())
        grad_queries_PD, grad_target_PD = torch.empty_like(queries_PD), torch.empty_like(queries_PD)
        grad_negative_ND = torch.zeros_like(negative_ND)
        for start in range(0, P, PLACES_AT_ONCE):
            some = slice(start, start + PLACES_AT_ONCE)
            queries_CD, target_CD = queries_PD[some], target_PD[some]
            score_C = (queries_CD * target_CD).sum(dim=1)
            scores_CN = torch.addmm(raised_N, queries_CD, negative_ND.T)
            scores_CN[_hits(first_I, targets_P[some], seen.at(some) if seen else None)] = -torch.inf
            highest_C = torch.maximum(score_C, scores_CN.amax(dim=1))
            shares_CN = scores_CN.sub_(highest_C[:, None]).exp_()
            all_C = shares_CN.sum(dim=1) + torch.exp(score_C - highest_C)
            total += (all_C.log() + highest_C - score_C).sum()
            if not any(ctx.needs_input_grad):
                continue
            # The gradient of a score is its share of the softmax, less one for the target.
            shares_CN.div_(all_C[:, None] * P)
            missing_C1 = ((torch.exp(score_C - highest_C) / all_C - 1) / P)[:, None]
            torch.addcmul(shares_CN @ negative_ND, missing_C1, target_CD, out=grad_queries_PD[some])
            torch.mul(missing_C1, queries_CD, out=grad_target_PD[some])
            grad_negative_ND.addmm_(shares_CN.T, queries_CD)
        ctx.save_for_backward(grad_queries_PD, grad_target_PD, grad_negative_ND)
        return total / P

    @staticmethod
    def backward(ctx: Any, grad_loss: Tensor) -> tuple[Tensor | None, ...]:
        return *(grad_loss * grad for grad in ctx.saved_tensors), None, None, None, None


def _hits(first_I: Tensor, targets_C: Tensor, seen_CT: Tensor | None) -> tuple[Tensor, Tensor]:
    """Where items that count nothing at their place stand among negatives in ascending order.

    Shape:
        - first_I: as `_first_places` gives it
        - targets_C: ``(C,)``
        - seen_CT: ``(C, T)``
        - Output: rows and columns, as many as there are
    """
    items_CK = targets_C[:, None] if seen_CT is None else torch.cat([targets_C[:, None], seen_CT], dim=1)
    first_E, n_E = first_I[items_CK].flatten(), (first_I[items_CK + 1] - first_I[items_CK]).flatten()
    among_H = n_E.nonzero()[:, 0]
    first_H, n_H = first_E[among_H], n_E[among_H]
    rows_H = among_H // items_CK.shape[1]
    if not (n_H > 1).any():
        return rows_H, first_H
    of_hit = torch.repeat_interleave(torch.arange(len(n_H), device=n_H.device), n_H)
    before_H = torch.cumsum(n_H, dim=0) - n_H
    columns = torch.arange(len(of_hit), device=n_H.device) - before_H[of_hit] + first_H[of_hit]
    return rows_H[of_hit], columns


def _first_places(negatives_N: Tensor, n_items: int) -> Tensor:
    """Of each item number up to one behind the last, how many of the negatives, in ascending order, are below it."""
    counts_I = torch.bincount(negatives_N, minlength=n_items + 2)
    return torch.cumsum(counts_I, dim=0) - counts_I


def bpr_loss(
    queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor, seen: Seen | None = None
) -> Tensor:
    """Mean over pairs of a target and a negative of ``-log sigmoid(target's score - negative's score)``.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N: ``(N,)``, item numbers from 1
        - seen: of ``P`` places; these items count nothing there
        - Output: ``()``

    References:
        Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.
    """
    target_P, negative_PN, is_none_PN = _scores(queries_PD, targets_P, item_vectors, negatives_N, seen)
    pairs_PN = logsigmoid(target_P[:, None] - negative_PN).masked_fill(is_none_PN, 0)
    return -(pairs_PN.sum() / (~is_none_PN).sum().clamp(min=1))


def gbce_loss(
    queries_PD: Tensor,
    targets_P: Tensor,
    item_vectors: Tensor,
    negatives_N: Tensor,
    calibration: float,
    seen: Seen | None = None,
) -> Tensor:
    """Binary cross-entropy of a target and its negatives, corrected for how few of the items are negatives.

    A model that sees few negatives takes every item for likely. Here the target's probability is raised to the power
    ``beta = calibration * (sampled - 1) + 1``, where ``sampled`` is the share of the other items that are drawn: with
    a calibration of 1 scores come out as if all had been, with 0 this is plain binary cross-entropy.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N: ``(N,)``, item numbers from 1, drawn uniformly
        - seen: of ``P`` places; these items count nothing there
        - Output: ``()``

    References:
        Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
        sampling", RecSys 2023.
    """
    target_P, negative_PN, is_none_PN = _scores(queries_PD, targets_P, item_vectors, negatives_N, seen)
    sampled = min(1.0, len(negatives_N) / max(1, len(item_vectors) - 2))
    beta = calibration * (sampled - 1) + 1
    others_P = logsigmoid(-negative_PN).masked_fill(is_none_PN, 0).sum(dim=1)
    n_terms_P = 1 + (~is_none_PN).sum(dim=1)
    return -((beta * logsigmoid(target_P) + others_P) / n_terms_P).mean()


def _scores(
    queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor, seen: Seen | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of targets ``(P,)`` and of negatives ``(P, N)``, in ascending order, and which of these count nothing."""
    negatives_N = torch.sort(negatives_N).values
    target_P = (queries_PD * item_vectors[targets_P]).sum(dim=1)
    is_none_PN = torch.zeros(len(targets_P), len(negatives_N), dtype=torch.bool, device=queries_PD.device)
    first_I = _first_places(negatives_N, len(item_vectors) - 1)
    for start in range(0, len(targets_P), PLACES_AT_ONCE):
        some = slice(start, start + PLACES_AT_ONCE)
        is_none_PN[some][_hits(first_I, targets_P[some], seen.at(some) if seen else None)] = True
    return target_P, queries_PD @ item_vectors[negatives_N].T, is_none_PN
