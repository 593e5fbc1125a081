"""VMIS-kNN, with scores worked out by hand."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from pydantic import ValidationError

from encoders.session_knn import SessionKNN, SessionKNNConfig

PAPER = SessionKNNConfig(proximity=0)


def learned(config: SessionKNNConfig, *clicks: tuple[int, int]) -> SessionKNN:
    """A model of clicks, each a session and an item."""
    sessions, items = np.array(clicks).T.copy()
    knn = SessionKNN(config)
    knn.learn(sessions, items, np.arange(len(items), dtype=np.float64))
    return knn


def answers(knn: SessionKNN, window: list[int], k: int = 10) -> dict[int, float]:
    """Scores by item, best first."""
    items, scores = knn.retrieve(np.array([window]), k)
    return {item: score for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True) if item}


SESSIONS = ((1, 1), (1, 2), (1, 3), (2, 2), (2, 4), (3, 5))
"""1 → 2 → 3, 2 → 4, and 5 alone."""


def test_weights_are_those_of_the_paper() -> None:
    """In window 1, 2 they weigh 1/2 and 1: the sessions are 3/2 and 1 similar, and give 9/10 of it."""
    found = answers(learned(PAPER, *SESSIONS), [1, 2])
    assert list(found) == [1, 3, 4]
    assert found == pytest.approx({1: 1.35 * log(3), 3: 1.35 * log(3), 4: 0.9 * log(3)})


def test_what_most_sessions_have_counts_less() -> None:
    """Item 2 is in two of three sessions, item 3 in one."""
    found = answers(learned(PAPER, (1, 1), (1, 2), (1, 3), (2, 2), (3, 5)), [1])
    assert found == pytest.approx({3: 0.9 * log(3), 2: 0.9 * log(3 / 2)})


def test_the_older_the_newest_shared_click_the_less_a_neighbour_gives() -> None:
    """In window 2, 1, 9 the neighbour shares 1, clicked one before the last: 2/3 + 1/3 similar, and 8/10 of it."""
    found = answers(learned(PAPER, *SESSIONS), [2, 1, 9])
    assert found[3] == pytest.approx(0.8 * log(3))
    assert found[4] == pytest.approx(0.7 / 3 * log(3))


def test_of_an_item_clicked_twice_the_newer_click_counts() -> None:
    """In window 1, 2, 1 item 1 weighs 3/3 and item 2 weighs 2/3."""
    found = answers(learned(PAPER, *SESSIONS), [1, 2, 1])
    assert found == pytest.approx(
        {3: 0.9 * 5 / 3 * log(3), 2: (0.9 * 5 / 3 + 0.8 * 2 / 3) * log(3 / 2), 4: 0.8 * 2 / 3 * log(3)}
    )


def test_only_the_newest_clicks_of_a_window_count() -> None:
    knn = learned(SessionKNNConfig(proximity=0, window_len=1), *SESSIONS)
    assert answers(knn, [1, 2]) == pytest.approx({1: 0.9 * log(3), 3: 0.9 * log(3), 4: 0.9 * log(3)})
    assert answers(knn, [1, 5]) == {}


def test_items_near_the_shared_one_are_given_more() -> None:
    """From 1, item 2 is one place away and item 3 two."""
    found = answers(learned(SessionKNNConfig(), (1, 1), (1, 2), (1, 3), (2, 9), (3, 9)), [1])
    assert found == pytest.approx({2: 0.9 / 2 * log(3), 3: 0.9 / 3 * log(3)})


def test_the_item_clicked_last_can_be_listed_and_the_others_keep_their_scores() -> None:
    listed = answers(learned(SessionKNNConfig(proximity=0, lists_last_item=True), *SESSIONS), [1, 2])
    assert listed.pop(2) == pytest.approx((1.35 + 0.9) * log(3 / 2))
    assert listed == answers(learned(PAPER, *SESSIONS), [1, 2])


def test_an_item_is_one_item_of_a_session_however_often_it_is_clicked() -> None:
    once = learned(PAPER, *SESSIONS)
    again = learned(PAPER, *SESSIONS[:3], (1, 1), (1, 1), *SESSIONS[3:], (1, 3), (2, 2))
    assert answers(again, [1, 2]) == answers(once, [1, 2])


def test_a_click_extends_its_session() -> None:
    knn = learned(PAPER, *SESSIONS)
    assert answers(knn, [5]) == {}
    knn.learn(np.array([3]), np.array([6]), np.array([9.0]))
    assert answers(knn, [5]) == pytest.approx({6: 0.9 * log(3)})


def test_only_the_most_recent_sessions_are_candidates() -> None:
    knn = learned(SessionKNNConfig(n_recent=2), (1, 1), (1, 11), (2, 1), (2, 12), (3, 1), (3, 13), (4, 9), (5, 9))
    assert set(answers(knn, [1])) == {12, 13}


def test_a_session_is_as_recent_as_its_click_on_the_shared_item() -> None:
    """Session 1 began first but clicked 1 last."""
    knn = learned(SessionKNNConfig(n_recent=1), (1, 11), (2, 1), (2, 12), (1, 1), (2, 13), (3, 9))
    assert set(answers(knn, [1])) == {11}


def test_of_equally_similar_sessions_the_more_recent_are_neighbours() -> None:
    knn = learned(SessionKNNConfig(n_neighbours=1), (1, 1), (1, 11), (2, 1), (2, 12), (3, 9))
    assert set(answers(knn, [1])) == {12}


def test_a_more_similar_session_is_preferred_to_a_more_recent_one() -> None:
    knn = learned(SessionKNNConfig(n_neighbours=1), (1, 1), (1, 2), (1, 11), (2, 2), (2, 12), (3, 9))
    assert set(answers(knn, [1, 2])) == {1, 11}


def test_of_a_long_session_the_newest_items_count() -> None:
    knn = learned(SessionKNNConfig(session_len=3), *((1, item) for item in range(1, 7)), (2, 9))
    assert set(answers(knn, [5])) == {4, 6}
    assert answers(knn, [2]) == {}


def test_the_oldest_clicks_are_forgotten() -> None:
    """Of 8 remembered clicks the first is the second of session 1: item 1 is unknown again, and session 1 is 2, 3."""
    knn = learned(SessionKNNConfig(max_clicks=8), (1, 1), (1, 2), (1, 3), *((session, 9) for session in range(2, 8)))
    assert answers(knn, [1]) == {}
    assert set(answers(knn, [2])) == {3}


def test_a_forgotten_session_begins_anew() -> None:
    knn = learned(SessionKNNConfig(max_clicks=4), (1, 1), *((session, 9) for session in range(2, 6)), (1, 3))
    assert answers(knn, [1]) == answers(knn, [3]) == {}


def test_memory_does_not_grow_beyond_the_clicks_that_are_remembered() -> None:
    knn = SessionKNN(SessionKNNConfig(max_clicks=1 << 12))
    sizes = []
    for start in range(0, 100_000, 10_000):
        codes = np.arange(start, start + 10_000)
        knn.learn(codes, codes % 50 + 1, np.zeros(10_000))
        sizes.append(sum(array.nbytes for array in knn._log))
    assert sizes[2:] == sizes[1:-1]
    assert sizes[-1] < (16 + 130) * (1 << 12)


@pytest.mark.parametrize("wrong", [{"window_len": 0}, {"proximity": -1}, {"max_clicks": 0}, {"neighbours": 5}])
def test_a_configuration_that_makes_no_sense_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        SessionKNNConfig(**wrong)
