"""What a model is fitted by: softmax cross-entropy over the catalogue, whole or sampled, and losses over pairs.

All are pure functions, and means over the places. Negatives are shared by all places of a batch, so their scores are
one matrix product; a negative that is a place's target counts nothing there.

Shape letters: ``P`` places with a target, ``D`` embedding dimension, ``N`` negatives.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, logsigmoid


def full_softmax_loss(queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor) -> Tensor:
    """Mean over the places of ``-log softmax(queries · item_vectors)[target]``, over items 1 … n_items.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - Output: ``()``
    """
    return cross_entropy(queries_PD @ item_vectors[1:].T, targets_P - 1)


def sampled_softmax_loss(
    queries_PD: Tensor,
    targets_P: Tensor,
    item_vectors: Tensor,
    negatives_N: Tensor,
    log_shares_N: Tensor | None = None,
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

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N, log_shares_N: ``(N,)``, item numbers from 1
        - Output: ``()``

    References:
        Jean et al., "On using very large target vocabulary for neural machine translation", ACL 2015.
        Yi et al., "Sampling-bias-corrected neural modeling for large corpus item recommendations", RecSys 2019.
    """
    target_P, negative_PN, is_target_PN = _scores(queries_PD, targets_P, item_vectors, negatives_N)
    n = len(negatives_N)
    raised: Tensor | float = log((len(item_vectors) - 2) / n) if log_shares_N is None else -log_shares_N - log(n)
    negative_PN = (negative_PN + raised).masked_fill(is_target_PN, -torch.inf)
    first_P = torch.zeros(len(targets_P), dtype=torch.long)
    return cross_entropy(torch.cat([target_P[:, None], negative_PN], dim=1), first_P)


def bpr_loss(queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor) -> Tensor:
    """Mean over pairs of a target and a negative of ``-log sigmoid(target's score - negative's score)``.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N: ``(N,)``, item numbers from 1
        - Output: ``()``

    References:
        Rendle et al., "BPR: Bayesian personalized ranking from implicit feedback", UAI 2009.
    """
    target_P, negative_PN, is_target_PN = _scores(queries_PD, targets_P, item_vectors, negatives_N)
    pairs_PN = logsigmoid(target_P[:, None] - negative_PN).masked_fill(is_target_PN, 0)
    return -(pairs_PN.sum() / (~is_target_PN).sum().clamp(min=1))


def gbce_loss(
    queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor, calibration: float
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
        - Output: ``()``

    References:
        Petrov and Macdonald, "gSASRec: reducing overconfidence in sequential recommendation trained with negative
        sampling", RecSys 2023.
    """
    target_P, negative_PN, is_target_PN = _scores(queries_PD, targets_P, item_vectors, negatives_N)
    sampled = min(1.0, len(negatives_N) / (len(item_vectors) - 2))
    beta = calibration * (sampled - 1) + 1
    others_P = logsigmoid(-negative_PN).masked_fill(is_target_PN, 0).sum(dim=1)
    n_terms_P = 1 + (~is_target_PN).sum(dim=1)
    return -((beta * logsigmoid(target_P) + others_P) / n_terms_P).mean()


def _scores(
    queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Scores of targets ``(P,)`` and of negatives ``(P, N)``, and which negatives are their place's target."""
    target_P = (queries_PD * item_vectors[targets_P]).sum(dim=1)
    return target_P, queries_PD @ item_vectors[negatives_N].T, negatives_N == targets_P[:, None]
