"""User vectors folded in from a window are those that least squares gives."""

from __future__ import annotations

import numpy as np
import pytest
from implicit.cpu.als import AlternatingLeastSquares
from scipy.sparse import csr_matrix

from encoders.factors import FactorsConfig, FactorsEncoder, whitened
from encoders.protocols import FloatArray

N_ITEMS, D = 12, 5
REGULARIZATION = 0.7
FITTED = np.random.default_rng(5).normal(0, 0.5, (N_ITEMS, D)).astype(np.float32)


def encoder(alpha: float = 4.0, half_life: float | None = None, fitted: FloatArray = FITTED) -> FactorsEncoder:
    vectors = np.vstack([np.zeros((1, D), np.float32), whitened(fitted, REGULARIZATION)])
    return FactorsEncoder(FactorsConfig(embedding_dim=D, alpha=alpha, half_life=half_life), vectors)


def scores(given: FactorsEncoder, window: list[int]) -> FloatArray:
    """Of the items 1, 2, … Shape: ``(n_items,)``."""
    _, users = given.encode(np.array([window]))
    found: FloatArray = (users @ given.item_vectors.T)[0, 1:]
    return found


def least_squares(window: list[int], alpha: float, counts: list[float]) -> FloatArray:
    """Scores by the definition: one row for each event and each item, and one for each number of the user vector."""
    events = np.array(window) - 1
    weights = np.sqrt([*counts, *[1 / alpha] * N_ITEMS, *[REGULARIZATION / alpha] * D])
    rows = np.vstack([FITTED[events], FITTED, np.eye(D)])
    aims = np.array([1.0] * len(events) + [0.0] * (N_ITEMS + D))
    user, *_ = np.linalg.lstsq(rows * weights[:, None], aims * weights, rcond=None)
    found: FloatArray = FITTED @ user
    return found


def test_the_user_vector_minimises_what_the_definition_says() -> None:
    window = [3, 9, 3, 7]
    np.testing.assert_allclose(
        scores(encoder(half_life=2.0), window), least_squares(window, 4.0, [0.5**1.5, 0.5, 0.5**0.5, 1]), rtol=1e-4
    )


def test_without_decay_scores_are_those_of_an_als_library_but_for_their_scale() -> None:
    """Its aim is 1 for a pair that counts ``1 + alpha``, ours for one that counts ``alpha`` more than the others."""
    alpha, window = 4.0, [3, 9, 7]
    library = AlternatingLeastSquares(factors=D, regularization=REGULARIZATION, num_threads=1)
    library.item_factors, library.user_factors = FITTED, np.zeros((1, D), np.float32)
    chosen = csr_matrix((np.full(3, 1 + alpha, np.float32), ([0, 0, 0], np.array(window) - 1)), shape=(1, N_ITEMS))
    expected = FITTED @ library.recalculate_user(0, chosen).ravel()
    np.testing.assert_allclose(scores(encoder(alpha), window) * (1 + alpha) / alpha, expected, rtol=1e-4)


def test_an_event_counts_half_after_a_half_life() -> None:
    """So an event of ten half-lives ago moves next to nothing, and without decay the order is all the same."""
    fading, lasting = encoder(half_life=0.5), encoder()
    np.testing.assert_allclose(scores(fading, [1, *[8] * 5]), scores(fading, [2, *[8] * 5]), atol=2e-3)
    assert np.abs(scores(lasting, [1, *[8] * 5]) - scores(lasting, [2, *[8] * 5])).max() > 0.05
    np.testing.assert_allclose(scores(lasting, [1, 5, 9]), scores(lasting, [9, 1, 5]), rtol=1e-4)


def test_whitened_vectors_and_users_have_the_inner_products_that_they_had() -> None:
    vectors = whitened(FITTED, REGULARIZATION)
    gram = FITTED.T @ FITTED + REGULARIZATION * np.eye(D)
    np.testing.assert_allclose(vectors @ vectors.T, FITTED @ np.linalg.inv(gram) @ FITTED.T, atol=1e-5)


def test_what_is_whitened_needs_no_regularization_where_items_span_the_space() -> None:
    vectors = whitened(FITTED, 0.0)
    np.testing.assert_allclose(vectors.T @ vectors, np.eye(D), atol=1e-5)


def test_vectors_of_another_dimension_are_refused() -> None:
    with pytest.raises(ValueError, match="item vectors of 5 dimensions, not 6"):
        FactorsEncoder(FactorsConfig(embedding_dim=6), encoder().item_vectors)


def test_weights_that_nobody_knows_are_refused() -> None:
    fresh = encoder()
    with pytest.raises(ValueError, match="unknown weight 'bias'"):
        FactorsEncoder.load(fresh.config, {"bias": np.zeros(3)}, fresh.item_vectors)
