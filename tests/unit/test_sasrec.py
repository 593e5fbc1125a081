"""Causal self-attention, against the definition that it computes, and its cache."""

from __future__ import annotations

from math import cos, sin, sqrt

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from torch import Tensor
from torch.nn.functional import gelu

from encoders.sasrec import SLOWEST_TURN, SASRecConfig, SASRecEncoder, SASRecLayer, SASRecModule

N_ITEMS = 30
MAX_LEN = 12
CONFIG = SASRecConfig(embedding_dim=8, hidden_dim=10, n_layers=3, max_len=MAX_LEN, dropout=0.5)


def build(config: SASRecConfig = CONFIG) -> SASRecModule:
    torch.manual_seed(3)
    return SASRecEncoder.build(N_ITEMS, config).eval()


@pytest.fixture
def encoder() -> SASRecEncoder:
    return SASRecEncoder(build())


def turned(vector_E: Tensor, place: int) -> Tensor:
    """Pair ``i`` of a head turned by ``place`` times its own angle, as a matrix would."""
    n_pairs = len(vector_E) // 2
    out = []
    for i in range(n_pairs):
        angle = place * SLOWEST_TURN ** (-i / n_pairs)
        out.append(torch.tensor([[cos(angle), -sin(angle)], [sin(angle), cos(angle)]]) @ vector_E[2 * i : 2 * i + 2])
    return torch.cat(out)


def layer_by_definition(layer: SASRecLayer, x_TD: Tensor) -> Tensor:
    T, D = x_TD.shape
    E = D // layer.n_heads
    q_TD, k_TD, v_TD = layer.project(layer.attention_norm(x_TD)).split(D, dim=1)
    attended_TD = torch.empty(T, D)
    for head in range(layer.n_heads):
        part = slice(head * E, (head + 1) * E)
        for t in range(T):
            query = turned(q_TD[t, part], t)
            logits = torch.stack([query @ turned(k_TD[s, part], s) / sqrt(E) for s in range(t + 1)])
            attended_TD[t, part] = torch.softmax(logits, dim=0) @ v_TD[: t + 1, part]
    x_TD = x_TD + layer.merge(attended_TD)
    return x_TD + layer.narrow(gelu(layer.widen(layer.forward_norm(x_TD))))


@torch.no_grad()
def test_it_is_attention_to_what_came_before_by_its_definition() -> None:
    module, window = build(), torch.tensor([3, 17, 3, 8, 30, 1])
    x_TD = module.item_embeddings.weight[window] * sqrt(8)
    for layer in module.layers:
        x_TD = layer_by_definition(layer, x_TD)
    torch.testing.assert_close(module(window[None])[0], module.norm(x_TD))


def test_what_comes_later_changes_nothing() -> None:
    module = build()
    windows = torch.randint(1, N_ITEMS + 1, (4, MAX_LEN))
    changed = windows.clone()
    changed[:, 7:] = torch.randint(0, N_ITEMS + 1, (4, MAX_LEN - 7))
    torch.testing.assert_close(module(changed)[:, :7], module(windows)[:, :7])


def test_attention_knows_how_far_apart_items_are_and_not_where_they_stand() -> None:
    module, layer = build(), build().layers[0]
    x_BTD = torch.randn(1, 5, 8)
    scores = []
    for start in (0, 1, 900):
        queries, seen = layer.projected(x_BTD, module.turns_at(torch.arange(start, start + 5)))
        scores.append(queries @ seen.keys.transpose(2, 3))
    torch.testing.assert_close(scores[1], scores[0])
    torch.testing.assert_close(scores[2], scores[0], rtol=0, atol=1e-4)


def test_step_by_step_equals_encode_at_every_length_up_to_the_longest(encoder: SASRecEncoder) -> None:
    windows = np.random.default_rng(0).integers(1, N_ITEMS + 1, (3, MAX_LEN))
    states = encoder.initial_states(3)
    for n in range(1, MAX_LEN + 1):
        states, vectors = encoder.step(states, windows[:, n - 1])
        whole_states, whole_vectors = encoder.encode(windows[:, :n])
        np.testing.assert_allclose(states, whole_states, atol=1e-5)
        np.testing.assert_allclose(vectors, whole_vectors, atol=1e-5)


def test_rows_of_all_lengths_step_together(encoder: SASRecEncoder) -> None:
    rows = np.tril(np.random.default_rng(1).integers(1, N_ITEMS + 1, (MAX_LEN, MAX_LEN)), -1)
    items = np.arange(1, MAX_LEN + 1)
    together = encoder.step(encoder.encode(rows)[0], items)
    for n in range(MAX_LEN):
        whole = encoder.encode(np.append(rows[n, :n], items[n])[None])
        np.testing.assert_allclose(together[0][n], whole[0][0], atol=1e-5)
        np.testing.assert_allclose(together[1][n], whole[1][0], atol=1e-5)


def test_a_window_longer_than_the_longest_is_refused(encoder: SASRecEncoder) -> None:
    full, _ = encoder.encode(np.ones((1, MAX_LEN), dtype=np.int64))
    with pytest.raises(ValueError, match=f"{MAX_LEN + 1} items, where the model reads at most {MAX_LEN}"):
        encoder.step(full, np.array([1]))
    with pytest.raises(ValueError, match="cut it to its newest items"):
        encoder.encode(np.ones((1, MAX_LEN + 1), dtype=np.int64))


def test_padding_takes_no_room(encoder: SASRecEncoder) -> None:
    padded = np.concatenate([np.zeros((1, 5), dtype=np.int64), np.arange(1, MAX_LEN + 1)[None]], axis=1)
    np.testing.assert_array_equal(encoder.encode(padded)[1], encoder.encode(padded[:, 5:])[1])


def test_the_state_is_a_cache_with_zeros_behind_its_items_and_the_query_vector(encoder: SASRecEncoder) -> None:
    states, vectors = encoder.encode(np.array([[0, 4, 9, 2], [0, 0, 0, 0]]))
    assert encoder.state_size == states.shape[1] == 3 * 2 * MAX_LEN * 8 + 1 + 8
    cache = states[0, :-9].reshape(3, 2, 2, MAX_LEN, 4)
    assert cache[:, :, :, :3].all()
    assert not cache[:, :, :, 3:].any()
    assert states[:, -9].tolist() == [3, 0]
    np.testing.assert_array_equal(states[:, -8:], vectors)


@pytest.mark.parametrize(("embedding_dim", "n_heads"), [(7, 1), (8, 3), (6, 2)])
def test_heads_that_are_not_of_pairs_are_refused(embedding_dim: int, n_heads: int) -> None:
    with pytest.raises(ValidationError, match=f"must be a multiple of {2 * n_heads}"):
        SASRecConfig(embedding_dim=embedding_dim, n_heads=n_heads)
