"""Items that an encoder was not trained on, put beside those that they are clicked with."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.blend import LiveBlend, blend
from encoders.bundle import ENCODERS, BundledEncoder
from encoders.live_encoder import LiveEncoder
from encoders.markov import Markov
from tests.small_encoders import small_encoder

N_ITEMS, D = 6, 4
NEW = 6
TRAINED = np.array([False, True, True, True, True, True, False])
"""All but item 6; the padding is none."""
WINDOWS = np.array([[0, 0, 1], [0, 2, 5], [3, 1, 4]])


def encoder(kind: str = "gru", n_items: int = N_ITEMS) -> BundledEncoder:
    return small_encoder(kind, n_items, D, hidden_dim=3, seed=1)


def click(model: LiveEncoder, *clicks: tuple[int, int]) -> None:
    """Sessions and items."""
    sessions, items = np.array(clicks, dtype=np.int64).T
    model.learn(sessions, items, np.zeros(len(items)))


def scores_of(model: LiveEncoder, windows: np.ndarray = WINDOWS, n_items: int = N_ITEMS) -> np.ndarray:
    """Score of each item number, minus infinity for what is not listed. Shape: ``(B, n_items + 1)``."""
    items, scores = model.retrieve(windows, n_items)
    found = np.full((len(windows), n_items + 1), -np.inf, dtype=np.float32)
    np.put_along_axis(found, items, scores, axis=1)
    found[:, 0] = -np.inf
    return found


def expected_scores(kind: str, vectors: np.ndarray, windows: np.ndarray = WINDOWS) -> np.ndarray:
    """Of an encoder that was loaded with these item vectors."""
    given = encoder(kind)
    loaded = ENCODERS[kind].load(given.config, given.weights, vectors)
    scores: np.ndarray = loaded.encode(windows)[1] @ vectors.T
    return scores


def test_trained_items_score_as_the_encoder_says_and_others_not_at_all() -> None:
    found = scores_of(LiveEncoder(encoder(), TRAINED))
    np.testing.assert_allclose(found[:, 1:NEW], expected_scores("gru", encoder().item_vectors)[:, 1:NEW], atol=1e-6)
    assert (found[:, NEW] == -np.inf).all()


@pytest.mark.parametrize("kind", ENCODERS)
def test_a_new_item_has_the_mean_of_the_vectors_before_and_behind_it(kind: str) -> None:
    model, vectors = LiveEncoder(encoder(kind), TRAINED), encoder(kind).item_vectors.copy()
    click(model, (7, 2), (8, 4), (7, NEW), (8, NEW), (8, 5), (9, NEW))
    vectors[NEW] = vectors[[2, 4, 5]].mean(axis=0)
    windows = np.array([[0, 0, 1], [2, NEW, 5], [0, 3, NEW]])
    found = scores_of(model, windows)
    np.testing.assert_allclose(found[:, 1:], expected_scores(kind, vectors, windows)[:, 1:], atol=1e-6)


def test_a_neighbour_counts_as_often_as_it_is_one() -> None:
    model, vectors = LiveEncoder(encoder(), TRAINED), encoder().item_vectors
    click(model, (1, 2), (1, NEW), (1, 2), (1, 3), (2, NEW), (2, 3))
    vector = (2 * vectors[2] + vectors[3]) / 3
    np.testing.assert_allclose(scores_of(model)[:, NEW], encoder().encode(WINDOWS)[1] @ vector, atol=1e-6)


def test_until_it_has_a_neighbour_a_new_item_is_passed_over() -> None:
    model = LiveEncoder(encoder(), TRAINED)
    click(model, (1, NEW), (1, NEW), (2, 3))
    with_it, without = (scores_of(model, np.array([window])) for window in ([2, NEW, 5], [0, 2, 5]))
    np.testing.assert_array_equal(with_it, without)
    assert (with_it[:, NEW] == -np.inf).all()


def test_a_new_item_beside_another_that_has_a_vector_gets_one() -> None:
    """Items 4, 5 and 6 are new: 5 stands beside 1, then 6 beside 5, and 4 beside 6 before that had a vector."""
    model = LiveEncoder(encoder(), np.arange(N_ITEMS + 1) < 4)
    click(model, (0, 4), (0, 6), (1, 1), (1, 5), (2, 5), (2, 6))
    found = scores_of(model)
    np.testing.assert_allclose(found[:, 5], found[:, 1], atol=1e-6)
    np.testing.assert_allclose(found[:, 6], found[:, 1], atol=1e-6)
    assert (found[:, 4] == -np.inf).all()


def test_a_new_item_is_no_neighbour_where_there_are_trained_ones() -> None:
    """Items 5 and 6 are new, and one after the other again and again; what says where they are is 1 and 2 beside 5."""
    model = LiveEncoder(encoder(), np.arange(N_ITEMS + 1) < 5)
    click(model, (0, 1), (0, 5), (0, 6), (0, 5), (0, 6), (0, 5), (1, 2), (1, 5))
    windows = np.array([[0, 0, 1], [0, 2, 4], [3, 1, 4]])
    vectors, queries = encoder().item_vectors, encoder().encode(windows)[1]
    found = scores_of(model, windows)
    np.testing.assert_allclose(found[:, 5], queries @ ((vectors[1] + vectors[2]) / 2), atol=1e-6)
    np.testing.assert_allclose(found[:, 6], queries @ vectors[1], atol=1e-6)
    click(model, (2, 3), (2, 6))  # in place of what it was lent
    np.testing.assert_allclose(scores_of(model, windows)[:, 6], queries @ vectors[3], atol=1e-6)


def test_a_repeated_click_says_nothing_of_where_an_item_is() -> None:
    model, vectors = LiveEncoder(encoder(), TRAINED), encoder().item_vectors
    click(model, (1, 2), (1, NEW), (1, NEW), (2, 3), (2, NEW))
    vector = (vectors[2] + vectors[3]) / 2
    np.testing.assert_allclose(scores_of(model)[:, NEW], encoder().encode(WINDOWS)[1] @ vector, atol=1e-6)


def test_what_was_trained_stays_where_it_is() -> None:
    model = LiveEncoder(encoder(), TRAINED)
    before = scores_of(model)
    click(model, *((s, 1 + (s + i) % N_ITEMS) for s in range(20) for i in range(4)))
    np.testing.assert_array_equal(scores_of(model)[:, 1:NEW], before[:, 1:NEW])


def test_the_encoder_that_was_given_stays_as_it_is() -> None:
    given = encoder()
    model, vectors = LiveEncoder(given, TRAINED), given.item_vectors.copy()
    window = np.array([[NEW]])
    _, query = given.encode(window)
    click(model, (1, 2), (1, NEW))
    np.testing.assert_array_equal(given.item_vectors, vectors)
    np.testing.assert_array_equal(given.encode(window)[1], query)


@pytest.mark.parametrize("kind", ENCODERS)
def test_an_item_beyond_all_that_the_encoder_has_gets_room(kind: str) -> None:
    model = LiveEncoder(encoder(kind), TRAINED)
    before = scores_of(model)
    click(model, (1, 2), (1, NEW), (2, 3), (2, 900))
    items, scores = model.retrieve(np.array([[0, 0, 900]]), 10)
    assert sorted(items[0]) == [0, 0, 0, 1, 2, 3, 4, 5, 6, 900]
    of = dict(zip(items[0].tolist(), scores[0].tolist(), strict=True))
    assert (of[900], of[NEW]) == pytest.approx((of[3], of[2]), abs=1e-6)
    np.testing.assert_allclose(scores_of(model, n_items=900)[:, 1:NEW], before[:, 1:NEW], atol=1e-6)


def test_of_a_session_that_was_long_ago_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("encoders.live_encoder.MAX_CLICKS", 1024)
    model = LiveEncoder(encoder(), TRAINED)
    click(model, (1, 2), *((s, 1) for s in range(10, 1034)), (1, NEW))
    assert (scores_of(model)[:, NEW] == -np.inf).all()


def test_marks_of_another_number_of_items_are_refused() -> None:
    with pytest.raises(ValueError, match="6 marks for 7 item vectors"):
        LiveEncoder(encoder(), TRAINED[:-1])


def test_in_a_blend_its_scores_are_logits() -> None:
    mixed = blend([LiveEncoder(encoder(), TRAINED), Markov()], fusion="probability")
    assert isinstance(mixed, LiveBlend)
    assert mixed.logits == (True, False)


def test_many_windows_are_answered_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    model, windows = LiveEncoder(encoder(), TRAINED), np.arange(60).reshape(20, 3) % 5 + 1
    expected = scores_of(model, windows)
    monkeypatch.setattr("encoders.live_encoder._SCORES_AT_ONCE", 3 * (N_ITEMS + 1))
    np.testing.assert_allclose(scores_of(model, windows), expected, atol=1e-6)
