"""Losses against numbers worked out by hand."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch.nn.functional import cross_entropy

from trainer.losses import PLACES_AT_ONCE, Seen, bpr_loss, full_softmax_loss, gbce_loss, sampled_softmax_loss
from trainer.negatives import NegativeSampler

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


def test_a_negative_stands_for_the_more_items_the_more_seldom_it_is_drawn() -> None:
    shares = torch.tensor([0.5, 0.1])
    loss = sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([2, 3]), shares.log())
    estimate = exp(1) / (2 * 0.5) + exp(3) / (2 * 0.1)
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + estimate)))


def test_a_negative_that_is_drawn_twice_and_is_the_target_counts_nothing() -> None:
    loss = sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([1, 3, 1]))
    assert loss.item() == pytest.approx(-log(exp(2) / (exp(2) + exp(3) * 2 / 3)))


def test_with_no_negative_but_the_target_nothing_is_lost() -> None:
    assert sampled_softmax_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([1])).item() == 0


@pytest.mark.parametrize("n_places", [1, PLACES_AT_ONCE, 2 * PLACES_AT_ONCE + 3])
def test_the_full_softmax_and_its_gradients_are_torchs(n_places: int) -> None:
    torch.manual_seed(0)
    queries, items = torch.randn(n_places, 5).requires_grad_(), torch.randn(21, 5).requires_grad_()
    targets = torch.randint(1, 21, (n_places,))
    ours, theirs = full_softmax_loss(queries, targets, items), cross_entropy(queries @ items[1:].T, targets - 1)
    torch.testing.assert_close(ours, theirs)
    for mine, its in zip(*(torch.autograd.grad(2 * loss, (queries, items)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, its)


def test_gradients_of_the_sampled_softmax_are_those_of_its_definition() -> None:
    torch.manual_seed(1)
    n_places = PLACES_AT_ONCE + 9
    queries, items = torch.randn(n_places, 5).requires_grad_(), torch.randn(21, 5).requires_grad_()
    targets, negatives = torch.randint(1, 21, (n_places,)), torch.randint(1, 21, (30,))
    logits = (queries @ items[negatives].T + log(19 / 30)).masked_fill(negatives == targets[:, None], -torch.inf)
    target_logits = (queries * items[targets]).sum(dim=1)
    theirs = (torch.logaddexp(target_logits, logits.logsumexp(dim=1)) - target_logits).mean()
    ours = sampled_softmax_loss(queries, targets, items, negatives)
    torch.testing.assert_close(ours, theirs)
    for mine, its in zip(*(torch.autograd.grad(loss, (queries, items)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, its)


def seen(*rows: list[int]) -> Seen:
    """Of places at the ends of rows."""
    rows_BT = torch.tensor(rows)
    return Seen(rows_BT, torch.arange(len(rows)), torch.full((len(rows),), rows_BT.shape[1] - 1))


SEEN = seen([3, 0])
"""Of one place: item 3, and nothing more."""


def test_seen_is_what_stands_before_a_place_in_its_row() -> None:
    rows, places = torch.tensor([[4, 5, 6], [7, 8, 0]]), torch.tensor([[True, False, True], [False, True, False]])
    before = Seen.before(rows, places)
    assert before.at(slice(0, 3)).tolist() == [[4, 0, 0], [4, 5, 6], [7, 8, 0]]
    assert before.at(slice(1, 2)).tolist() == [[4, 5, 6]]


def test_what_was_seen_counts_nothing_in_a_softmax() -> None:
    target = torch.tensor([1])
    expected = pytest.approx(-log(exp(2) / (exp(2) + exp(1))))
    assert full_softmax_loss(QUERY, target, ITEMS, SEEN).item() == expected
    negatives = torch.tensor([3, 2, 3, 3])
    estimated = -log(exp(2) / (exp(2) + exp(1) * 2 / 4))
    assert sampled_softmax_loss(QUERY, target, ITEMS, negatives, None, SEEN).item() == pytest.approx(estimated)


def test_a_target_that_was_seen_is_a_target_all_the_same() -> None:
    loss = full_softmax_loss(QUERY, torch.tensor([3]), ITEMS, seen([3, 1]))
    assert loss.item() == pytest.approx(-log(exp(3) / (exp(3) + exp(1))))


def test_what_was_seen_counts_nothing_among_pairs() -> None:
    target, negatives = torch.tensor([1]), torch.tensor([3, 2, 3])
    assert bpr_loss(QUERY, target, ITEMS, negatives, SEEN).item() == pytest.approx(-log(sigmoid(2 - 1)))
    pair = -(log(sigmoid(2)) + log(sigmoid(-1))) / 2
    assert gbce_loss(QUERY, target, ITEMS, negatives, 0.0, SEEN).item() == pytest.approx(pair)


@pytest.mark.parametrize("n_negatives", [0, 40])
def test_gradients_leave_out_what_was_seen(n_negatives: int) -> None:
    torch.manual_seed(3)
    n_places = PLACES_AT_ONCE + 5
    queries, items = torch.randn(n_places, 5).requires_grad_(), torch.randn(21, 5).requires_grad_()
    targets, before = torch.randint(1, 21, (n_places,)), torch.randint(0, 21, (n_places, 7))
    negatives = torch.randint(1, 21, (n_negatives,)) if n_negatives else torch.arange(1, 21)
    is_none = (negatives == targets[:, None]) | (negatives == before[:, :, None]).any(dim=1)
    raised = log(19 / n_negatives) if n_negatives else 0.0
    logits = (queries @ items[negatives].T + raised).masked_fill(is_none, -torch.inf)
    target_logits = (queries * items[targets]).sum(dim=1)
    theirs = (torch.logaddexp(target_logits, logits.logsumexp(dim=1)) - target_logits).mean()
    if n_negatives:
        ours = sampled_softmax_loss(queries, targets, items, negatives, None, seen(*before.tolist()))
    else:
        ours = full_softmax_loss(queries, targets, items, seen(*before.tolist()))
    torch.testing.assert_close(ours, theirs)
    for mine, its in zip(*(torch.autograd.grad(loss, (queries, items)) for loss in (ours, theirs)), strict=True):
        torch.testing.assert_close(mine, its)


def test_logits_of_any_size_give_a_finite_loss() -> None:
    queries = torch.tensor([[1e4, 0.0], [-1e4, 0.0]]).requires_grad_()
    loss = full_softmax_loss(queries, torch.tensor([2, 1]), ITEMS)
    assert loss.item() == pytest.approx((1e4 + log(2) + 1e4) / 2)
    assert torch.autograd.grad(loss, queries)[0].isfinite().all()


@pytest.mark.parametrize("power", [0.0, 0.75])
def test_the_estimated_denominator_is_right_on_average(power: float) -> None:
    """However the negatives are drawn: that is what the correction is for."""
    n_items, target = 30, 4
    torch.manual_seed(0)
    vectors, query = torch.randn(n_items + 1, 3), torch.randn(1, 3)
    counts = torch.arange(n_items + 1) ** 2
    sampler = NegativeSampler(counts, 200_000, power, torch.Generator().manual_seed(1))
    items, log_shares = sampler.draw()
    sampled = sampled_softmax_loss(query, torch.tensor([target]), vectors, items, log_shares)
    whole = full_softmax_loss(query, torch.tensor([target]), vectors)
    assert sampled.item() == pytest.approx(whole.item(), rel=0.01)


def sigmoid(x: float) -> float:
    return 1 / (1 + exp(-x))


def test_bpr_is_the_mean_over_pairs() -> None:
    loss = bpr_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([2, 3]))
    assert loss.item() == pytest.approx(-(log(sigmoid(2 - 1)) + log(sigmoid(2 - 3))) / 2)


def test_bpr_compares_no_item_with_itself() -> None:
    loss = bpr_loss(QUERY.repeat(2, 1), torch.tensor([1, 3]), ITEMS, torch.tensor([3]))
    assert loss.item() == pytest.approx(-log(sigmoid(2 - 3)))
    assert bpr_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([1])).item() == 0


def test_without_calibration_gbce_is_binary_cross_entropy() -> None:
    loss = gbce_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([3]), calibration=0.0)
    assert loss.item() == pytest.approx(-(log(sigmoid(2)) + log(1 - sigmoid(3))) / 2)


def test_gbce_raises_the_targets_probability_to_the_share_of_items_that_are_drawn() -> None:
    """One negative of two other items: beta is a half."""
    loss = gbce_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([3]), calibration=1.0)
    assert loss.item() == pytest.approx(-(0.5 * log(sigmoid(2)) + log(1 - sigmoid(3))) / 2)
    between = gbce_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([3]), calibration=0.5)
    assert between.item() == pytest.approx(-(0.75 * log(sigmoid(2)) + log(1 - sigmoid(3))) / 2)


def test_gbce_leaves_a_negative_out_that_is_the_target() -> None:
    loss = gbce_loss(QUERY, torch.tensor([1]), ITEMS, torch.tensor([1, 3]), calibration=0.0)
    assert loss.item() == pytest.approx(-(log(sigmoid(2)) + log(1 - sigmoid(3))) / 2)


def test_items_are_drawn_in_proportion_to_the_power_of_their_counts() -> None:
    sampler = NegativeSampler(torch.tensor([99, 16, 0, 81]), 100_000, 0.5, torch.Generator().manual_seed(0))
    items, log_shares = sampler.draw()
    assert log_shares is not None
    shares = torch.tensor([4.0, 1.0, 9.0]) / 14
    torch.testing.assert_close(torch.bincount(items, minlength=4)[1:] / len(items), shares, atol=0.01, rtol=0)
    torch.testing.assert_close(log_shares.exp(), shares[items - 1])


def test_the_same_seed_draws_the_same_items() -> None:
    def drawn(power: float) -> torch.Tensor:
        return NegativeSampler(torch.ones(9), 50, power, torch.Generator().manual_seed(3)).draw().items_N

    for power in (0.0, 1.0):
        assert drawn(power).equal(drawn(power))
        assert drawn(power).min() >= 1
        assert drawn(power).max() <= 8


def test_with_a_single_item_there_is_nothing_to_tell_it_from() -> None:
    only = ITEMS[:2]
    assert gbce_loss(QUERY, torch.tensor([1]), only, torch.tensor([1]), calibration=1.0).isfinite()
