"""The linear recurrence, against the definition that it computes."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from encoders.lru import CHUNK, LRUConfig, LRUEncoder, LRUModule, recurrence


def step_by_step(inputs_BTH: torch.Tensor, decay_H: torch.Tensor) -> torch.Tensor:
    state, states = torch.zeros_like(inputs_BTH[:, 0]), []
    for t in range(inputs_BTH.shape[1]):
        state = torch.exp(decay_H) * state + inputs_BTH[:, t]
        states.append(state)
    return torch.stack(states, dim=1)


def drawn(*shape: int) -> torch.Tensor:
    return torch.view_as_complex(torch.randn(*shape, 2, dtype=torch.float64))


@pytest.mark.parametrize("length", [1, 2, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 5])
def test_chunks_give_what_going_step_by_step_gives(length: int) -> None:
    torch.manual_seed(length)
    inputs, decay = drawn(3, length, 4), torch.complex(-torch.rand(4).double(), 6 * torch.rand(4).double())
    torch.testing.assert_close(recurrence(inputs, decay), step_by_step(inputs, decay))


def test_gradients_are_those_of_going_step_by_step() -> None:
    torch.manual_seed(1)
    inputs = drawn(2, 2 * CHUNK + 3, 3).requires_grad_()
    decay = torch.complex(-torch.rand(3).double(), torch.rand(3).double()).requires_grad_()
    gradients = [
        torch.autograd.grad((states(inputs, decay).abs() ** 2).sum(), (inputs, decay))
        for states in (recurrence, step_by_step)
    ]
    for chunked, plain in zip(*gradients, strict=True):
        torch.testing.assert_close(chunked, plain)


def test_a_state_far_back_is_forgotten_and_never_overflows() -> None:
    inputs = torch.zeros(1, 4000, 1, dtype=torch.complex64)
    inputs[0, 0] = 1
    states = recurrence(inputs, torch.tensor([-1.0 + 2j]))
    assert states.abs().max() == 1
    assert states[0, 200:].abs().max() < 1e-30


def test_what_comes_later_changes_nothing() -> None:
    torch.manual_seed(2)
    module = LRUModule(20, LRUConfig(embedding_dim=8, hidden_dim=6)).eval()
    windows = torch.randint(1, 21, (2, 2 * CHUNK))
    longer = torch.cat([windows, torch.randint(1, 21, (2, 9))], dim=1)
    torch.testing.assert_close(module(longer)[:, : 2 * CHUNK], module(windows))


def test_fresh_decays_are_slow_and_keep_their_variance() -> None:
    torch.manual_seed(3)
    layer = LRUModule(5, LRUConfig(hidden_dim=500)).layers[0]
    modulus = torch.exp(layer.log_decay.detach()).abs()
    assert 0.8 <= modulus.min() < modulus.max() <= 0.99
    torch.testing.assert_close(torch.exp(layer.log_gain.detach()) ** 2, 1 - modulus**2)


def test_the_state_ends_with_the_query_vector() -> None:
    encoder = LRUEncoder(LRUEncoder.build(9, LRUConfig(embedding_dim=4, hidden_dim=3, n_layers=3)))
    states, vectors = encoder.encode(np.array([[1, 2], [0, 0]]))
    assert encoder.state_size == states.shape[1] == 3 * 2 * 3 + 4
    np.testing.assert_array_equal(states[:, -4:], vectors)
