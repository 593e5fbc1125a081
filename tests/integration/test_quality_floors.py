"""Every model by name, fitted briefly to MovieLens 100K, above a floor below which it counts as broken.

Measured were .032, .075, .076, .111, .069, .077, .073 and .081, in the order below, and .031 for encoders that were
fitted to targets in random order: they learn what is popular, and nothing of what follows what.
"""

from __future__ import annotations

import pytest

from tests.rankers import Silent
from trainer.errors import DatasetError
from trainer.evaluation import EvaluationSet, read_set, set_folder
from trainer.movielens import fetch_movielens_100k
from trainer.quality.compare import compare, entrants
from trainer.quality.contenders import Configuration, read_configuration
from trainer.quality.models import Workshop
from trainer.ratings import BiasesConfig, RatingFactorsConfig, cross_validate, read_ratings, validation_rounds

CONFIGURATION = """
windows = "served"

[gru]
max_epochs = 1

[lstm]
max_epochs = 2

[lru]
max_epochs = 2

[sasrec]
max_epochs = 3
dropout = 0.2
"""


@pytest.fixture(scope="module")
def data() -> EvaluationSet:
    """MovieLens 100K, from the folder of data sets or as the demo gets it."""
    try:
        return read_set(set_folder("ml-100k"))
    except DatasetError:
        return read_set(fetch_movielens_100k(print))


@pytest.fixture(scope="module")
def configuration(tmp_path_factory: pytest.TempPathFactory) -> Configuration:
    path = tmp_path_factory.mktemp("quick") / "ml-100k.toml"
    path.write_text(CONFIGURATION)
    return read_configuration(path)


@pytest.mark.parametrize(
    ("model", "floor"),
    [
        *(("popularity", 0.025), ("markov", 0.06), ("session-knn", 0.06), ("mf", 0.09)),
        *(("gru", 0.055), ("lstm", 0.055), ("lru", 0.055), ("sasrec", 0.06)),
    ],
)
def test_a_model_that_is_fitted_briefly_is_above_its_floor(
    model: str, floor: float, data: EvaluationSet, configuration: Configuration
) -> None:
    """By global time, every next step: ndcg@10 over all items."""
    workshop = Workshop(None, 0.1, Silent())
    result = compare(data, configuration.settings, entrants(configuration.pick([model]), [0]), workshop, Silent())
    assert result["models"][model]["figures"]["ndcg@10"]["mean"] > floor


def test_biased_matrix_factorisation_is_less_far_off_than_biases() -> None:
    """Measured on the validation part: an rmse of .925, beside .948 of biases and 1.134 of the mean."""
    try:
        folder = set_folder("ml-100k")
    except DatasetError:
        folder = fetch_movielens_100k(print)
    ratings, _ = read_ratings(folder)
    models = {"biases": BiasesConfig(), "mf-ratings": RatingFactorsConfig()}
    result = cross_validate(ratings, models, {0: validation_rounds(ratings, 5, seed=0)}, 4.0, Silent())
    assert result["models"]["mf-ratings"]["figures"]["rmse"]["mean"] < 0.935
    assert result["differences"][0]["figures"]["rmse"]["high"] < 0
