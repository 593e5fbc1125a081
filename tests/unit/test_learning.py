"""What a worker's model learns, and that it learns it once."""

from __future__ import annotations

import numpy as np

from streams.learning import Clicks, Learner


class Pupil:
    """Writes down the items that it is given."""

    def __init__(self) -> None:
        self.items: list[int] = []

    def learn(self, sessions: np.ndarray, items: np.ndarray, times_s: np.ndarray) -> None:
        assert len(sessions) == len(items) == len(times_s)
        self.items += items.tolist()

    def retrieve(self, windows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        raise NotImplementedError


def clicks(*offsets: int) -> Clicks:
    """Events of item ``100 + offset``."""
    column = np.array(offsets, dtype=np.int64)
    return Clicks(column, column * 0, column + 100, column.astype(np.float64))


def test_events_are_learned_in_their_order() -> None:
    pupil = Pupil()
    assert Learner(pupil, {}).learn("t", 0, clicks(3, 4, 9)) == 3
    assert pupil.items == [103, 104, 109]


def test_what_the_model_was_trained_on_is_not_learned_again_and_the_first_offset_after_it_is() -> None:
    pupil = Pupil()
    assert Learner(pupil, {"t": {0: 4}}).learn("t", 0, clicks(2, 3, 4, 5)) == 2
    assert pupil.items == [104, 105]


def test_what_comes_again_is_learned_once() -> None:
    pupil = Pupil()
    learner = Learner(pupil, {})
    for batch in (clicks(0, 1, 2), clicks(1, 2, 3), clicks(0, 1), clicks()):
        learner.learn("t", 0, batch)
    assert pupil.items == [100, 101, 102, 103]


def test_offsets_of_other_partitions_and_topics_say_nothing() -> None:
    pupil = Pupil()
    learner = Learner(pupil, {"t": {0: 4}})
    for topic, partition in (("t", 1), ("other", 0), ("t", 0)):
        learner.learn(topic, partition, clicks(2))
    assert pupil.items == [102, 102]
