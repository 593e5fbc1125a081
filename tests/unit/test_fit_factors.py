"""Item vectors from who chose what."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from encoders.factors import FactorsEncoder
from encoders.protocols import IntArray
from tests.logs import make_log
from trainer.errors import NothingToTrainError, TrainingError
from trainer.factors import fit_factors
from trainer.interactions import Interactions
from trainer.settings import FactorsSettings

SMALL = FactorsSettings(embedding_dim=4, regularization=10.0)
OBJECTIVES = [SMALL, SMALL.model_copy(update={"objective": "bpr", "n_iterations": 200, "learning_rate": 0.05})]


def two_tastes(n_users: int = 120) -> Interactions:
    """Users choose seven of the nine even items or of the nine odd ones; item 0 is chosen by nobody."""
    rng = np.random.default_rng(2)
    chosen = [(user, 2 * (1 + item) - user % 2) for user in range(n_users) for item in rng.permutation(9)[:7]]
    return make_log([(user, item, n) for n, (user, item) in enumerate(chosen)])


def taste(log: Interactions, parity: int) -> IntArray:
    """Item numbers of one taste."""
    chosen: IntArray = np.unique(log.item_codes[log.user_codes % 2 == parity]) + 1
    return chosen


def best(encoder: FactorsEncoder, window: list[int], k: int) -> set[int]:
    """Numbers of the ``k`` items with the highest scores."""
    scores = (encoder.encode(np.array([window]))[1] @ encoder.item_vectors.T)[0]
    return {int(item) + 1 for item in np.argsort(-scores[1:])[:k]}


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.objective)
def test_who_chose_items_of_a_taste_is_told_the_others(settings: FactorsSettings) -> None:
    log = two_tastes()
    encoder = fit_factors(log, len(log.item_ids), settings, seed=0)
    for parity in (0, 1):
        items = taste(log, parity).tolist()
        assert best(encoder, items[:3], len(items)) == set(items)


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.objective)
def test_one_seed_gives_one_model(settings: FactorsSettings) -> None:
    log = two_tastes()
    first, again, other = (fit_factors(log, len(log.item_ids), settings, seed).item_vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


@pytest.mark.parametrize("settings", OBJECTIVES, ids=lambda s: s.objective)
def test_items_without_events_and_padding_have_vectors_of_zeros(settings: FactorsSettings) -> None:
    log = two_tastes()
    n_known = len(log.item_ids)
    vectors = fit_factors(log, n_known + 3, settings, seed=0).item_vectors
    assert vectors.shape == (n_known + 4, settings.embedding_dim)
    chosen = np.unique(log.item_codes) + 1
    assert (vectors[chosen] != 0).any(axis=1).all()
    assert (np.delete(vectors, chosen, axis=0) == 0).all()


def test_events_that_count_nothing_are_not_learned() -> None:
    """A dislike of all items of the other taste changes nothing."""
    log = two_tastes()
    dislikes = replace(log, type_codes=np.full_like(log.type_codes, 10), item_codes=log.item_codes[::-1].copy())
    parts = ("user_codes", "item_codes", "times_ms", "type_codes", "partitions", "offsets")
    both = replace(log, **{p: np.concatenate([getattr(log, p), getattr(dislikes, p)]) for p in parts})
    np.testing.assert_array_equal(
        fit_factors(both, len(log.item_ids), SMALL, 0).item_vectors,
        fit_factors(log, len(log.item_ids), SMALL, 0).item_vectors,
    )
    with pytest.raises(NothingToTrainError, match="no event says that somebody chose an item"):
        fit_factors(dislikes, len(log.item_ids), SMALL, 0)


def test_the_user_vector_of_the_fit_is_the_one_that_is_folded_in() -> None:
    """Without decay, after the last step for items there is one more for users, whose result is what they get."""
    log = two_tastes()
    plain = SMALL.model_copy(update={"half_life": None, "n_iterations": 60})
    encoder = fit_factors(log, len(log.item_ids), plain, seed=0)
    windows = np.stack([log.item_codes[log.user_codes == user] + 1 for user in range(10)])
    chosen = np.take_along_axis(encoder.encode(windows)[1] @ encoder.item_vectors.T, windows, axis=1)
    assert (chosen > 0.5).all()


def test_numbers_that_are_none_are_an_error_that_says_what_to_change() -> None:
    log = two_tastes()
    wild = SMALL.model_copy(update={"objective": "bpr", "learning_rate": 1e30})
    with pytest.raises(TrainingError, match=r"bpr ended in numbers that are none .* lower mf\.alpha"):
        fit_factors(log, len(log.item_ids), wild, seed=0)


def test_every_pass_is_reported() -> None:
    seen: list[int] = []
    log = two_tastes()
    fit_factors(log, len(log.item_ids), SMALL, seed=0, show=seen.append)
    assert seen == [*range(1, SMALL.n_iterations + 1)]
