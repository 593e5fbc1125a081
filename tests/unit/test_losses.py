"""Losses against numbers worked out by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch

from trainer.losses import full_softmax_loss, sampled_softmax_loss

ITEMS = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
QUERY = torch.tensor([[2.0, 1.0]])
"""Its inner products with items 1, 2, 3 are 2, 1 and 3."""


def test_full_softmax_is_minus_log_of_the_targets_share() -> None:
    loss = full_softmax_loss(QUERY, torch.tensor([1]), ITEMS)
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + exp(1) + exp(3))))


def test_padding_has_no_part_in_the_denominator() -> None:
    high = ITEMS.clone()
    high[0] = 100.0
    assert full_softmax_loss(QUERY, torch.tensor([1]), high).equal(full_softmax_loss(QUERY, torch.tensor([1]), ITEMS))


def test_losses_are_means_over_the_places() -> None:
    both = full_softmax_loss(QUERY.repeat(2, 1), torch.tensor([1, 3]), ITEMS)
    apart = [full_softmax_loss(QUERY, torch.tensor([i]), ITEMS).item() for i in (1, 3)]
    assert both.item() == pytest.approx(sum(apart) / 2)


def test_one_negative_stands_for_all_other_items() -> None:
    loss = sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([2]))
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + 2 * exp(1))))


def test_all_other_items_as_negatives_give_the_full_softmax() -> None:
    sampled = sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([2, 3]))
    assert sampled.item() == pytest.approx(full_softmax_loss(QUERY, torch.tensor([1]), ITEMS).item())


def test_a_negative_that_is_the_target_counts_nothing() -> None:
    loss = sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([1, 3]))
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + exp(3))))
