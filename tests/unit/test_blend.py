"""Fused lists, worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.blend import Blend, LiveBlend, ask_all, blend, learned_weights
from encoders.fusion import Lists, fuse
from encoders.popularity import LivePopularity, PopularityRetriever
from encoders.protocols import LiveRetriever
from encoders.session_knn import SessionKNN

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


@pytest.mark.parametrize("fusion", ["reciprocal_rank", "score"])
def test_a_list_that_weighs_nothing_is_not_there(fusion: str) -> None:
    assert list(scores(TWO, [0, 1], fusion)) == [8, 9, 4]


@pytest.mark.parametrize("fusion", ["reciprocal_rank", "score"])
def test_an_item_struck_out_leaves_its_place_to_the_next(fusion: str) -> None:
    struck = Lists(np.array([[[7, 0, 8]]]), np.array([[[9.0, 8.0, 7.0]]], dtype=np.float32))
    left = Lists(np.array([[[7, 8, 0]]]), np.array([[[9.0, 7.0, -np.inf]]], dtype=np.float32))
    assert scores(struck, [1], fusion) == scores(left, [1], fusion)


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
    lists = ask_all(live.members, np.array([[4]]), 5)
    assert [sorted(filter(None, row)) for row in lists.items_MBD[:, 0].tolist()] == [[1, 2], [5], [4, 5, 6]]
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


@pytest.mark.parametrize("fusion", ["reciprocal_rank", "score"])
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
