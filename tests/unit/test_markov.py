"""Sequential rules, with counts worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.markov import Markov, MarkovConfig


def learned(config: MarkovConfig, *clicks: tuple[int, int, float]) -> Markov:
    """A model of clicks, each a session, an item and a time."""
    sessions, items, times_s = zip(*clicks, strict=True)
    markov = Markov(config)
    markov.learn(np.array(sessions), np.array(items), np.array(times_s))
    return markov


def rules(markov: Markov, item: int) -> dict[int, float]:
    """Counts of the rules from an item, highest first."""
    items, scores = markov.retrieve(np.array([[0, 99, item]]), 1000)
    return {item: score for item, score in zip(items[0].tolist(), scores[0].tolist(), strict=True) if item}


def session(code: int, *items: int, time_s: float = 0) -> list[tuple[int, int, float]]:
    return [(code, item, time_s) for item in items]


def test_a_rule_counts_the_less_the_farther_its_end_is_away() -> None:
    """1 → 2 → 3 and 1 → 3: from 1 to 3 there is 1/2 + 1."""
    markov = learned(MarkovConfig(), *session(1, 1, 2, 3), *session(2, 1, 3))
    assert rules(markov, 1) == {3: 1.5, 2: 1.0}
    assert list(rules(markov, 1)) == [3, 2]
    assert rules(markov, 2) == {3: 1.0}


def test_where_no_rule_leads_from_there_are_no_answers() -> None:
    markov = learned(MarkovConfig(), *session(1, 1, 2, 3))
    assert rules(markov, 3) == rules(markov, 7) == rules(markov, 99_999) == {}


def test_sessions_are_counted_apart_when_their_clicks_are_mixed() -> None:
    mixed = [*zip(session(1, 1, 2, 3), session(2, 5, 6, 7), strict=True)]
    markov = learned(MarkovConfig(), *(click for pair in mixed for click in pair))
    assert rules(markov, 1) == {2: 1.0, 3: 0.5}
    assert rules(markov, 5) == {6: 1.0, 7: 0.5}


def test_rules_reach_only_so_far_back() -> None:
    markov = learned(MarkovConfig(max_distance=2), *session(1, 1, 2, 3, 4))
    assert rules(markov, 1) == {2: 1.0, 3: 0.5}


def test_an_item_clicked_again_is_a_rule_from_itself() -> None:
    markov = learned(MarkovConfig(), *session(1, 1, 1, 2))
    assert rules(markov, 1) == {2: 1.5, 1: 1.0}


def test_of_equal_counts_the_lower_number_comes_first() -> None:
    markov = learned(MarkovConfig(), *session(1, 1, 9), *session(2, 1, 3), *session(3, 1, 6))
    assert list(rules(markov, 1)) == [3, 6, 9]


def test_a_rule_counts_half_after_a_half_life() -> None:
    markov = learned(MarkovConfig(half_life_s=10), *session(1, 1, 2), *session(2, 1, 3, time_s=10))
    assert rules(markov, 1) == {3: 1.0, 2: 0.5}


def test_counts_stay_right_over_many_half_lives() -> None:
    """The start of the decay moves, every 64 half-lives."""
    clicks = [click for n in range(300) for click in session(n, 1, 2 + n % 2, time_s=n)]
    assert rules(learned(MarkovConfig(half_life_s=1), *clicks), 1) == pytest.approx({3: 4 / 3, 2: 2 / 3})


def test_without_a_half_life_old_clicks_count_as_new_ones() -> None:
    markov = learned(MarkovConfig(), *session(1, 1, 2), *session(2, 1, 3, time_s=1e9))
    assert rules(markov, 1) == {2: 1.0, 3: 1.0}


def test_a_new_rule_takes_place_and_count_of_the_least_when_there_are_too_many() -> None:
    clicks = [*session(1, 1, 2), *session(2, 1, 2), *session(3, 1, 3), *session(4, 1, 4)]
    assert rules(learned(MarkovConfig(max_rules=2), *clicks), 1) == {2: 2.0, 4: 2.0}


def test_what_counts_more_than_its_part_is_never_dropped() -> None:
    """Every fourth click goes to 2, and four rules are kept."""
    clicks = [click for n in range(100) for click in session(n, 1, 2 if n % 4 == 0 else 10 + n)]
    found = rules(learned(MarkovConfig(max_rules=4), *clicks), 1)
    assert len(found) == 4
    assert found[2] >= 25


def test_a_session_that_was_quiet_for_too_long_begins_anew() -> None:
    others = [click for n in range(2, 6) for click in session(n, 50 + n)]
    assert rules(learned(MarkovConfig(max_clicks=4), *session(1, 1), *others, *session(1, 2)), 1) == {}
    assert rules(learned(MarkovConfig(max_clicks=8), *session(1, 1), *others, *session(1, 2)), 1) == {2: 1.0}
