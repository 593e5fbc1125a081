"""Softmax cross-entropy over the catalogue, whole or sampled.

Shape letters: ``P`` places with a target, ``D`` embedding dimension, ``N`` negatives.
"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy


def full_softmax_loss(queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor) -> Tensor:
    """Mean over the places of ``-log softmax(queries · item_vectors)[target]``, over items 1 … n_items.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - Output: ``()``
    """
    return cross_entropy(queries_PD @ item_vectors[1:].T, targets_P - 1)


def sampled_softmax_loss(queries_PD: Tensor, targets_P: Tensor, item_vectors: Tensor, negatives_N: Tensor) -> Tensor:
    """The same with the other items' share of the denominator estimated from a uniform sample.

    Each negative stands for ``(n_items - 1) / N`` items, so its logit is raised by the logarithm of
    that; a negative that is the target counts nothing for it.

    Shape:
        - queries_PD: ``(P, D)``
        - targets_P: ``(P,)``, item numbers from 1
        - item_vectors: ``(n_items + 1, D)``
        - negatives_N: ``(N,)``, item numbers from 1, drawn with replacement
        - Output: ``()``

    References:
        Jean et al., "On using very large target vocabulary for neural machine translation", ACL 2015.
    """
    represented = (len(item_vectors) - 2) / len(negatives_N)
    target_P1 = (queries_PD * item_vectors[targets_P]).sum(dim=1, keepdim=True)
    negative_PN = queries_PD @ item_vectors[negatives_N].T + log(represented)
    negative_PN = negative_PN.masked_fill(negatives_N == targets_P[:, None], -torch.inf)
    first_P = torch.zeros(len(targets_P), dtype=torch.long)
    return cross_entropy(torch.cat([target_P1, negative_PN], dim=1), first_P)
