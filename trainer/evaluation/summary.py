"""Answers as figures: means with intervals, differences between models, and what lists are like beside right.

Shape letters: ``Q`` queries, ``R`` resamples, ``M`` models, ``F`` figures of a model, ``N`` items, ``D`` dimensions.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np

from encoders.protocols import FloatArray
from trainer.evaluation.confidence import LEVEL, N_RESAMPLES, Matrix, percentiles, resampled_means
from trainer.evaluation.metrics import (
    KS,
    coverage,
    diversity,
    exposure,
    gini,
    novelty,
    rank_metrics,
    recommended_popularity,
)
from trainer.evaluation.run import Evaluation

BEYOND_AT = 10
"""Length of the lists that are judged beyond accuracy."""

Result = dict[str, Any]
"""What is written as JSON:

* ``dataset``, ``protocol``, ``n_queries``, ``n_users``, ``n_items``, ``n_periods``, ``level``, ``n_resamples``
* ``models``: by name ``figures``, by name ``mean``, ``low`` and ``high``; ``beyond``, by name a number;
  ``us_per_query`` and ``learning_us_per_query``; whoever fitted it may add ``fit``, by name a number
* ``differences``: of ``model`` over ``baseline``, for each pair of models, ``figures`` as above
* where models were asked live for items that the training part does not have, too: ``n_queries_with_new_items``,
  ``differences_with_new_items`` and of each model ``figures_with_new_items``
"""


def with_new_items(result: Result) -> Result | None:
    """The same result with the queries of new items among the others; None where there are none."""
    if "n_queries_with_new_items" not in result:
        return None
    models = {name: {**model, "figures": model["figures_with_new_items"]} for name, model in result["models"].items()}
    return {
        **result,
        "n_queries": result["n_queries_with_new_items"],
        "differences": result["differences_with_new_items"],
        "protocol": f"{result['protocol']}, new items included",
        "models": models,
    }


def summarise(
    evaluations: Sequence[Evaluation],
    ks: Sequence[int] = KS,
    item_vectors: FloatArray | None = None,
    n_resamples: int = N_RESAMPLES,
    level: float = LEVEL,
    seed: int = 0,
    dataset: str = "",
    protocol: str = "",
) -> Result:
    """All figures of models that were asked the same.

    Args:
        evaluations: One, or one for each period with the same models: figures are then means over the periods, each
            period counting the same.
        ks: Lengths of lists; none may be longer than those of the evaluation.
        item_vectors: What diversity is measured by, the same for all models; without them it is left out.
        n_resamples: ``R``, of the bootstrap.
        level: Of the intervals.
        seed: Of the bootstrap.
        dataset: What the page is to call the data set.
        protocol: What the page is to call the protocol.

    Raises:
        ValueError: If there is no evaluation or no model, nothing was asked, or lists are too short for a figure.

    Shape:
        - item_vectors: ``(N + 1, D)``
    """
    if not evaluations or not evaluations[0].answers:
        raise ValueError("there is no evaluation of a model to summarise")
    if max(ks) > (k := min(a.lists.shape[1] for e in evaluations for a in e.answers.values())):
        raise ValueError(f"lists of {k} items have no figures at {max(ks)}")
    figures = _Figures(evaluations, ks, n_resamples, level, seed)
    names = list(enumerate(evaluations[0].answers))
    models = {
        name: {
            "figures": figures.of(model),
            "beyond": _beyond(evaluations, name, item_vectors),
            **_cost(evaluations, name),
        }
        for model, name in names
    }
    differences = [
        {"model": name, "baseline": other, "figures": figures.difference(model, baseline)}
        for (baseline, other), (model, name) in combinations(names, 2)
    ]
    return {
        "dataset": dataset,
        "protocol": protocol,
        "n_queries": sum(len(e.users) for e in evaluations),
        "n_users": sum(len(np.unique(e.users)) for e in evaluations),
        "n_items": len(evaluations[0].item_counts) - 1,
        "n_periods": len(evaluations),
        "level": level,
        "n_resamples": n_resamples,
        "models": models,
        "differences": differences,
    }


class _Figures:
    """Means of all figures of all models, as they are and resampled. Models are numbered as they were named."""

    def __init__(
        self, evaluations: Sequence[Evaluation], ks: Sequence[int], n_resamples: int, level: float, seed: int
    ) -> None:
        self._columns, self._level = list(rank_metrics(np.zeros(0, dtype=np.int64), ks)), level
        means, resampled = [], []
        for period, evaluation in enumerate(evaluations):
            values_MFQ = np.array([[*rank_metrics(a.ranks, ks).values()] for a in evaluation.answers.values()])
            values_QX = values_MFQ.reshape(-1, len(evaluation.users)).T
            drawn_RX = resampled_means(values_QX, evaluation.users, n_resamples, seed + period)
            resampled.append(drawn_RX.reshape(n_resamples, *values_MFQ.shape[:2]))
            means.append(values_MFQ.mean(axis=2))
        self._means_MF: Matrix = np.mean(means, axis=0)
        self._resampled_RMF: Matrix = np.mean(resampled, axis=0)

    def of(self, model: int) -> dict[str, dict[str, float]]:
        """A model's figures."""
        return self._named(self._means_MF[model], self._resampled_RMF[:, model])

    def difference(self, model: int, baseline: int) -> dict[str, dict[str, float]]:
        """By how much a model's figures are above a baseline's."""
        means_MF, resampled_RMF = self._means_MF, self._resampled_RMF
        return self._named(means_MF[model] - means_MF[baseline], resampled_RMF[:, model] - resampled_RMF[:, baseline])

    def _named(self, means_F: Matrix, resampled_RF: Matrix) -> dict[str, dict[str, float]]:
        intervals = percentiles(means_F, resampled_RF, self._level)
        return {column: interval._asdict() for column, interval in zip(self._columns, intervals, strict=True)}


def _beyond(evaluations: Sequence[Evaluation], name: str, item_vectors: FloatArray | None) -> Mapping[str, float]:
    """What a model's lists are like; of periods the mean."""
    each = []
    for evaluation in evaluations:
        lists, counts = evaluation.answers[name].lists[:, :BEYOND_AT], evaluation.item_counts
        n_items, k = len(counts) - 1, lists.shape[1]
        figures = {
            f"coverage@{k}": coverage(lists, n_items),
            f"novelty@{k}": _mean(novelty(lists, counts)),
            f"popularity@{k}": _mean(recommended_popularity(lists, counts)),
            f"gini@{k}": gini(exposure(lists, n_items)),
        }
        if item_vectors is not None:
            figures[f"diversity@{k}"] = _mean(diversity(lists, item_vectors))
        each.append(figures)
    return {figure: float(np.mean([figures[figure] for figures in each])) for figure in each[0]}


def _mean(values: Matrix) -> float:
    """The mean over lists that are long enough for the figure; 0 if none is."""
    there = values[~np.isnan(values)]
    return float(there.mean()) if len(there) else 0.0


def _cost(evaluations: Sequence[Evaluation], name: str) -> dict[str, float]:
    """What a query took on average, and what was learned between two."""
    n_queries = sum(len(e.users) for e in evaluations)
    answers = [e.answers[name] for e in evaluations]
    return {
        "us_per_query": 1e6 * sum(a.seconds for a in answers) / n_queries,
        "learning_us_per_query": 1e6 * sum(a.learning_seconds for a in answers) / n_queries,
    }
