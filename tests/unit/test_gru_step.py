"""Compiled steps of a GRU, against torch's."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders.gru import GRUConfig, GRUEncoder, GRUModule
from encoders.gru_step import _ROWS_AT_ONCE, MOST_KEPT, GRUSteps, _tanh

N_ITEMS = 30


def module(scale: float = 1.0) -> GRUModule:
    torch.manual_seed(5)
    built = GRUEncoder.build(N_ITEMS, GRUConfig(embedding_dim=7, hidden_dim=11))
    with torch.no_grad():
        for parameter in built.parameters():
            parameter *= scale
    return built.eval()


def steps(of: GRUModule, most_kept: int = MOST_KEPT) -> GRUSteps:
    arrays = [w.detach().numpy() for w in of.gru.all_weights[0]]
    return GRUSteps(of.item_embeddings.weight.detach().numpy(), *arrays, most_kept=most_kept)


@torch.inference_mode()
def torch_states(of: GRUModule, windows: np.ndarray) -> np.ndarray:
    """After each item."""
    hidden, _ = of.gru(of.item_embeddings(torch.from_numpy(windows)))
    states: np.ndarray = hidden.numpy()
    return states


def drawn(n_rows: int, width: int) -> np.ndarray:
    return np.random.default_rng(2).integers(1, N_ITEMS + 1, size=(n_rows, width))


@pytest.mark.parametrize("most_kept", [MOST_KEPT, 0])
@pytest.mark.parametrize("scale", [1.0, 5.0, 20.0])
def test_steps_are_torch_s(scale: float, most_kept: int) -> None:
    of, windows = module(scale), drawn(_ROWS_AT_ONCE + 3, 9)
    expected, ours = torch_states(of, windows), steps(of, most_kept)
    before = np.zeros((len(windows), 11), dtype=np.float32)
    for t in range(windows.shape[1]):
        # Where gates open and shut for good, what is rounded differently soon becomes another state.
        np.testing.assert_allclose(ours.after(before, windows[:, t]), expected[:, t], atol=2e-6 * scale**2)
        before = expected[:, t].copy()


def test_windows_of_any_lengths_end_where_torch_s_do() -> None:
    of, windows = module(3.0), drawn(8, 12)
    lengths = np.array([3, 12, 0, 1, 12, 7, 3, 11])
    expected = torch_states(of, windows)
    found = steps(of).through(windows, lengths)
    for row, length in enumerate(lengths):
        if length:
            np.testing.assert_allclose(found[row], expected[row, length - 1], atol=2e-6)
        else:
            assert not found[row].any()


def test_query_vectors_are_the_module_s() -> None:
    of, windows = module(2.0), drawn(5, 6)
    with torch.inference_mode():
        expected = of(torch.from_numpy(windows))[:, -1].numpy()
    np.testing.assert_allclose(GRUEncoder(of).encode(windows)[1], expected, atol=2e-6)


def test_the_tangent_is_right_wherever_it_is_asked() -> None:
    for x in np.concatenate([np.linspace(-10, 10, 4001), [-1e30, -1e-30, 0, 1e-30, 1e30]]).astype(np.float32):
        assert _tanh(x) == pytest.approx(np.tanh(np.float64(x)), rel=1e-6, abs=1e-30)


@pytest.mark.parametrize("item", [-1, N_ITEMS + 1, 10**7])
def test_an_item_that_is_none_is_refused_before_it_is_looked_up(item: int) -> None:
    encoder = GRUEncoder(module())
    with pytest.raises(IndexError, match=f"there are 0 to {N_ITEMS}"):
        encoder.step(encoder.initial_states(2), np.array([1, item]))
    with pytest.raises(IndexError, match=f"there are 0 to {N_ITEMS}"):
        encoder.encode(np.array([[1, item]]))
    with pytest.raises(ValueError, match="3 items for 1 states"):
        encoder.step(encoder.initial_states(1), np.array([1, 2, 3]))


@pytest.mark.parametrize("most_kept", [MOST_KEPT, 0])
def test_what_comes_from_items_is_renewed_with_their_embeddings(most_kept: int) -> None:
    of, windows, lengths = module(), drawn(8, 5), np.full(8, 5)
    ours = steps(of, most_kept)
    of.item_embeddings.weight.detach().numpy()[[3, 7]] = 0.5
    ours.renew(np.array([3, 7]))
    np.testing.assert_allclose(ours.through(windows, lengths), torch_states(of, windows)[:, -1], atol=2e-6)
