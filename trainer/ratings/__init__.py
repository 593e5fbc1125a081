"""Explicit ratings: what a user will give an item, and how far off that is.

Recommending is asked by rank (`trainer.evaluation`); this is the other classic task, on data sets with stars. Nothing
of it is served: windows hold which items a user had, not what was said of them.

Example:
    How far off biased matrix factorisation is, over five folds::

        ratings, dropped = read_ratings(set_folder("ml-100k"))
        models = {"biases": BiasesConfig(), "mf-ratings": RatingFactorsConfig()}
        result = cross_validate(ratings, models, {0: rounds(ratings, 5, seed=0)}, 4.0, report)
        result["models"]["mf-ratings"]["figures"]["rmse"]  # {"mean": …, "low": …, "high": …}
"""

from trainer.ratings.data import Ratings, Round, read_ratings, rounds, validation_rounds
from trainer.ratings.evaluation import cross_validate
from trainer.ratings.model import BiasesConfig, MeanConfig, RatingFactors, RatingFactorsConfig, fit_ratings

__all__ = [
    "BiasesConfig",
    "MeanConfig",
    "RatingFactors",
    "RatingFactorsConfig",
    "Ratings",
    "Round",
    "cross_validate",
    "fit_ratings",
    "read_ratings",
    "rounds",
    "validation_rounds",
]
