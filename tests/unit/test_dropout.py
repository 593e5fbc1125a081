"""Dropout that draws a byte for each place."""

from __future__ import annotations

import pytest
import torch

from encoders.neural import Dropout


def blanked(share: float, *shape: int) -> torch.Tensor:
    torch.manual_seed(0)
    return Dropout(share).train()(torch.ones(*shape))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5, 0.9])
def test_the_share_is_blank_and_the_mean_stays(share: float) -> None:
    out = blanked(share, 1000, 333)
    assert (out == 0).float().mean().item() == pytest.approx(share, abs=0.005)
    assert out.mean().item() == pytest.approx(1, abs=0.005 / (1 - share))


def test_places_are_blanked_one_by_one() -> None:
    """Those that share a draw of 64 bits, too."""
    is_blank = (blanked(0.5, 40_000, 8) == 0).double()
    assert (torch.corrcoef(is_blank.T) - torch.eye(8)).abs().max() < 0.02


@pytest.mark.parametrize("n", [0, 1, 7, 9])
def test_any_number_of_places_will_do(n: int) -> None:
    assert blanked(0.5, n).shape == (n,)


def test_something_is_left_of_every_share() -> None:
    out = blanked(0.9999, 100_000)
    assert out.unique().tolist() == [0, 256]


def test_gradients_reach_what_is_left() -> None:
    x = torch.randn(50, 3, requires_grad=True)
    out = Dropout(0.25).train()(x)
    out.sum().backward()
    torch.testing.assert_close(x.grad, torch.where(out == 0, 0.0, 4 / 3))


def test_nothing_is_blank_in_evaluation_nor_where_the_share_is_nothing() -> None:
    x = torch.randn(5, 3)
    assert Dropout(0.5).eval()(x) is x
    assert Dropout(0.0).train()(x) is x


def test_the_same_seed_blanks_the_same() -> None:
    assert blanked(0.5, 9, 9).equal(blanked(0.5, 9, 9))
