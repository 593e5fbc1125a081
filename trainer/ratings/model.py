"""Biased matrix factorisation: a rating is the mean, what user and item add to it, and how well the two go together.

    rating(u, i) = mean + b_u + b_i + p_u . q_i

Means, biases and vectors are those that minimise the squared error with a ridge on each, by alternating least squares:
given the items, each user's bias and vector are the solution of one small linear system, and the other way about.

Shape letters: ``R`` ratings, ``U`` users, ``N`` items, ``D`` embedding dimension.

References:
    Koren, Bell and Volinsky, "Matrix factorization techniques for recommender systems", Computer 2009.
    Zhou, Wilkinson, Schreiber and Pan, "Large-scale parallel collaborative filtering for the Netflix prize", AAIM 2008.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from encoders.compiled import compiled
from encoders.protocols import DoubleArray, IntArray
from trainer.errors import NothingToTrainError
from trainer.ratings.data import Ratings

SPREAD = 0.1
"""Standard deviation of the numbers in item vectors before the fit."""


class MeanConfig(BaseModel):
    """The mean of all ratings, for everybody and everything: what any model must better."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["mean"] = "mean"


class BiasesConfig(BaseModel):
    """The mean with what user and item add to it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["biases"] = "biases"
    bias_regularization: float = Field(default=5.0, gt=0)
    """Ridge on biases: so many ratings at the mean each user and each item is taken to have beside its own."""
    n_iterations: int = Field(default=15, ge=1)
    """Passes over the ratings."""


class RatingFactorsConfig(BaseModel):
    """Biased matrix factorisation. The defaults were chosen on MovieLens 100K, on validation."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model: Literal["mf-ratings"] = "mf-ratings"
    embedding_dim: int = Field(default=40, ge=1)
    """``D``."""
    regularization: float = Field(default=14.0, gt=0)
    """Ridge on vectors."""
    bias_regularization: float = Field(default=5.0, gt=0)
    """Ridge on biases."""
    n_iterations: int = Field(default=15, ge=1)
    """Passes over the ratings."""


RatingConfig = MeanConfig | BiasesConfig | RatingFactorsConfig


@dataclass(frozen=True)
class RatingFactors:
    """A fitted model. Of users and items without ratings all numbers are zero: they get the mean and what is known."""

    mean: float
    lowest: float
    highest: float
    """Ends of the scale, as far as it was seen."""
    user_biases: DoubleArray
    """Shape: ``(U,)``."""
    item_biases: DoubleArray
    """Shape: ``(N,)``."""
    user_vectors: DoubleArray
    """Shape: ``(U, D)``."""
    item_vectors: DoubleArray
    """Shape: ``(N, D)``."""

    def predict(self, users: IntArray, items: IntArray) -> DoubleArray:
        """What each user will give the item beside, within the scale. Shape: ``(R,)`` and ``(R,)`` to ``(R,)``."""
        going_together = np.einsum("rd,rd->r", self.user_vectors[users], self.item_vectors[items])
        deviations = self.user_biases[users] + self.item_biases[items] + going_together
        predicted: DoubleArray = np.clip(self.mean + deviations, self.lowest, self.highest)
        return predicted

    def predict_all(self, users: IntArray) -> DoubleArray:
        """What users will give each item, beyond the scale, too: within it many are equal. Shape: ``(B, N)``."""
        biases_BN = self.user_biases[users, None] + self.item_biases
        scores: DoubleArray = self.mean + biases_BN + self.user_vectors[users] @ self.item_vectors.T
        return scores


def fit_ratings(ratings: Ratings, config: RatingConfig, seed: int) -> RatingFactors:
    """Fit a model; two runs with one seed give the same.

    Args:
        ratings: What is learned.
        config: Which model, and how it is set.
        seed: Of what the item vectors are before the fit.

    Raises:
        NothingToTrainError: If there is no rating.
    """
    if not len(ratings):
        raise NothingToTrainError("nothing to fit: there is no rating")
    U, N = len(ratings.user_ids), len(ratings.item_ids)
    D = config.embedding_dim if isinstance(config, RatingFactorsConfig) else 0
    mean = float(ratings.values.mean())
    user_biases, item_biases = np.zeros(U), np.zeros(N)
    user_vectors = np.zeros((U, D))
    item_vectors = np.random.default_rng(seed).normal(0, SPREAD, (N, D))
    if not isinstance(config, MeanConfig):
        ridge = np.full(D + 1, config.regularization if isinstance(config, RatingFactorsConfig) else 0.0)
        ridge[0] = config.bias_regularization
        deviations = ratings.values - mean
        by_user, by_item = _Grouped.of(ratings.users, U), _Grouped.of(ratings.items, N)
        of_users = ratings.items[by_user.order], deviations[by_user.order]
        of_items = ratings.users[by_item.order], deviations[by_item.order]
        for _ in range(config.n_iterations):
            _solve(by_user.starts, *of_users, item_biases, item_vectors, ridge, user_biases, user_vectors)
            _solve(by_item.starts, *of_items, user_biases, user_vectors, ridge, item_biases, item_vectors)
    lowest, highest = float(ratings.values.min()), float(ratings.values.max())
    return RatingFactors(mean, lowest, highest, user_biases, item_biases, user_vectors, item_vectors)


@dataclass(frozen=True)
class _Grouped:
    """Ratings of each user, or of each item, one after the other."""

    order: IntArray
    """Shape: ``(R,)``."""
    starts: IntArray
    """Where the ratings of each begin, and at last where those of the last one end. Shape: ``(U + 1,)``."""

    @classmethod
    def of(cls, codes: IntArray, n: int) -> _Grouped:
        counts = np.bincount(codes, minlength=n)
        return cls(np.argsort(codes, kind="stable"), np.concatenate(([0], np.cumsum(counts))))


@compiled
def _solve(
    starts: IntArray,
    others: IntArray,
    deviations: DoubleArray,
    other_biases: DoubleArray,
    other_vectors: DoubleArray,
    ridge: DoubleArray,
    biases: DoubleArray,
    vectors: DoubleArray,
) -> None:
    """Set each one's bias and vector to the least squares over its ratings, given the other side's; zero without any.

    Shape:
        - starts: ``(U + 1,)``
        - others, deviations: ``(R,)``: the other side's code and the rating above the mean, grouped
        - other_biases, other_vectors: ``(N,)`` and ``(N, D)``
        - ridge: ``(D + 1,)``, the bias first
        - biases, vectors: ``(U,)`` and ``(U, D)``, written to
    """
    D = other_vectors.shape[1]
    features = np.ones(D + 1)
    for one in range(len(starts) - 1):
        start, stop = starts[one], starts[one + 1]
        biases[one] = 0.0
        vectors[one] = 0.0
        if start == stop:
            continue
        system, side = np.diag(ridge), np.zeros(D + 1)
        for rating in range(start, stop):
            other = others[rating]
            features[1:] = other_vectors[other]
            left = deviations[rating] - other_biases[other]
            for row in range(D + 1):
                side[row] += features[row] * left
                for column in range(row + 1):
                    system[row, column] += features[row] * features[column]
        for row in range(D + 1):
            for column in range(row):
                system[column, row] = system[row, column]
        solved = np.linalg.solve(system, side)
        biases[one] = solved[0]
        vectors[one] = solved[1:]
