"""Figures of lists, against numbers worked out by hand, TorchMetrics, and definitions written out."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations
from math import log2

import numpy as np
import pytest
import torch
from torchmetrics.functional import retrieval

from trainer.evaluation.metrics import (
    KS,
    NOT_FOUND,
    category_vectors,
    coverage,
    diversity,
    exposure,
    gini,
    list_metrics,
    novelty,
    rank_metrics,
    recommended_popularity,
)

RANKS = np.array([0, 1, 3, 9, 10, NOT_FOUND])
REFERENCES: dict[str, Callable[..., torch.Tensor]] = {
    "hit_rate": retrieval.retrieval_hit_rate,
    "recall": retrieval.retrieval_recall,
    "precision": retrieval.retrieval_precision,
    "ndcg": retrieval.retrieval_normalized_dcg,
    "mrr": retrieval.retrieval_reciprocal_rank,
}


def test_recall_and_hit_rate_are_1_where_the_target_is_among_the_first_k() -> None:
    figures = rank_metrics(RANKS, [10])
    assert figures["recall@10"].tolist() == figures["hit_rate@10"].tolist() == [1, 1, 1, 1, 0, 0]


def test_ndcg_falls_with_the_logarithm_of_the_place() -> None:
    expected = [1, 1 / log2(3), 1 / log2(5), 1 / log2(11), 0, 0]
    assert rank_metrics(RANKS, [10])["ndcg@10"] == pytest.approx(expected)


def test_mrr_is_one_over_the_place() -> None:
    assert rank_metrics(RANKS, [10])["mrr@10"] == pytest.approx([1, 1 / 2, 1 / 4, 1 / 10, 0, 0])


def test_precision_counts_the_whole_list() -> None:
    assert rank_metrics(RANKS, [5])["precision@5"] == pytest.approx([1 / 5, 1 / 5, 1 / 5, 0, 0, 0])


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    assert rank_metrics(RANKS, [5])["f1@5"][0] == pytest.approx(2 * (1 / 5) * 1 / (1 / 5 + 1))


def test_a_target_that_is_nowhere_scores_0_at_any_length() -> None:
    assert all(values[5] == 0 for values in rank_metrics(RANKS, [10**9]).values())


def test_several_targets_share_the_recall() -> None:
    # Targets in the second and the fourth place, a third nowhere: the best there could be is the first three.
    figures = list_metrics(np.array([[7, 8, 9, 4]]), np.array([[8, 4, 5]]), ks=[4])
    ideal = 1 + 1 / log2(3) + 1 / log2(4)
    assert {name: values[0] for name, values in figures.items()} == pytest.approx(
        {
            "hit_rate@4": 1,
            "recall@4": 2 / 3,
            "precision@4": 1 / 2,
            "f1@4": 4 / 7,
            "ndcg@4": (1 / log2(3) + 1 / log2(5)) / ideal,
            "mrr@4": 1 / 2,
        }
    )


def test_padding_of_a_list_hits_no_padding_of_the_targets() -> None:
    figures = list_metrics(np.array([[3, 0, 0]]), np.array([[5, 0]]), ks=[3])
    assert all(values.tolist() == [0] for values in figures.values())


def test_a_query_without_targets_scores_0() -> None:
    figures = list_metrics(np.array([[3, 4]]), np.array([[0, 0]]), ks=[2])
    assert all(values.tolist() == [0] for values in figures.values())


def test_figures_beyond_the_lists_are_refused() -> None:
    with pytest.raises(ValueError, match="lists of 2 items have no figures at 5"):
        list_metrics(np.array([[3, 4]]), np.array([[1]]), ks=[1, 5])


def test_lists_with_one_target_score_as_its_rank() -> None:
    rng = np.random.default_rng(1)
    lists = np.stack([rng.permutation(np.arange(1, 31))[:20] for _ in range(200)])
    targets = rng.integers(1, 31, (200, 1))
    found = lists == targets
    ranks = np.where(found.any(axis=1), found.argmax(axis=1), NOT_FOUND)
    by_list, by_rank = list_metrics(lists, targets), rank_metrics(ranks)
    assert by_list.keys() == by_rank.keys()
    for name, values in by_rank.items():
        assert by_list[name] == pytest.approx(values), name


def test_random_lists_score_as_in_torchmetrics() -> None:
    rng = np.random.default_rng(0)
    n_items = 40
    order = np.stack([rng.permutation(np.arange(1, n_items + 1)) for _ in range(60)])
    targets = np.zeros((60, 6), dtype=np.int64)
    for row in targets:
        n = rng.integers(1, 7)
        row[:n] = rng.choice(np.arange(1, n_items + 1), n, replace=False)
    figures = list_metrics(order[:, :20], targets)
    falling = torch.arange(n_items, 0, -1, dtype=torch.float32)
    for name, reference in REFERENCES.items():
        for k in KS:
            relevant = [torch.from_numpy(np.isin(row, some)) for row, some in zip(order, targets, strict=True)]
            expected = [reference(falling, hits, top_k=k).item() for hits in relevant]
            assert figures[f"{name}@{k}"] == pytest.approx(expected, abs=1e-6), f"{name}@{k}"


def test_exposure_counts_lists_and_leaves_padding_out() -> None:
    assert exposure(np.array([[1, 3], [3, 0]]), n_items=4).tolist() == [1, 0, 2, 0]


def test_coverage_is_the_share_of_items_in_any_list() -> None:
    assert coverage(np.array([[1, 3], [3, 0]]), n_items=4) == 0.5


def test_gini_is_the_mean_difference_of_all_pairs_over_twice_the_mean() -> None:
    counts = np.random.default_rng(0).integers(0, 50, 30)
    expected = np.abs(counts[:, None] - counts).mean() / (2 * counts.mean())
    assert gini(counts) == pytest.approx(expected)


def test_gini_of_equal_exposure_is_0() -> None:
    assert gini(np.full(7, 3)) == pytest.approx(0)


def test_gini_of_no_exposure_is_0() -> None:
    assert gini(np.zeros(7)) == 0


def test_novelty_is_the_mean_self_information() -> None:
    # Of 8 interactions, items 1 to 3 have 4, 2 and 2: 1, 2 and 2 bits.
    assert novelty(np.array([[1, 2], [2, 3], [1, 0]]), np.array([0, 4, 2, 2])).tolist() == [1.5, 2.0, 1.0]


def test_an_item_without_interactions_is_as_novel_as_one_with_one() -> None:
    counts = np.array([0, 7, 1, 0])
    assert novelty(np.array([[2], [3]]), counts).tolist() == [3.0, 3.0]


def test_recommended_popularity_is_the_mean_count() -> None:
    assert recommended_popularity(np.array([[1, 2], [3, 0]]), np.array([9, 4, 2, 1])).tolist() == [3.0, 1.0]


def test_an_empty_list_has_no_novelty_and_no_popularity() -> None:
    lists, counts = np.zeros((1, 2), dtype=np.int64), np.array([0, 1])
    assert np.isnan([novelty(lists, counts)[0], recommended_popularity(lists, counts)[0]]).all()


def test_diversity_is_one_minus_the_mean_cosine_of_all_pairs() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(31, 8)).astype(np.float32)
    lists = np.stack([rng.permutation(np.arange(1, 31))[:10] for _ in range(5)])
    lists[4, 6:] = 0

    def cosine(a: int, b: int) -> float:
        return float(vectors[a] @ vectors[b] / np.linalg.norm(vectors[a]) / np.linalg.norm(vectors[b]))

    expected = [1 - np.mean([cosine(a, b) for a, b in combinations([i for i in row if i], 2)]) for row in lists]
    assert diversity(lists, vectors) == pytest.approx(expected, abs=1e-6)


def test_a_list_of_one_item_has_no_diversity() -> None:
    assert np.isnan(diversity(np.array([[1, 0]]), np.ones((2, 3), dtype=np.float32))).all()


def test_an_item_without_categories_resembles_none() -> None:
    vectors = category_vectors([["comedy"], ["comedy", "drama"], []])
    assert diversity(np.array([[1, 3], [1, 2]]), vectors) == pytest.approx([1, 1 - 1 / 2**0.5], abs=1e-6)
