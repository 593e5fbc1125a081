"""Matrix factorisation of implicit feedback: item vectors by alternating least squares, or from pairs (BPR).

References:
    Hu, Koren and Volinsky, "Collaborative filtering for implicit feedback datasets", ICDM 2008.
    Takács, Pilászy and Tikk, "Applications of the conjugate gradient method for implicit feedback collaborative
    filtering", RecSys 2011.
    Rendle, Freudenthaler, Gantner and Schmidt-Thieme, "BPR: Bayesian personalized ranking from implicit feedback",
    UAI 2009.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from implicit.cpu.als import AlternatingLeastSquares
from implicit.cpu.bpr import BayesianPersonalizedRanking
from implicit.recommender_base import ModelFitError
from scipy.sparse import csr_matrix

from encoders.factors import FactorsConfig, FactorsEncoder, whitened
from encoders.protocols import FloatArray
from trainer.errors import NothingToTrainError, TrainingError
from trainer.interactions import Interactions
from trainer.settings import FactorsSettings


def fit_factors(
    events: Interactions,
    n_items: int,
    settings: FactorsSettings,
    seed: int,
    threads: int = 1,
    show: Callable[[int], None] = lambda iteration: None,
) -> FactorsEncoder:
    """Fit item vectors; those of items without events are zero.

    Two runs with one seed give the same, to the bit with ALS, and with BPR on one thread.

    Args:
        events: What is learned, items of code 0, 1, … having numbers 1, 2, …
        n_items: Highest item number.
        settings: How.
        seed: Of what the vectors are before the fit, and of BPR's pairs.
        threads: Processors.
        show: Told how many passes are over.

    Raises:
        NothingToTrainError: If no event says that somebody chose something.
        TrainingError: If a number stops being one.
    """
    weights = events.weights.astype(np.float32)
    if not weights.any():
        raise NothingToTrainError("nothing to factorise: no event says that somebody chose an item")
    shape = (int(events.user_codes.max()) + 1, n_items)
    chosen = csr_matrix((weights, (events.user_codes, events.item_codes)), shape=shape)
    chosen.eliminate_zeros()
    fit = _als if settings.objective == "als" else _bpr
    known = np.unique(chosen.indices)
    vectors = np.zeros((n_items + 1, settings.embedding_dim), dtype=np.float32)
    try:
        fitted = fit(chosen, settings, {"random_state": seed, "num_threads": threads}, show)
        vectors[known + 1] = whitened(fitted[known], settings.regularization)
    except (ModelFitError, np.linalg.LinAlgError) as error:
        raise TrainingError(
            f"{settings.objective} ended in numbers that are none ({error}); lower mf.alpha or mf.learning_rate, or "
            "raise mf.regularization"
        ) from error
    how = settings.model_dump(include=set(FactorsConfig.model_fields))
    return FactorsEncoder(FactorsConfig.model_validate(how), vectors)


def _als(chosen: csr_matrix, settings: FactorsSettings, run: dict[str, int], show: Callable[[int], None]) -> FloatArray:
    """Item vectors by least squares: a pair without an event counts 1. Shape: ``(n_items, D)``."""
    model = AlternatingLeastSquares(
        factors=settings.embedding_dim,
        regularization=settings.regularization,
        iterations=settings.n_iterations,
        **run,
    )
    confidence = settings.alpha * chosen
    confidence.data += 1
    model.fit(confidence, show_progress=False, callback=lambda iteration, *_: show(iteration + 1))
    factors: FloatArray = model.item_factors
    return factors


def _bpr(chosen: csr_matrix, settings: FactorsSettings, run: dict[str, int], show: Callable[[int], None]) -> FloatArray:
    """Item vectors from pairs; the last number of each is the item's bias. Shape: ``(n_items, D)``."""
    model = BayesianPersonalizedRanking(
        factors=settings.embedding_dim - 1,
        learning_rate=settings.learning_rate,
        regularization=settings.pair_regularization,
        iterations=settings.n_iterations,
        **run,
    )
    model.fit(chosen, show_progress=False, callback=lambda iteration, *_: show(iteration + 1))
    factors: FloatArray = model.item_factors
    return factors
