"""Replay in the order of arrival: asked before each event, learned after it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from encoders.protocols import FloatArray, IntArray
from tests.logs import make_log
from tests.rankers import Fixed, Silent
from trainer.errors import DatasetError
from trainer.evaluation.live import evaluate_live
from trainer.evaluation.metrics import NOT_FOUND
from trainer.evaluation.protocols import Exam
from trainer.evaluation.queries import Crop
from trainer.split import Split

LOG = make_log([(0, 0, 1), (1, 1, 2), (2, 3, 3), (0, 1, 4), (3, 2, 5), (1, 2, 6), (0, 3, 7)])
"""Users 0, 1 and 2 arrive; then user 0 has item 2, user 3 comes with item 3, user 1 has item 3, user 0 has item 4."""


def exam(n_train: int = 3) -> Exam:
    test = np.arange(len(LOG)) >= n_train
    return Exam("live", LOG, Split(~test, np.zeros_like(test), test), Crop(4), "none")


class Newest:
    """Lists the item that it learned last, and keeps everything that happens."""

    def __init__(self) -> None:
        self.happened: list[str] = []
        self._newest = 0

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        self.happened.append(f"asked after {windows[0, -1]}")
        items = np.zeros((len(windows), k), dtype=np.int64)
        items[:, 0] = self._newest
        return items, np.zeros(items.shape, dtype=np.float32)

    def learn(self, sessions: IntArray, items: IntArray, times_s: np.ndarray) -> None:
        pairs = zip(sessions.tolist(), items.tolist(), times_s.tolist(), strict=True)
        self.happened.append("learned " + ", ".join(f"{s}:{i}@{t:.0f}" for s, i, t in pairs))
        self._newest = int(items[-1])


def test_each_event_is_asked_for_before_it_is_learned() -> None:
    model = Newest()
    evaluate_live({"newest": model}, exam(), Silent(), k=2)
    assert model.happened == [
        "learned 0:1@1, 1:2@2, 2:4@3",
        "asked after 1",
        "learned 0:2@4, 3:3@5",
        "asked after 2",
        "learned 1:3@6",
        "asked after 2",
        "learned 0:4@7",
    ]


def test_an_answer_rests_on_the_event_just_before_it() -> None:
    """User 1's item 3 is what user 3 had a moment before."""
    answers = evaluate_live({"newest": Newest()}, exam(), Silent(), k=2).answers["newest"]
    assert answers.ranks.tolist() == [NOT_FOUND, 0, NOT_FOUND]


def test_a_model_that_knows_the_past_is_not_given_it_again() -> None:
    model = Newest()
    evaluate_live({"newest": model}, exam(), Silent(), k=2, knows_past=True)
    assert model.happened[0] == "asked after 1"


def test_new_events_before_the_first_query_are_learned_before_it() -> None:
    model = Newest()
    evaluate_live({"newest": model}, exam(n_train=2), Silent(), k=2)
    assert model.happened[:3] == ["learned 0:1@1, 1:2@2", "learned 2:4@3", "asked after 1"]


def test_a_model_that_does_not_learn_is_only_asked() -> None:
    answers = evaluate_live({"fixed": Fixed(4)}, exam(), Silent(), k=1).answers["fixed"]
    assert answers.ranks.tolist() == [NOT_FOUND, NOT_FOUND, 0]
    assert answers.learning_seconds == 0


class Counting(Fixed):
    """Counts how often it is asked."""

    n_calls = 0

    def retrieve(self, windows: IntArray, k: int) -> tuple[IntArray, FloatArray]:
        self.n_calls += 1
        return super().retrieve(windows, k)


@pytest.mark.parametrize(
    ("asked", "n_calls"),
    [(exam(n_train=5), 1), (replace(exam(), known_items_only=False), 1), (exam(), 3)],
    ids=["no item is new", "new items may be listed before", "an item may be listed from its arrival on"],
)
def test_a_model_that_does_not_learn_is_asked_at_once_where_nothing_changes(asked: Exam, n_calls: int) -> None:
    model = Counting(4)
    ranks = evaluate_live({"fixed": model}, asked, Silent(), k=1).answers["fixed"].ranks
    assert ranks[-1] == 0
    assert model.n_calls == n_calls


def test_an_item_may_be_listed_from_its_arrival_on() -> None:
    """A list of everything: items 3 and 4 count only when they have come."""
    lists = evaluate_live({"all": Fixed(4, 3, 2, 1)}, exam(n_train=2), Silent(), k=4).answers["all"].lists
    assert lists.tolist() == [[4, 2, 1, 0], [4, 3, 2, 1], [4, 3, 2, 1]]


def test_without_an_order_of_arrival_nothing_is_replayed() -> None:
    with pytest.raises(DatasetError, match="whose event came first"):
        evaluate_live({}, replace(exam(), has_arrival=False), Silent())
