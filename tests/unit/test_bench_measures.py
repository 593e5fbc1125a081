"""Percentiles, gaps and the count of answers."""

from __future__ import annotations

import numpy as np
import pytest

from streams.cli.bench.answers import Answers, Tally
from streams.cli.bench.events import Load
from streams.cli.bench.measures import longest_gap, percentile
from tests.processes import clicks


def answered(answers: Answers, *numbers: int, at_s: float = 1.0) -> None:
    answers.add([b'{"recommendation_id":"ab","event_id":"%d","items":[]}' % number for number in numbers], at_s)


@pytest.mark.parametrize(("percent", "expected"), [(50, 5.0), (51, 6.0), (99, 10.0), (100, 10.0), (0, 1.0)])
def test_a_percentile_is_one_of_the_values_by_nearest_rank(percent: float, expected: float) -> None:
    assert percentile(np.arange(10.0, 0.0, -1.0), percent) == expected


def test_a_percentile_of_nothing_is_an_error() -> None:
    with pytest.raises(ValueError, match="no values"):
        percentile(np.array([]), 50)


def test_the_longest_gap_lies_between_two_lists() -> None:
    assert longest_gap(np.array([3.0, 1.0, 1.5]), 0.5, 3.25) == (1.5, 1.5)


def test_time_before_the_first_and_after_the_last_list_is_a_gap_too() -> None:
    assert longest_gap(np.array([4.0, 5.0]), 0.0, 6.0) == (4.0, 0.0)
    assert longest_gap(np.array([1.0]), 0.0, 6.0) == (5.0, 1.0)


def test_without_any_list_all_of_the_time_is_a_gap() -> None:
    assert longest_gap(np.array([]), 2.0, 9.0) == (7.0, 2.0)


def test_lists_outside_the_interval_do_not_shorten_a_gap() -> None:
    assert longest_gap(np.array([0.0, 10.0]), 1.0, 9.0).seconds == 8.0


def test_every_event_with_a_list_loses_nothing() -> None:
    answers = Answers(Load(clicks(20), 4))
    answered(answers, *range(20))
    assert answers.n_answered == 20
    assert answers.tally(complete=True) == Tally(answered=20, lost=0, duplicates=0)


def test_a_missing_list_is_lost_and_one_that_comes_twice_is_a_duplicate() -> None:
    answers = Answers(Load(clicks(20), 4))
    answered(answers, *range(19))
    answered(answers, 3, 3)
    assert answers.n_answered == 19
    assert answers.tally(complete=True) == Tally(answered=19, lost=1, duplicates=2)


def test_the_size_of_a_list_is_that_of_the_newest() -> None:
    answers = Answers(Load(clicks(3), 1))
    assert answers.list_bytes == 0
    answers.add([b'{"event_id":"0"}', b'{"event_id":"1","items":[]}'], 1.0)
    assert answers.list_bytes == 27
    answers.add([], 2.0)
    assert answers.list_bytes == 27


def test_a_list_that_comes_twice_in_one_fetch_counts_as_one_answer() -> None:
    answers = Answers(Load(clicks(5), 1))
    answered(answers, 2, 2)
    assert (answers.n_answered, answers.tally(complete=False).duplicates) == (1, 1)


def test_of_a_process_that_was_stopped_only_what_was_overtaken_in_its_partition_is_lost() -> None:
    load = Load(clicks(40), 2)
    first = [number for number in range(40) if load.partition[number] == 0]
    answers = Answers(load)
    answered(answers, *first[:2], first[3])
    assert answers.tally(complete=False) == Tally(answered=3, lost=1, duplicates=0)
    assert answers.tally(complete=True).lost == 37


def test_the_first_list_of_an_event_says_when_it_was_answered() -> None:
    answers = Answers(Load(clicks(3), 1))
    answered(answers, 1, at_s=5.0)
    answered(answers, 1, 2, at_s=6.0)
    assert answers.received_s[1:].tolist() == [5.0, 6.0]
    assert np.isnan(answers.received_s[0])


def test_lists_are_matched_in_any_json_style_and_foreign_ones_set_aside() -> None:
    answers = Answers(Load(clicks(3), 1))
    answers.add([b'{"user_id": "u", "event_id": "2"}', b'{"event_id":"17"}', b'{"event_id":"x"}', b"{}"], 1.0)
    assert (answers.n_answered, answers.unknown) == (1, 3)


def test_what_was_never_published_is_not_lost() -> None:
    answers = Answers(Load(clicks(10), 2))
    answered(answers, 0, 1, 3)
    assert answers.tally(complete=True, end=4).lost == 1


def test_what_was_published_from_a_place_on_is_expected_from_there_on() -> None:
    answers = Answers(Load(clicks(10), 2))
    answered(answers, 5, 7)
    assert answers.tally(complete=True, start=5, end=8).lost == 1
