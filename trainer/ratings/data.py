"""Ratings as columns, and the rounds in which they are asked for.

Shape letters: ``R`` ratings.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np

from encoders.events import EVENT_TRAITS, EventType
from encoders.protocols import DoubleArray, IntArray
from trainer.errors import DatasetError
from trainer.evaluation.sets import read_set
from trainer.firsts import first_of_each
from trainer.interactions import BoolArray

VALIDATION_FOLDS = 5
"""Into how many parts the training ratings of the first fold are cut, of which one validates."""


@dataclass(frozen=True)
class Ratings:
    """Who gave what how many stars; nobody rates an item twice.

    Users and items are codes 0, 1, … into `user_ids` and `item_ids`.

    Shape:
        - all but the ids: ``(R,)``
    """

    name: str
    user_ids: Sequence[str]
    item_ids: Sequence[str]
    users: IntArray
    items: IntArray
    values: DoubleArray

    def __len__(self) -> int:
        return len(self.users)

    def where(self, mask: BoolArray) -> Self:
        """The ratings that the mask is true for, with the same codes. Shape: ``(R,)``."""
        return replace(self, users=self.users[mask], items=self.items[mask], values=self.values[mask])


@dataclass(frozen=True)
class Round:
    """What a model is fitted to, and what it is asked for. Shape: ``(R,)`` each."""

    is_known: BoolArray
    is_asked: BoolArray


def read_ratings(folder: Path) -> tuple[Ratings, Counter[str]]:
    """The ratings of a data set; of several by a user of an item the newest.

    Args:
        folder: Holds the files of one of `trainer.datasets.LAYOUTS`, each gzipped or not.

    Returns:
        The ratings, and how many rows were left out, by reason.

    Raises:
        DatasetError: If there is no data set, or no rating in it.
    """
    data = read_set(folder)
    events, texts = data.events, data.labels
    is_rating = events.type_codes == EVENT_TRAITS[EventType.RATING].code
    unique, places = np.unique(texts, return_inverse=True)
    values = np.array([_stars(text) for text in unique.tolist()])[places]
    has_stars = is_rating & np.isfinite(values)
    is_newest = np.zeros(len(events), dtype=bool)
    rows = np.flatnonzero(has_stars)[::-1]  # events stand in the order of time
    is_newest[rows] = first_of_each(events.user_codes[rows], events.item_codes[rows])
    left_out = Counter(
        {
            "events of other types than rating": int(np.count_nonzero(~is_rating)),
            "ratings without a number of stars": int(np.count_nonzero(is_rating & ~has_stars)),
            "ratings that their user changed later": int(np.count_nonzero(has_stars & ~is_newest)),
        }
    )
    if not is_newest.any():
        reasons = "; ".join(f"{n:,} {reason}" for reason, n in left_out.items() if n)
        raise DatasetError(
            f"{data.name} holds no ratings, which are rows whose `value` is a number of stars: {reasons}"
        )
    kept = events.where(is_newest)
    return Ratings(
        data.name, events.user_ids, events.item_ids, kept.user_codes, kept.item_codes, values[is_newest]
    ), +left_out


def rounds(ratings: Ratings, n_folds: int, seed: int) -> list[Round]:
    """Cross-validation: every rating is asked for once, and known in all other rounds.

    Raises:
        DatasetError: If a round would have nothing to learn or to ask.
    """
    fold = folds(ratings.users, n_folds, seed)
    found = [Round(fold != n, fold == n) for n in range(n_folds)]
    _insist_on_both(ratings, found)
    return found


def validation_rounds(ratings: Ratings, n_folds: int, seed: int) -> list[Round]:
    """One round among what is known in the first of `rounds`, for choices that must not see what it asks for.

    Raises:
        DatasetError: If it would have nothing to learn or to ask.
    """
    known = folds(ratings.users, n_folds, seed) != 0
    is_asked = known.copy()
    is_asked[known] = folds(ratings.users[known], VALIDATION_FOLDS, seed) == 0
    found = [Round(known & ~is_asked, is_asked)]
    _insist_on_both(ratings, found)
    return found


def folds(users: IntArray, n_folds: int, seed: int) -> IntArray:
    """A fold for each rating, at random, with about as many of each user's ratings in one as in any other.

    Shape:
        - users: ``(R,)``
        - Output: ``(R,)``, from 0

    Example:
        >>> np.bincount(folds(np.array([7, 7, 7, 7, 7, 7]), n_folds=3, seed=0)).tolist()
        [2, 2, 2]
    """
    rng = np.random.default_rng(seed)
    order = np.lexsort((rng.random(len(users)), users))
    _, starts, counts = np.unique(users[order], return_index=True, return_counts=True)
    # Dealt out like cards, each user's from a fold at random: or the first folds had more than the last.
    place = np.arange(len(users)) - np.repeat(starts - rng.integers(0, n_folds, len(starts)), counts)
    dealt = np.empty(len(users), dtype=np.int64)
    dealt[order] = place % n_folds
    return dealt


def _insist_on_both(ratings: Ratings, found: Sequence[Round]) -> None:
    if not all(each.is_known.any() and each.is_asked.any() for each in found):
        raise DatasetError(f"{ratings.name} has {len(ratings):,} ratings, which are too few to be cut into folds")


def _stars(text: str) -> float:
    """A number of stars, NaN where the text is none."""
    try:
        return float(text)
    except ValueError:
        return np.nan
