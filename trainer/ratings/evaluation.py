"""How far off predicted ratings are, and how good the lists are that are ordered by them.

Every figure comes with the interval of a bootstrap over users, `trainer.evaluation.confidence`.

Shape letters: ``R`` ratings that are asked for, ``F`` figures, ``K`` length of a list, ``Q`` lists.

References:
    Herlocker, Konstan, Terveen and Riedl, "Evaluating collaborative filtering recommender systems", TOIS 2004.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np

from encoders.protocols import IntArray
from trainer.errors import DatasetError
from trainer.evaluation.confidence import LEVEL, N_RESAMPLES, Matrix, percentiles, resampled_means
from trainer.evaluation.metrics import list_metrics
from trainer.evaluation.summary import Result
from trainer.ratings.data import Ratings, Round
from trainer.ratings.model import RatingConfig, RatingFactors, fit_ratings
from trainer.report import Report

AT = 10
"""``K``: length of the lists."""
LISTED = ("precision", "recall", "f1")
USERS_AT_ONCE = 1_024
"""Users whose items are all scored at once."""

Rounds = Mapping[int, Sequence[Round]]
"""The rounds of each seed, by the seed, of which the fits are, too."""


def cross_validate(
    ratings: Ratings, models: Mapping[str, RatingConfig], rounds: Rounds, liked: float, report: Report
) -> Result:
    """Fit each model in each round and ask it for what it does not know.

    Args:
        ratings: All of them.
        models: How each is set, by what it is called.
        rounds: What is known and what is asked.
        liked: From so many stars on a user likes an item.
        report: Told how far it is.

    Returns:
        For JSON. ``models`` holds for each by its name ``figures``, each with ``mean``, ``low`` and ``high``:

        * ``rmse`` and ``mae``, in stars
        * ``precision``, ``recall`` and ``f1`` of saying that a user will like what is asked for, where the prediction
          reaches ``liked``
        * ``precision@10``, ``recall@10`` and ``f1@10`` of the items with the highest predictions among all that the
          model does not know the user's rating of, for users who like something of what is asked for

        and ``fit_s`` of a round, the median. ``differences`` holds those of ``model`` over ``baseline`` for each pair.

    Raises:
        DatasetError: If nobody likes anything.
    """
    if not (highest := ratings.values.max()) >= liked:
        raise DatasetError(f"{ratings.name}: nobody gave {liked:g} stars; the most is {highest:g}")
    answers = {}
    for name, config in models.items():
        answers[name] = _answer(ratings, config, rounds, liked, _counted(report, f"fitting {name}", rounds))
    means_of, resampled_of = {}, {}
    for name, answer in answers.items():
        means_of[name], resampled_of[name] = answer.figures()
    columns = ("rmse", "mae", *LISTED, *(f"{name}@{AT}" for name in LISTED))

    def named(means: Matrix, resampled: Matrix) -> dict[str, dict[str, float]]:
        intervals = percentiles(means, resampled)
        return {column: interval._asdict() for column, interval in zip(columns, intervals, strict=True)}

    return {
        "dataset": ratings.name,
        "n_ratings": len(ratings),
        "n_users": len(ratings.user_ids),
        "n_items": len(ratings.item_ids),
        "n_rounds": sum(map(len, rounds.values())),
        "seeds": list(rounds),
        "liked": liked,
        "level": LEVEL,
        "n_resamples": N_RESAMPLES,
        "models": {
            name: {
                "configuration": models[name].model_dump(mode="json"),
                "figures": named(means_of[name], resampled_of[name]),
                "fit_s": float(np.median(answer.fit_s)),
            }
            for name, answer in answers.items()
        },
        "differences": [
            {
                "model": name,
                "baseline": other,
                "figures": named(means_of[name] - means_of[other], resampled_of[name] - resampled_of[other]),
            }
            for other, name in combinations(answers, 2)
        ],
    }


@dataclass
class _Answers:
    """What a model answered in all rounds, as columns that the figures are worked out of."""

    users: list[IntArray] = field(default_factory=list)
    """Whose ratings were asked for. Shape: ``(R,)``."""
    errors: list[Matrix] = field(default_factory=list)
    """Of each rating: squared and absolute error, whether it is rightly said to be liked, whether it is said to be, and
    whether it is. Shape: ``(R, 5)``."""
    listeners: list[IntArray] = field(default_factory=list)
    """Whom lists were made for. Shape: ``(Q,)``."""
    listed: list[Matrix] = field(default_factory=list)
    """`LISTED` of each list. Shape: ``(Q, 3)``."""
    fit_s: list[float] = field(default_factory=list)

    def figures(self) -> tuple[Matrix, Matrix]:
        """As they are, and resampled. Shape: ``(F,)`` and ``(n_resamples, F)``."""
        errors, listed = np.concatenate(self.errors), np.concatenate(self.listed)
        drawn = resampled_means(errors, np.concatenate(self.users))
        drawn_lists = resampled_means(listed, np.concatenate(self.listeners))
        means = np.concatenate((_of_errors(errors.mean(axis=0)[None])[0], listed.mean(axis=0)))
        return means, np.concatenate((_of_errors(drawn), drawn_lists), axis=1)


def _answer(ratings: Ratings, config: RatingConfig, rounds: Rounds, liked: float, show: Callable[[], None]) -> _Answers:
    answers = _Answers()
    for seed, of_seed in rounds.items():
        for each in of_seed:
            since_s = time.perf_counter()
            known, asked = ratings.where(each.is_known), ratings.where(each.is_asked)
            model = fit_ratings(known, config, seed)
            answers.fit_s.append(time.perf_counter() - since_s)
            answers.users.append(asked.users)
            answers.errors.append(_errors(model, asked, liked))
            listeners, listed = _lists(model, known, asked, liked)
            answers.listeners.append(listeners)
            answers.listed.append(listed)
            show()
    return answers


def _errors(model: RatingFactors, asked: Ratings, liked: float) -> Matrix:
    """The columns of `_Answers.errors`."""
    predicted = model.predict(asked.users, asked.items)
    off, is_said, is_liked = predicted - asked.values, predicted >= liked, asked.values >= liked
    return np.stack([off**2, np.abs(off), is_said & is_liked, is_said, is_liked], axis=1).astype(np.float64)


def _of_errors(means: Matrix) -> Matrix:
    """Figures of the means of `_Answers.errors`; where nothing is liked or said to be, the share of it is 0.

    Shape:
        - means: ``(n, 5)``
        - Output: ``(n, 5)``: rmse, mae, precision, recall, f1

    Example:
        >>> _of_errors(np.array([[4.0, 1.0, 0.1, 0.2, 0.4]])).round(2).tolist()
        [[2.0, 1.0, 0.5, 0.25, 0.33]]
    """
    squared, absolute, both, said, liked = means.T
    shares = [
        np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
        for part, whole in ((both, said), (both, liked), (2 * both, said + liked))
    ]
    return np.stack([np.sqrt(squared), absolute, *shares], axis=1)


def _lists(model: RatingFactors, known: Ratings, asked: Ratings, liked: float) -> tuple[IntArray, Matrix]:
    """Who likes something of what is asked for, and `LISTED` of the list for each of them."""
    good = asked.where(asked.values >= liked)
    listeners, rows, counts = np.unique(good.users, return_inverse=True, return_counts=True)
    targets = np.zeros((len(listeners), int(counts.max(initial=1))), dtype=np.int64)
    order = np.argsort(rows, kind="stable")
    column = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    targets[rows[order], column] = good.items[order] + 1
    lists = np.zeros((len(listeners), AT), dtype=np.int64)
    for start in range(0, len(listeners), USERS_AT_ONCE):
        some = listeners[start : start + USERS_AT_ONCE]
        scores = model.predict_all(some)
        places = np.searchsorted(some, known.users).clip(max=len(some) - 1)
        is_theirs = some[places] == known.users
        scores[places[is_theirs], known.items[is_theirs]] = -np.inf
        best = np.argsort(-scores, axis=1, kind="stable")[:, :AT]
        found = np.where(np.take_along_axis(scores, best, axis=1) > -np.inf, best + 1, 0)
        lists[start : start + len(some), : found.shape[1]] = found
    figures = list_metrics(lists, targets, [AT])
    return listeners, np.stack([figures[f"{name}@{AT}"] for name in LISTED], axis=1)


def _counted(report: Report, label: str, rounds: Rounds) -> Callable[[], None]:
    """Tells a report each time that one more round is over."""
    done, total = 0, sum(map(len, rounds.values()))

    def show() -> None:
        nonlocal done
        done += 1
        report.progress(label, done, total)

    return show
