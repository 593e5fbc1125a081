"""Batches that a retriever answers, and what it learns of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from encoders.bundle import RETRIEVERS
from encoders.records import Interaction, Recommendation
from encoders.sessions import session_codes, user_hashes
from encoders.vocabulary import item_hash
from encoders.window import WindowRule
from streams.asking import _windows
from streams.lists import ANN, POPULARITY
from streams.pipeline import Batch, Outcome, Rules, Serving, Source, process
from streams.popularity import most_popular
from streams.serving import RetrieverModel
from streams.session import SessionKey, StoredSession, unpack
from streams.waves import known_windows
from tests.inmemory import NOW_MS, click, events, finding, model, retriever_model

SOURCE = Source("cluster", "interactions", 0)
U = SessionKey("default", "u")
ROUND = [(session, item) for session in range(6) for item in range(1 + session, 41)]
"""Sessions in which item ``i`` comes before ``i + 1``; the last begins with 6."""


def run(
    interactions: Sequence[Interaction],
    served: RetrieverModel,
    rules: Rules | None = None,
    stored: dict[SessionKey, StoredSession] | None = None,
    serving: Serving | None = None,
) -> Outcome:
    batch = finding(SOURCE, events(interactions), stored or {})
    (outcome,) = process([batch], serving or Serving(served), rules or Rules(), NOW_MS)
    return outcome


def lists(outcome: Outcome) -> list[list[str]]:
    return [[item.item_id for item in Recommendation.model_validate_json(made).items] for made in outcome.lists]


def expected(served: RetrieverModel, watched: Sequence[int], n: int) -> list[str]:
    """The library's answer, without what the user has had."""
    numbers, _ = served.bundle.retriever.retrieve(np.array([list(watched)], dtype=np.int64), 40)
    return [str(number) for number in numbers[0].tolist() if number and number not in watched][:n]


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_a_list_is_what_the_retriever_answers_without_what_the_user_has_had(kind: str) -> None:
    served = retriever_model(kind, learned=ROUND)
    watched = [7, 9, 8]
    found = lists(run([click(item=str(item)) for item in watched], served))
    assert found == [expected(served, watched[: n + 1], 10) for n in range(3)]
    assert found[0]


def test_scores_are_the_retrievers() -> None:
    served = retriever_model("markov", learned=ROUND)
    (made,) = (Recommendation.model_validate_json(made) for made in run([click(item="7")], served).lists)
    _, scores = served.bundle.retriever.retrieve(np.array([[7]]), 10)
    assert [item.score for item in made.items] == pytest.approx(scores[0].tolist(), rel=1e-5)
    assert {item.source for item in made.items} == {ANN}


def test_many_seen_items_leave_the_list_full_as_long_as_there_are_answers() -> None:
    """Popularity answers everyone alike: the best 30 have been seen, so it is asked for more again and again."""
    ranked = [(0, item) for item in range(1, 41) for _ in range(41 - item)]
    served = retriever_model("popularity", learned=ranked, config={"half_life_s": None})
    outcome = run([click(item=str(item)) for item in range(1, 31)], served)
    assert lists(outcome)[-1] == [str(item) for item in range(31, 41)]


def test_a_retriever_without_answers_is_not_asked_again_and_popular_items_fill_up() -> None:
    served = retriever_model("markov", learned=[(1, 7), (1, 8)])
    asked: list[int] = []
    retrieve = served.bundle.retriever.retrieve

    def counting(windows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        asked.append(k)
        return retrieve(windows, k)

    served.bundle.retriever.retrieve = counting  # type: ignore[method-assign]
    popular = {"default": most_popular([{"20": 0.0, "8": -1.0}], "default", 10)}
    outcome = run([click(item="7"), click(user="w", item="30")], served, serving=Serving(served, popular))
    first, second = (Recommendation.model_validate_json(made) for made in outcome.lists)
    assert [(item.item_id, item.source) for item in first.items] == [("8", ANN), ("20", POPULARITY)]
    assert [(item.item_id, item.source) for item in second.items] == [("20", POPULARITY), ("8", POPULARITY)]
    assert len(asked) == 1


def test_unavailable_items_are_not_listed_and_others_take_their_place() -> None:
    served = retriever_model("markov", learned=ROUND)
    gone = frozenset(item_hash(item) for item in expected(served, [7], 40)[:5])
    outcome = run([click(item="7")], served, serving=Serving(served, unavailable=gone), rules=Rules(top_n=5))
    assert lists(outcome) == [expected(served, [7], 40)[5:10]]
    assert lists(run([click(item="7")], served, rules=Rules(top_n=5))) == [expected(served, [7], 5)]


def test_items_that_the_model_does_not_know_are_passed_over() -> None:
    served = retriever_model("markov", learned=ROUND)
    outcome = run([click(item="7"), click(item="unknown")], served)
    assert lists(outcome) == [expected(served, [7], 10)] * 2


def test_events_of_another_catalogue_are_neither_answered_nor_learned() -> None:
    served = retriever_model("markov", learned=ROUND, catalogue="films")
    outcome = run([click(item="7")], served)
    assert lists(outcome) == [[]]
    assert len(outcome.clicks.offset_B) == 0


def test_a_request_is_answered_from_the_window_and_teaches_nothing() -> None:
    served = retriever_model("markov", learned=ROUND)
    outcome = run([click(item="7"), click(item=None, event_type="request")], served)
    assert lists(outcome) == [expected(served, [7], 10)] * 2
    assert outcome.clicks.item_B.tolist() == [7]


def test_asking_changes_neither_model_nor_sessions() -> None:
    served = retriever_model("session-knn", learned=ROUND)
    batch = finding(SOURCE, events([click(item=str(item)) for item in (7, 9, 8)]), {})
    first, second = (process([batch], Serving(served), Rules(), NOW_MS)[0] for _ in range(2))
    assert list(first.lists) == list(second.lists)
    assert first.sessions == second.sessions


def test_a_session_keeps_no_state_of_a_retriever() -> None:
    outcome = run([click(item="7")], retriever_model(learned=ROUND))
    assert unpack(outcome.sessions[U]).states == {}


def test_the_state_of_an_encoder_goes_where_the_window_moves_on_under_a_retriever() -> None:
    """Else an encoder that comes back would step from a state that has not read everything."""
    before = run([click(item="7")], model()).sessions
    stored = {U: StoredSession(before[U])}
    kept = run([click(item=None, event_type="request")], retriever_model(learned=ROUND), stored=stored).sessions[U]
    gone = run([click(item="8")], retriever_model(learned=ROUND), stored=stored).sessions[U]
    assert unpack(kept).states == unpack(before[U]).states != {}
    assert unpack(gone).states == {}


# --- what is learned


def test_learned_is_what_entered_a_window_once() -> None:
    """Not the repeat of an event, of the window's newest item, nor what does not enter, nor an unknown item."""
    served = retriever_model()
    first = click(item="7", timestamp_ms=1_500)
    outcome = run(
        [
            first,
            first,
            click(item="7", event_id="again"),
            click(item="9", event_type="impression"),
            click(item="unknown"),
            click(item="8", timestamp_ms=9_000),
            click(user="w", item="7"),
        ],
        served,
    )
    assert outcome.clicks.item_B.tolist() == [7, 8, 7]
    assert outcome.clicks.offset_B.tolist() == [0, 5, 6]
    assert outcome.clicks.time_s_B.tolist()[:2] == [1.5, 9.0]
    hashes = session_codes(user_hashes(["u", "u", "w"]), np.zeros(3, dtype=np.int64), None)
    assert outcome.clicks.session_B.tolist() == hashes.tolist()


def test_a_pause_longer_than_the_gap_begins_a_session_and_one_of_exactly_the_gap_does_not() -> None:
    rules = Rules(window=WindowRule(session_gap_s=60))
    times_s = [0, 60, 121, 130]
    interactions = [click(item=str(7 + n), timestamp_ms=1000 * time_s) for n, time_s in enumerate(times_s)]
    codes = run(interactions, retriever_model(rule=rules.window), rules).clicks.session_B.tolist()
    assert codes[0] == codes[1] != codes[2] == codes[3]


def test_each_partition_of_a_fetch_has_what_is_learned_of_it() -> None:
    served = retriever_model(learned=ROUND)
    batches = [
        Batch(Source("cluster", "interactions", partition), events([click(user=user, item=item) for item in items]))
        for partition, (user, items) in enumerate((("u", "78"), ("w", ""), ("v", "9")))
    ]
    outcomes = process(batches, Serving(served), Rules(), NOW_MS)
    assert [outcome.clicks.item_B.tolist() for outcome in outcomes] == [[7, 8], [], [9]]


def test_without_a_retriever_nothing_is_learned() -> None:
    for serving in (Serving(), Serving(model())):
        batch = finding(SOURCE, events([click(item="7")]), {})
        assert len(process([batch], serving, Rules(), NOW_MS)[0].clicks.offset_B) == 0


def test_windows_are_those_that_an_encoder_would_read() -> None:
    rng = np.random.default_rng(3)
    served = model()
    lengths = rng.integers(0, 9, 40)
    ids = rng.integers(1, 60, lengths.sum())  # of which the model knows the first forty
    hashes = np.array([item_hash(str(item)) for item in ids], dtype=np.uint64)
    ends = np.cumsum(lengths)
    numbers = served.bundle.vocabulary.item_numbers(hashes)
    wanted = known_windows(hashes, lengths, served)
    found = _windows(numbers, ends - lengths, ends, int(lengths.max()))
    np.testing.assert_array_equal(found[:, -wanted.shape[1] :], wanted)
    assert not found[:, : -wanted.shape[1]].any()
