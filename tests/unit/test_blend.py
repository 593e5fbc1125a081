"""Fused lists, worked out by hand."""

from __future__ import annotations

from math import exp
from typing import get_args

import numpy as np
import pytest

from encoders.blend import Blend, LiveBlend, blend, learned_weights, logits_of
from encoders.fusion import Fusion, Lists, fuse, points
from encoders.gru import GRUConfig, GRUEncoder
from encoders.popularity import LivePopularity, PopularityRetriever
from encoders.protocols import LiveRetriever
from encoders.retrieval import EncoderRetriever
from encoders.session_knn import SessionKNN
from index.flat import FlatIndex

TWO = Lists(
    np.array([[[7, 8, 0]], [[8, 9, 4]]]),
    np.array([[[3.0, 1.0, -np.inf]], [[100.0, 70.0, 60.0]]], dtype=np.float32),
)
"""One window; the members know two items and three."""


def scores(lists: Lists, weights: list[float], fusion: str = "reciprocal_rank", k: int = 5) -> dict[int, float]:
    items, found = fuse(lists, weights, k, fusion)  # type: ignore[arg-type]
    return {item: score for item, score in zip(items[0].tolist(), found[0].tolist(), strict=True) if item}


def test_reciprocal_ranks_add_up() -> None:
    found = scores(TWO, [1, 1])
    assert list(found) == [8, 7, 9, 4]
    assert found == pytest.approx({8: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62, 4: 1 / 63})


def test_a_weight_multiplies_what_a_list_gives() -> None:
    assert scores(TWO, [3, 1]) == pytest.approx({8: 3 / 62 + 1 / 61, 7: 3 / 61, 9: 1 / 62, 4: 1 / 63})
    assert list(scores(TWO, [100, 1])) == [7, 8, 9, 4]


def test_scores_are_brought_between_0_and_1_and_add_up() -> None:
    """The lowest of a list gets 0, and is an answer all the same."""
    found = scores(TWO, [1, 2], "score")
    assert list(found) == [8, 7, 9, 4]
    assert found == pytest.approx({8: 0 + 2 * 1, 7: 1, 9: 2 * 0.25, 4: 0})


def test_a_list_of_equal_scores_gives_each_item_the_most() -> None:
    equal = Lists(np.array([[[5, 6, 0]]]), np.array([[[2.0, 2.0, -np.inf]]], dtype=np.float32))
    assert scores(equal, [3], "score") == {5: 3.0, 6: 3.0}


@pytest.mark.parametrize("fusion", get_args(Fusion))
def test_a_list_that_weighs_nothing_is_not_there(fusion: str) -> None:
    assert list(scores(TWO, [0, 1], fusion)) == [8, 9, 4]


@pytest.mark.parametrize("fusion", get_args(Fusion))
def test_an_item_struck_out_leaves_its_place_to_the_next(fusion: str) -> None:
    struck = Lists(np.array([[[7, 0, 8]]]), np.array([[[9.0, 8.0, 7.0]]], dtype=np.float32))
    left = Lists(np.array([[[7, 8, 0]]]), np.array([[[9.0, 7.0, -np.inf]]], dtype=np.float32))
    assert scores(struck, [1], fusion) == scores(left, [1], fusion)


def test_scores_become_probabilities_of_logits_by_softmax_and_of_counts_by_their_share() -> None:
    of_logits = exp(3) / (exp(3) + exp(1))
    expected = {7: of_logits, 8: 1 - of_logits + 2 * 100 / 230, 9: 2 * 70 / 230, 4: 2 * 60 / 230}
    assert scores(TWO._replace(logits_M=(True, False)), [1, 2], "probability") == pytest.approx(expected)
    assert scores(TWO, [1, 0], "probability") == pytest.approx({7: 3 / 4, 8: 1 / 4})


def test_logits_far_from_zero_and_lists_without_any_item_have_probabilities() -> None:
    items = np.array([[[5, 6], [0, 0]]])
    far = Lists(items, np.array([[[2000.0, 1999.0], [-np.inf, -np.inf]]], dtype=np.float32), (True,))
    likely = points(far, "probability")
    np.testing.assert_allclose(likely[0], [[1 / (1 + exp(-1)), 1 - 1 / (1 + exp(-1))], [0, 0]])
    np.testing.assert_array_equal(points(Lists(items, np.zeros(items.shape, dtype=np.float32)), "probability"), 0)


def test_an_encoder_answers_with_logits_and_whoever_counts_does_not() -> None:
    module = GRUEncoder.build(2, GRUConfig(embedding_dim=2, hidden_dim=2))
    encoder = EncoderRetriever(GRUEncoder(module), FlatIndex.build(np.ones((3, 2), dtype=np.float32)))
    popular = PopularityRetriever(np.array([0, 1], dtype=np.float32))
    assert logits_of([popular, encoder, Blend([encoder])]) == (False, True, False)
    assert blend([popular, encoder], fusion="probability").logits == (False, True)


def test_windows_are_fused_apart() -> None:
    lists = Lists(np.array([[[1], [0], [2]], [[3], [0], [2]]]), np.ones((2, 3, 1), dtype=np.float32))
    items, found = fuse(lists, [1, 2], 2)
    np.testing.assert_array_equal(items, [[3, 1], [0, 0], [2, 0]])
    np.testing.assert_allclose(found, [[2 / 61, 1 / 61], [-np.inf, -np.inf], [3 / 61, -np.inf]], rtol=1e-6)


def test_members_are_asked_for_more_than_is_answered() -> None:
    """Item 3 is second for both, and first together; a list of one alone would not show it."""
    one = PopularityRetriever(np.array([0, 9, 1, 8], dtype=np.float32))
    other = PopularityRetriever(np.array([0, 1, 9, 8], dtype=np.float32))
    window = np.array([[1]])
    assert blend([one, other], fusion="score").retrieve(window, 1)[0].tolist() == [[3]]
    assert blend([one, other], fusion="score", depth=1).retrieve(window, 1)[0].tolist() == [[1]]


def test_a_blend_learns_if_any_member_does() -> None:
    trained = PopularityRetriever(np.array([0, 1, 2], dtype=np.float32))
    live = blend([trained, SessionKNN(), LivePopularity()])
    assert isinstance(live, LiveBlend)
    assert isinstance(live, LiveRetriever)
    live.learn(np.array([1, 1, 2]), np.array([4, 5, 6]), np.zeros(3))
    answers = [member.retrieve(np.array([[4]]), 5)[0][0].tolist() for member in live.members]
    assert [sorted(filter(None, row)) for row in answers] == [[1, 2], [5], [4, 5, 6]]
    assert type(blend([trained])) is Blend
    assert not isinstance(blend([trained]), LiveRetriever)


@pytest.mark.parametrize("weights", [[1.0], [1.0, -1.0], [0.0, 0.0], [1.0, np.nan], [1.0, np.inf], [[1.0, 1.0]]])
def test_weights_that_make_no_sense_are_refused(weights: list[float]) -> None:
    one = PopularityRetriever(np.array([0, 1], dtype=np.float32))
    with pytest.raises(ValueError, match="2 members cannot have the weights"):
        blend([one, one], weights)


def test_a_blend_of_nobody_is_refused() -> None:
    with pytest.raises(ValueError, match="0 members"):
        blend([])


def test_weights_go_to_whom_is_right() -> None:
    wrong, right = [[9, 1], [9, 3], [9, 5]], [[1, 2], [3, 4], [5, 6]]
    lists = Lists(np.array([wrong, right]), np.zeros((2, 3, 2), dtype=np.float32))
    weights = learned_weights(lists, np.array([1, 3, 5]), k=1)
    assert weights.sum() == pytest.approx(1)
    items, _ = fuse(lists, weights, 1)
    assert items[:, 0].tolist() == [1, 3, 5]


def test_weights_stay_equal_where_nothing_is_better() -> None:
    lists = Lists(np.array([[[1, 2]], [[1, 2]], [[1, 2]]]), np.zeros((3, 1, 2), dtype=np.float32))
    np.testing.assert_allclose(learned_weights(lists, np.array([1]), k=2), [1 / 3] * 3)


def test_who_is_alone_has_all_the_weight() -> None:
    lists = Lists(np.array([[[1, 2]]]), np.zeros((1, 1, 2), dtype=np.float32))
    assert learned_weights(lists, np.array([2]), k=2).tolist() == [1.0]


def test_a_target_that_is_in_no_list_is_found_by_no_weights() -> None:
    lists = Lists(np.array([[[1, 2]], [[2, 0]]]), np.zeros((2, 1, 2), dtype=np.float32))
    assert learned_weights(lists, np.array([99]), k=2).tolist() == [0.5, 0.5]


def test_a_blend_can_find_more_than_each_member() -> None:
    """Each has its own first place wrong once, and then the target second, where the other has it first."""
    items = np.array([[[1, 2], [9, 3]], [[8, 1], [3, 4]]])
    lists = Lists(items, np.zeros(items.shape, dtype=np.float32))
    weights = learned_weights(lists, np.array([1, 3]), k=1)
    assert fuse(lists, weights, 1)[0][:, 0].tolist() == [1, 3]
    assert [[fuse(lists, one, 1)[0][:, 0].tolist()] for one in ([1, 0], [0, 1])] == [[[1, 9]], [[8, 3]]]


@pytest.mark.parametrize("fusion", get_args(Fusion))
@pytest.mark.parametrize("metric", ["mrr", "recall"])
def test_learned_weights_are_those_of_the_best_on_the_grid(fusion: str, metric: str) -> None:
    """Against fusing with every weight of the grid and counting."""
    rng = np.random.default_rng(3)
    items = np.stack([[rng.permutation(12)[:6] for _ in range(40)] for _ in range(2)])
    scores = -np.sort(-rng.random(items.shape).astype(np.float32), axis=2)
    lists, targets, k = Lists(items, scores), rng.integers(1, 12, 40), 3

    def value(share: float) -> float:
        hits = fuse(lists, [share, 1 - share], k, fusion)[0] == targets[:, None]  # type: ignore[arg-type]
        return float((hits / np.arange(1, k + 1)).sum() if metric == "mrr" else hits.sum())

    weights = learned_weights(lists, targets, k, metric, fusion)  # type: ignore[arg-type]
    assert value(float(weights[0])) == pytest.approx(max(map(value, np.linspace(0, 1, 21))))
