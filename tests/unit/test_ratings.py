"""Explicit ratings: read, cut into rounds, fitted and asked for."""

from __future__ import annotations

import json
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.comparison import Part
from streams.cli.ratings import RatingsTask, evaluate_ratings
from tests.rankers import Silent
from trainer.errors import ContenderError, DatasetError, NothingToTrainError
from trainer.quality.goals import Goals
from trainer.quality.page import draw_page
from trainer.ratings import (
    BiasesConfig,
    MeanConfig,
    RatingFactorsConfig,
    Ratings,
    Round,
    cross_validate,
    fit_ratings,
    read_ratings,
    rounds,
    validation_rounds,
)
from trainer.ratings.configuration import pick_rating_models
from trainer.ratings.data import folds

NO_GOALS = Goals(tolerance=0.03, goal=(), published=())
HEADER = "user_id,item_id,timestamp,event_type,value\n"


def some_ratings(triples: list[tuple[int, int, float]], n_users: int = 0, n_items: int = 0) -> Ratings:
    users, items, values = (np.array(column) for column in zip(*triples, strict=True))
    n_users, n_items = max(n_users, int(users.max()) + 1), max(n_items, int(items.max()) + 1)
    ids = [f"u{n}" for n in range(n_users)], [f"i{n}" for n in range(n_items)]
    return Ratings("some", *ids, users, items, values.astype(np.float64))


def planted(n_users: int = 60, n_items: int = 40, seed: int = 0) -> Ratings:
    """Half of all ratings of users and items with biases and a taste each."""
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((n_users, n_items)) < 0.5)
    own, its = rng.normal(0, 0.5, n_users), rng.normal(0, 0.5, n_items)
    taste, kind = rng.normal(0, 1, (n_users, 2)), rng.normal(0, 1, (n_items, 2))
    values = np.clip(3 + own[users] + its[items] + (taste[users] * kind[items]).sum(axis=1), 1, 5)
    return some_ratings(list(zip(users.tolist(), items.tolist(), values.tolist(), strict=True)))


def test_a_user_without_ratings_gets_the_items_bias_and_an_unknown_item_the_mean() -> None:
    ratings = some_ratings([(0, 0, 5.0), (1, 0, 5.0), (0, 1, 2.0)], n_users=3, n_items=3)
    model = fit_ratings(ratings, RatingFactorsConfig(embedding_dim=2), seed=0)
    assert model.predict(np.array([2]), np.array([2])) == pytest.approx([4.0])
    assert model.predict(np.array([2]), np.array([0])) == pytest.approx([4.0 + model.item_biases[0]])
    assert model.item_biases[0] > 0 > model.item_biases[1]


def test_biases_of_one_item_are_the_deviation_shrunk_by_the_ridge() -> None:
    """With one user to an item and the other way about, b (n + ridge) is the sum of what is left."""
    ratings = some_ratings([(0, 0, 5.0), (1, 1, 1.0)])
    model = fit_ratings(ratings, BiasesConfig(bias_regularization=1.0, n_iterations=50), seed=0)
    # b = (2 - c) / 2 and c = (2 - b) / 2 meet at 2 / 3.
    np.testing.assert_allclose(model.user_biases, [2 / 3, -2 / 3], atol=1e-6)
    np.testing.assert_allclose(model.item_biases, [2 / 3, -2 / 3], atol=1e-6)


def test_at_the_end_the_gradient_of_the_loss_is_zero() -> None:
    ratings, ridge = planted(), 3.0
    config = RatingFactorsConfig(embedding_dim=2, regularization=ridge, bias_regularization=1.5, n_iterations=400)
    model = fit_ratings(ratings, config, seed=1)
    users, items = ratings.users, ratings.items
    scores = model.predict_all(np.arange(len(ratings.user_ids)))[users, items]
    off = ratings.values - scores
    for codes, others, biases, vectors, other_vectors in (
        (users, items, model.user_biases, model.user_vectors, model.item_vectors),
        (items, users, model.item_biases, model.item_vectors, model.user_vectors),
    ):
        of_biases = np.bincount(codes, off, len(biases)) - 1.5 * biases
        of_vectors = -ridge * vectors
        np.add.at(of_vectors, codes, off[:, None] * other_vectors[others])
        np.testing.assert_allclose(of_biases, 0, atol=1e-3)
        np.testing.assert_allclose(of_vectors, 0, atol=1e-3)


def test_predictions_stay_within_the_scale_and_scores_do_not() -> None:
    ratings = some_ratings([(user, item, 5.0 if item else 1.0) for user in range(30) for item in range(2)])
    model = fit_ratings(ratings, RatingFactorsConfig(embedding_dim=1, regularization=1e-3, bias_regularization=1e-3), 0)
    assert model.predict(ratings.users, ratings.items).max() <= 5.0
    assert model.predict(np.array([0]), np.array([1])) == pytest.approx([5.0], abs=0.01)


def test_one_seed_gives_one_model_and_another_seed_another() -> None:
    ratings, config = planted(), RatingFactorsConfig(embedding_dim=3, regularization=0.5, n_iterations=2)
    first, again, other = (fit_ratings(ratings, config, seed).item_vectors for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_planted_tastes_are_found() -> None:
    ratings = planted(n_users=200)
    models = {
        "mean": MeanConfig(),
        "biases": BiasesConfig(),
        "mf": RatingFactorsConfig(embedding_dim=2, regularization=2),
    }
    result = cross_validate(ratings, models, {0: rounds(ratings, 4, seed=0)}, 4.0, Silent())
    rmse = {name: model["figures"]["rmse"]["mean"] for name, model in result["models"].items()}
    assert rmse["mf"] < 0.6 * rmse["biases"]
    assert rmse["biases"] < rmse["mean"]
    for figure in ("f1", "precision@10", "recall@10"):
        assert result["models"]["mf"]["figures"][figure]["low"] > result["models"]["biases"]["figures"][figure]["high"]
    differences = {(pair["model"], pair["baseline"]): pair["figures"]["rmse"] for pair in result["differences"]}
    assert differences["mf", "biases"]["mean"] == pytest.approx(rmse["mf"] - rmse["biases"])
    assert differences["mf", "biases"]["high"] < 0


def test_nothing_to_fit_is_an_error() -> None:
    with pytest.raises(NothingToTrainError):
        fit_ratings(planted().where(np.zeros(len(planted()), dtype=bool)), MeanConfig(), seed=0)


def test_figures_are_those_worked_out_by_hand() -> None:
    """The mean of what is known, 4, is right for one, off by 2 and by 1 for the others; lists hold all that is left."""
    ratings = some_ratings([(0, 0, 4.0), (1, 1, 4.0), (0, 1, 4.0), (0, 2, 2.0), (1, 0, 5.0)])
    known = np.array([True, True, False, False, False])
    result = cross_validate(ratings, {"mean": MeanConfig()}, {0: [Round(known, ~known)]}, 4.0, Silent())
    figures = {name: value["mean"] for name, value in result["models"]["mean"]["figures"].items()}
    assert figures["rmse"] == pytest.approx(np.sqrt(5 / 3))
    assert figures["mae"] == pytest.approx(1.0)
    assert (figures["precision"], figures["recall"], figures["f1"]) == pytest.approx((2 / 3, 1.0, 0.8))
    assert (figures["precision@10"], figures["recall@10"], figures["f1@10"]) == pytest.approx((0.1, 1.0, 2 / 11))


def test_a_list_holds_nothing_that_is_known() -> None:
    """Ten better items are known to the user, so the eleventh is first."""
    mine = [(0, item, 5.0) for item in range(10)] + [(0, 10, 4.0)]
    ratings = some_ratings([*mine, *((1, item, 5.0 - item / 10) for item in range(30))])
    is_asked = np.arange(len(ratings)) == 10
    result = cross_validate(ratings, {"b": BiasesConfig()}, {0: [Round(~is_asked, is_asked)]}, 4.0, Silent())
    assert result["models"]["b"]["figures"]["recall@10"]["mean"] == 1.0


def test_every_rating_is_asked_for_once_and_never_known_then() -> None:
    ratings = planted()
    found = rounds(ratings, 5, seed=3)
    np.testing.assert_array_equal(sum(each.is_asked.astype(int) for each in found), 1)
    assert not any((each.is_known & each.is_asked).any() for each in found)
    counts = np.array([np.bincount(ratings.users[each.is_asked], minlength=60) for each in found])
    assert (counts.max(axis=0) - counts.min(axis=0)).max() <= 1


def test_validation_knows_nothing_of_what_the_first_round_asks_for() -> None:
    ratings = planted()
    (validation,), first = validation_rounds(ratings, 5, seed=3), rounds(ratings, 5, seed=3)[0]
    assert not (first.is_asked & (validation.is_known | validation.is_asked)).any()
    assert not (validation.is_known & validation.is_asked).any()
    np.testing.assert_array_equal(validation.is_known | validation.is_asked, first.is_known)


def test_few_ratings_of_each_user_are_spread_over_the_folds() -> None:
    users = np.arange(3_000) // 2
    counts = np.bincount(folds(users, 5, seed=0), minlength=5)
    assert counts.min() > 500


def write_set(folder: Path, rows: str) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "events.csv").write_text(HEADER + rows)
    return folder


def test_the_newest_of_several_ratings_counts_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    folder = write_set(
        tmp_path / "set",
        "u,a,5,rating,2\nu,a,9,rating,4.5\nu,b,1,rating,\nu,b,2,rating,nan\nu,c,3,rating,three\nu,a,10,view,\nv,a,1,rating,1\n",
    )
    ratings, left_out = read_ratings(folder)
    users = [ratings.user_ids[code] for code in ratings.users]
    assert sorted(zip(users, ratings.values.tolist(), strict=True)) == [("u", 4.5), ("v", 1.0)]
    assert left_out == {
        "events of other types than rating": 1,
        "ratings without a number of stars": 3,
        "ratings that their user changed later": 1,
    }


def test_ratings_csv_of_grouplens_is_read(tmp_path: Path) -> None:
    (tmp_path / "ratings.csv").write_text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,32,4.0,1260759179\n")
    ratings, left_out = read_ratings(tmp_path)
    assert ratings.values.tolist() == [2.5, 4.0]
    assert not left_out


def test_a_set_without_ratings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"holds no ratings.*2 events of other types"):
        read_ratings(write_set(tmp_path / "set", "u,a,1,view,\nv,b,2,click,\n"))


@pytest.fixture
def asked(tmp_path: Path) -> RatingsTask:
    ratings = planted()
    rows = "".join(
        f"u{user},i{item},{n},rating,{round(value)}\n"
        for n, (user, item, value) in enumerate(zip(ratings.users, ratings.items, ratings.values, strict=True))
    )
    return RatingsTask([], str(write_set(tmp_path / "stars", rows)), None, Part.TEST, 5, 4.0, (0, 1), None)


def said(asked: RatingsTask) -> str:
    text = StringIO()
    evaluate_ratings(asked, Console(file=text, width=200))
    return " ".join(text.getvalue().split())


def test_figures_are_printed_and_written(asked: RatingsTask, tmp_path: Path) -> None:
    text = said(replace(asked, json_file=tmp_path / "figures.json"))
    assert "5 folds, seeds [0, 1]" in text
    assert "rmse, over mean" in text
    content = json.loads((tmp_path / "figures.json").read_text())
    assert list(content["models"]) == ["mean", "biases", "mf-ratings"]
    assert content["n_rounds"] == 10
    assert content["environment"]["commit"]


def test_the_page_shows_what_was_written(asked: RatingsTask, tmp_path: Path) -> None:
    said(replace(asked, json_file=tmp_path / "stars.json"))
    page = tmp_path / "page.md"
    page.write_text("Before.\n\n<!-- ratings: stars -->\n<!-- end -->\n\n<!-- ratings: others -->\n<!-- end -->\n")
    draw_page(page, tmp_path, [], NO_GOALS)
    text = page.read_text()
    assert "| model | rmse | mae | precision | recall | f1 | precision@10 |" in text
    assert "| `mf-ratings` | " in text
    assert "5 folds, 2 seeds. Liked: 4 stars or more." in text
    assert "<!-- ratings: others -->\n\nNot run.\n" in text
    draw_page(page, tmp_path, [], NO_GOALS)
    assert page.read_text() == text


def test_the_page_refuses_a_damaged_file(tmp_path: Path) -> None:
    (tmp_path / "stars.json").write_text("{}")
    page = tmp_path / "page.md"
    page.write_text("<!-- ratings: stars -->\n<!-- end -->\n")
    with pytest.raises(ContenderError, match=r"stars.json is damaged.*make ratings"):
        draw_page(page, tmp_path, [], NO_GOALS)


def test_validation_is_one_round_of_each_seed(asked: RatingsTask) -> None:
    assert "validation part of the first fold" in said(replace(asked, part=Part.VALIDATION, models=["mean"]))


def test_one_model_alone_is_over_nothing(asked: RatingsTask) -> None:
    assert "rmse, over" not in said(replace(asked, models=["biases"], seeds=(0,)))


@pytest.mark.parametrize("stars", [6.0, float("nan")])
def test_stars_that_nobody_gives_are_refused(asked: RatingsTask, stars: float) -> None:
    with pytest.raises(DatasetError, match=r"nobody gave .* stars; the most is 5"):
        said(replace(asked, liked=stars))


def test_too_few_ratings_for_the_folds_are_refused(asked: RatingsTask, tmp_path: Path) -> None:
    few = write_set(tmp_path / "few", "u,a,1,rating,5\nu,b,2,rating,4\n")
    with pytest.raises(DatasetError, match="too few to be cut into folds"):
        said(replace(asked, data=str(few)))


def test_models_are_set_by_the_file_that_is_given(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('[small]\nmodel = "mf-ratings"\nembedding_dim = 3\n')
    models = pick_rating_models(["small", "mean"], path)
    assert models == {"small": RatingFactorsConfig(embedding_dim=3), "mean": MeanConfig()}


@pytest.mark.parametrize(
    ("text", "names", "message"),
    [
        ("", ["gru"], "no model 'gru' of ratings; there are mean, biases, mf-ratings"),
        ("[mf-ratings]\nalpha = 3", ["mf-ratings"], "there is no key 'alpha'"),
        (
            "[mf-ratings]\nembedding_dim = 0",
            ["mf-ratings"],
            "embedding_dim: Input should be greater than",
        ),
        ("[other]\nmodel = 'als'", ["other"], "no model 'als' of ratings"),
        ("embedding_dim = 3", ["mean"], "'embedding_dim' stands in no table"),
        ("[", ["mean"], "is not TOML"),
    ],
)
def test_a_file_or_a_name_that_is_wrong_is_refused(tmp_path: Path, text: str, names: list[str], message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(text)
    with pytest.raises(ContenderError, match=message):
        pick_rating_models(names, path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "ratings"], "--task ratings needs --data"),
        (["--task", "ratings", "--data", ".", "--live"], "--live does not go with --task ratings"),
        (["--folds", "3"], "--folds and --liked go with --task ratings"),
        (["--task", "ratings", "--data", ".", "--models", ","], "--models names one model or more"),
    ],
)
def test_options_that_do_not_go_together_are_refused(arguments: list[str], message: str) -> None:
    result = CliRunner().invoke(app, ["evaluate", *arguments], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())
