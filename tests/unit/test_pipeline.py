"""The heart: what a batch of events does to sessions, and which lists it leads to."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import NamedTuple

import numpy as np
import pytest

from encoders.bundle import ENCODERS
from encoders.events import EVENT_TRAITS, EventType
from encoders.records import Interaction, Recommendation
from encoders.vocabulary import item_hash
from encoders.window import Entry, Window, WindowRule
from index.flat import FlatIndex
from index.ivf import IVFFlatIndex
from index.protocol import VectorIndex
from index.recall import recall_at_k
from streams.decode import DeadLetter, Decoded
from streams.lists import ANN, POPULARITY
from streams.pipeline import Batch, Outcome, Rules, Serving, Source, process
from streams.popularity import PopularItems, log2_count, most_popular
from streams.serving import ServingModel
from streams.session import (
    FINGERPRINT_MASK,
    Session,
    SessionKey,
    StoredSession,
    event_hash,
    fingerprints_of,
    pack,
    state_of,
    unpack,
    with_seen,
)
from streams.waves import known_window, known_windows
from tests.inmemory import NOW_MS, Record, click, events, finding, model

SOURCE = Source("cluster", "interactions", 3)
U = SessionKey("default", "u")
ALL = [str(number) for number in range(1, 41)]
every_search = pytest.mark.parametrize("index_type", [FlatIndex, IVFFlatIndex])
"""One kind of index leaves out by itself what a user has come by; of another it is passed over."""


class Ran(NamedTuple):
    """An outcome, with its sessions and lists read."""

    sessions: dict[SessionKey, Session]
    """Every session that changed, with what it has seen, changed or not."""
    lists: list[Recommendation]
    sources: Counter[str]
    counts: list[tuple[str, str, float]]
    duplicates: int
    seen: dict[SessionKey, bytes]


def stored(sessions: Mapping[SessionKey, Session]) -> dict[SessionKey, StoredSession]:
    return {key: StoredSession(pack(session), session.seen) for key, session in sessions.items()}


def run(
    interactions: Sequence[Interaction],
    serving: Serving | None = None,
    sessions: Mapping[SessionKey, Session] | None = None,
    rules: Rules | None = None,
    start: int = 0,
) -> Ran:
    given = stored(sessions or {})
    batch = finding(SOURCE, events(interactions, start), given)
    (outcome,) = process([batch], serving or Serving(), rules or Rules(), NOW_MS)
    seen = {key: before.seen for key, before in given.items()} | outcome.seen
    return Ran(
        {key: unpack(packed, seen.get(key, b"")) for key, packed in outcome.sessions.items()},
        [Recommendation.model_validate_json(made) for made in outcome.lists],
        outcome.sources,
        [*outcome.counts],
        outcome.duplicates,
        outcome.seen,
    )


def popular(*item_ids: str, catalogue: str = "default") -> dict[str, PopularItems]:
    return {catalogue: most_popular([{i: -float(rank) for rank, i in enumerate(item_ids)}], catalogue, 100)}


def ids(made: Recommendation) -> list[str]:
    return [item.item_id for item in made.items]


def sources(made: Recommendation) -> set[str]:
    return {item.source for item in made.items}


def best_of(serving: ServingModel, watched: Sequence[str], n: int) -> list[str]:
    """The list worked out anew: the whole window encoded, every item scored, the seen ones struck out."""
    numbers = np.array([[serving.bundle.vocabulary.item_number(i) for i in watched]])
    numbers = numbers[:, numbers[0] > 0]
    _, (query,) = serving.bundle.encoder.encode(numbers)
    scores = serving.bundle.item_vectors @ query
    order = [int(i) for i in np.argsort(-scores) if i > 0 and i not in numbers]
    return [serving.bundle.vocabulary.item_id(i) for i in order[:n]]


# --- sessions


def test_an_event_enters_its_users_session() -> None:
    session = run([click(timestamp_ms=5999)], start=7).sessions[U]
    assert session.applied_offset == 7
    assert session.window.item_hashes == [item_hash("1")]
    assert session.window.times_s == [5]
    assert session.window.type_codes == [EVENT_TRAITS[EventType.CLICK].code]
    assert session.recent_event_hashes == (event_hash("u-1"),)


def test_events_of_one_user_are_applied_in_the_order_of_offsets_not_of_time() -> None:
    outcome = run([click(item=i, timestamp_ms=t) for i, t in (("1", 9000), ("2", 1000), ("3", 5000))])
    assert outcome.sessions[U].window.times_s == [9, 1, 5]
    assert outcome.sessions[U].applied_offset == 2


def test_given_sessions_are_left_as_they_are() -> None:
    """They are in the worker's memory, and a batch that is not delivered is worked out again from them."""
    rules = Rules(window=WindowRule(max_len=4))
    before = run([click(item=str(i)) for i in range(1, 7)], Serving(model()), rules=rules).sessions
    given = stored(before)
    batch = finding(SOURCE, events([click(item=str(i)) for i in range(7, 14)], start=6), given)
    (first,) = process([batch], Serving(model()), rules, NOW_MS)
    assert first.seen
    assert given == stored(before)
    assert process([batch], Serving(model()), rules, NOW_MS) == [first]


def test_only_sessions_with_an_event_come_back() -> None:
    other = {SessionKey("default", "v"): Session()}
    assert set(run([click()], sessions=other).sessions) == {U}


def test_one_user_has_a_session_in_each_catalogue() -> None:
    outcome = run([click(), click(catalogue="books", event_id="b")])
    assert set(outcome.sessions) == {U, SessionKey("books", "u")}
    assert outcome.sessions[U].window != outcome.sessions[SessionKey("books", "u")].window


def test_a_gap_exactly_reached_keeps_the_session_and_a_second_more_empties_it() -> None:
    rules = Rules(window=WindowRule(session_gap_s=60))
    for pause_ms, kept in ((60_000, 2), (60_999, 2), (61_000, 1)):
        given = [click(item="1", timestamp_ms=0), click(item="2", timestamp_ms=pause_ms)]
        session = run(given, Serving(model()), rules=rules).sessions[U]
        assert len(session.window) == kept
        assert len(fingerprints_of(session.seen)) == 2 - kept


def test_what_leaves_the_window_is_still_seen() -> None:
    rules = Rules(window=WindowRule(max_len=4))
    session = run([click(item=str(i)) for i in range(1, 6)], rules=rules).sessions[U]
    assert session.window.item_hashes == [item_hash(i) for i in "345"]
    assert fingerprints_of(session.seen) == [item_hash(i) & FINGERPRINT_MASK for i in "12"]


def test_what_was_seen_comes_back_only_where_it_has_changed() -> None:
    """It grows with the user's past, and is stored beside the session."""
    rules = Rules(window=WindowRule(max_len=4))
    first = run([click("v"), *(click("u", str(i)) for i in range(1, 6))], rules=rules)
    assert set(first.seen) == {U}
    second = run([click("u", "6"), click("v", "2")], sessions=first.sessions, rules=rules, start=6)
    assert second.seen == {}
    assert second.sessions[U].seen == first.sessions[U].seen != b""


def test_the_memory_of_seen_items_is_bounded() -> None:
    rules = Rules(window=WindowRule(max_len=2), max_seen=3)
    session = run([click(item=str(i)) for i in range(10)], rules=rules).sessions[U]
    assert fingerprints_of(session.seen) == [item_hash(str(i)) & FINGERPRINT_MASK for i in (5, 6, 7)]


@pytest.mark.parametrize("kind", [t for t in EventType if not EVENT_TRAITS[t].enters_window])
def test_a_type_that_stays_out_of_the_window_is_answered_all_the_same(kind: EventType) -> None:
    item = "5" if EVENT_TRAITS[kind].needs_item else None
    outcome = run([click(item="1"), click(item=item, event_type=kind)], Serving(model()))
    assert outcome.sessions[U].window.item_hashes == [item_hash("1")]
    assert outcome.sessions[U].applied_offset == 1
    assert len(outcome.lists) == 2


def test_the_dead_pass_through() -> None:
    dead = DeadLetter(Record(0, b"x"), "not-json", "")
    assert process([Batch(SOURCE, Decoded(dead=[dead]))], Serving(), Rules(), NOW_MS)[0].dead == [dead]


def test_an_empty_batch_leads_to_nothing() -> None:
    assert process([Batch(SOURCE, Decoded())], Serving(model()), Rules(), NOW_MS) == [Outcome()]
    assert process([Batch(SOURCE, Decoded())], Serving(), Rules(), NOW_MS) == [Outcome()]
    assert process([], Serving(model()), Rules(), NOW_MS) == []


@pytest.mark.parametrize("serving", [Serving(popular=popular("1", "7")), Serving(model())], ids=["popular", "model"])
def test_batches_of_several_partitions_are_told_apart(serving: Serving) -> None:
    """The same user may have a session in each, left from when the topic had another number of partitions."""
    batches = [
        Batch(Source("cluster", "interactions", n), events([click("u", item, f"{n}{item}") for item in items], 5))
        for n, items in enumerate(["12", "", "3"])
    ]
    together = process(batches, serving, Rules(), NOW_MS)
    alone = [process([batch], serving, Rules(), NOW_MS)[0] for batch in batches]
    for one, other in zip(together, alone, strict=True):
        if not serving.model:  # whose states and scores differ in their last digits
            assert one == other
        assert (one.sources, one.counts) == (other.sources, other.counts)
        assert list(map(heads, one.lists)) == list(map(heads, other.lists))
        for key, packed in one.sessions.items():
            session, expected = unpack(packed), unpack(other.sessions[key])
            assert (session.applied_offset, session.window) == (expected.applied_offset, expected.window)
    assert [len(outcome.lists) for outcome in together] == [2, 0, 1]
    assert together[1] == Outcome()


def heads(made: bytes) -> tuple[str, int, list[str]]:
    read = Recommendation.model_validate_json(made)
    return read.recommendation_id, read.source_partition, ids(read)


# --- duplicates


@pytest.mark.parametrize("together", [True, False])
def test_an_event_sent_twice_is_answered_twice_and_counted_once(together: bool) -> None:
    twice = [click(item="1", event_id="e"), click(item="2", event_id="f"), click(item="1", event_id="e")]
    serving = Serving(model())
    if together:
        outcome = run(twice, serving)
        counts, lists, duplicates = outcome.counts, outcome.lists, outcome.duplicates
    else:
        first = run(twice[:2], serving)
        outcome = run(twice[2:], serving, first.sessions, start=2)
        counts, lists = first.counts + outcome.counts, first.lists + outcome.lists
        duplicates = first.duplicates + outcome.duplicates
    assert duplicates == 1
    assert [item for _, item, _ in counts] == ["1", "2"]
    assert [r.event_id for r in lists] == ["e", "f", "e"]
    assert lists[0].recommendation_id != lists[2].recommendation_id
    assert outcome.sessions[U].window.item_hashes == [item_hash("1"), item_hash("2")]
    assert outcome.sessions[U].applied_offset == 2
    assert ids(lists[2]) == ids(lists[1])


def test_the_same_event_id_of_another_user_is_another_event() -> None:
    assert run([click("u", event_id="e"), click("v", event_id="e")]).duplicates == 0


def test_an_event_id_is_forgotten_after_so_many_others() -> None:
    rules = Rules(recent_events=2)
    given = [click(item=i, event_id=i) for i in ("1", "2", "3", "1")]
    assert run(given, rules=rules).duplicates == 0
    assert run([given[0], given[1], given[0]], rules=rules).duplicates == 1


def test_an_event_hash_that_lies_across_two_others_is_not_recent() -> None:
    identity = event_hash("e").to_bytes(8, "little")
    across = {U: Session(recent_events=b"1234" + identity + b"5678")}
    assert run([click(event_id="e")], sessions=across).duplicates == 0
    assert run([click(event_id="e")], sessions={U: Session(recent_events=b"12345678" + identity)}).duplicates == 1


@pytest.mark.parametrize("limit", [0, 1, 2])
def test_a_session_that_remembers_more_event_ids_than_are_to_be_kept_forgets_the_oldest(limit: int) -> None:
    """`recent_events` was lowered since it was stored."""
    before = run([click(item=i, event_id=i) for i in "1234"]).sessions
    after = run([click(item="5", event_id="5")], sessions=before, rules=Rules(recent_events=limit), start=4)
    assert after.sessions[U].recent_event_hashes == tuple(map(event_hash, "12345"[5 - limit :]))


def test_a_request_sent_twice_is_a_duplicate_too() -> None:
    assert run([click(item=None, event_id="r"), click(item=None, event_id="r")]).duplicates == 1


# --- popularity


def test_an_event_counts_by_the_weight_of_its_type_and_its_time() -> None:
    rules = Rules(popularity_half_life=timedelta(seconds=10))
    outcome = run([click(item="7", event_type="purchase", timestamp_ms=5500, catalogue="films")], rules=rules)
    assert outcome.counts == [("films", "7", log2_count(3.0, 5.5, timedelta(seconds=10)))]


def test_counts_come_in_the_order_of_offsets_whoever_they_are_of() -> None:
    """Sums of floating point numbers depend on their order, and stored counts must not depend on batches."""
    outcome = run([click(user, str(n)) for n, user in enumerate("uuuvvu")])
    assert [item for _, item, _ in outcome.counts] == list("012345")


@pytest.mark.parametrize("kind", [t for t in EventType if not EVENT_TRAITS[t].weight])
def test_a_type_without_weight_counts_nothing(kind: EventType) -> None:
    item = "5" if EVENT_TRAITS[kind].needs_item else None
    assert run([click(item=item, event_type=kind)]).counts == []


def test_a_repeat_that_the_window_ignores_is_popular_all_the_same() -> None:
    outcome = run([click(event_id="a"), click(event_id="b")])
    assert len(outcome.counts) == 2
    assert len(outcome.sessions[U].window) == 1


# --- lists


def test_a_list_says_what_it_answers_and_where_it_comes_from() -> None:
    (first,) = run([click(event_id="e")], Serving(model("a")), start=12).lists
    assert (first.event_id, first.user_id, first.source_partition, first.source_offset) == ("e", "u", 3, 12)
    assert (first.model_version, first.generated_at_ms) == ("a", NOW_MS)
    assert first.recommendation_id == SOURCE.recommendation_id(12)


def test_the_id_of_a_list_is_fixed_for_all_time_and_told_apart_by_every_part() -> None:
    """Consumers throw repeats away by it."""
    assert Source("c", "t", 1).recommendation_id(2) == "7af5599a5fee6303" + "0000000000000002"  # b2sum -l 64
    places = [
        ("c", "t", 1, 2),
        ("d", "t", 1, 2),
        ("c", "s", 1, 2),
        ("c", "t", 2, 2),
        ("c", "t", 1, 3),
        ("c", "t", 11, 2),
    ]
    assert len({Source(*place[:3]).recommendation_id(place[3]) for place in places}) == len(places)


@every_search
def test_the_list_is_what_the_model_says_of_the_window(index_type: type[VectorIndex]) -> None:
    watched = ["3", "14", "15", "9", "26"]
    outcome = run([click(item=i) for i in watched], Serving(model(index_type=index_type)))
    for n, made in enumerate(outcome.lists, 1):
        assert ids(made) == best_of(model(), watched[:n], 10)
        assert sources(made) == {ANN}
        assert [i.score for i in made.items] == sorted((i.score for i in made.items), reverse=True)


def test_the_session_keeps_the_latest_list() -> None:
    outcome = run([click(item="1"), click(item="2")], Serving(model("a")))
    latest = outcome.sessions[U].latest
    assert latest is not None
    assert latest.item_ids == ids(outcome.lists[1])
    assert latest.scores == pytest.approx([item.score for item in outcome.lists[1].items], abs=1e-6)
    assert latest.sources == [ANN] * 10
    assert (latest.model_version, latest.generated_at_ms) == ("a", NOW_MS)


def test_an_unknown_item_in_the_window_is_passed_over_by_the_model() -> None:
    outcome = run([click(item=i) for i in ("3", "new", "14", "newer")], Serving(model()))
    assert ids(outcome.lists[1]) == ids(outcome.lists[0]) == best_of(model(), ["3"], 10)
    assert ids(outcome.lists[3]) == ids(outcome.lists[2]) == best_of(model(), ["3", "14"], 10)
    assert len(outcome.sessions[U].window) == 4


def test_an_unknown_item_after_what_was_stored_is_passed_over_too() -> None:
    before = run([click(item="3")], Serving(model())).sessions
    outcome = run([click(item="new"), click(item="newer"), click(item="14")], Serving(model()), before, start=1)
    assert ids(outcome.lists[0]) == ids(outcome.lists[1]) == best_of(model(), ["3"], 10)
    assert ids(outcome.lists[2]) == best_of(model(), ["3", "14"], 10)


def test_no_model_yet_popularity_answers_and_says_so() -> None:
    (made,) = run([click(item="2")], Serving(popular=popular("2", "7", "5"))).lists
    assert (ids(made), sources(made), made.model_version) == (["7", "5"], {POPULARITY}, None)


def test_a_new_user_without_an_item_gets_what_is_popular() -> None:
    (made,) = run([click(item=None)], Serving(model("a"), popular("2", "7"))).lists
    assert (ids(made), sources(made), made.model_version) == (["2", "7"], {POPULARITY}, "a")


def test_a_user_of_whom_the_model_knows_no_item_gets_what_is_popular() -> None:
    (made,) = run([click(item="new")], Serving(model(), popular("new", "7"))).lists
    assert (ids(made), sources(made)) == (["7"], {POPULARITY})


def test_another_catalogue_is_answered_by_its_own_popularity_not_by_the_model() -> None:
    serving = Serving(model(), {**popular("1", "2"), **popular("1", "b", catalogue="books")})
    (made,) = run([click(item="x", catalogue="books")], serving).lists
    assert (ids(made), sources(made)) == (["1", "b"], {POPULARITY})


def test_nothing_known_at_all_gives_an_empty_list() -> None:
    (made,) = run([click()]).lists
    assert made.items == []


@every_search
def test_seen_items_are_never_listed(index_type: type[VectorIndex]) -> None:
    watched = [str(i) for i in range(1, 26)]
    outcome = run(
        [click(item=i) for i in watched],
        Serving(model(index_type=index_type), popular(*ALL)),
        rules=Rules(window=WindowRule(max_len=6)),
    )
    for n, made in enumerate(outcome.lists, 1):
        assert not set(ids(made)) & set(watched[:n])
        assert len(set(ids(made))) == 10


@every_search
def test_unavailable_items_are_never_listed(index_type: type[VectorIndex]) -> None:
    gone = frozenset(item_hash(i) for i in ALL[:25])
    serving = Serving(model(index_type=index_type), popular(*ALL), gone)
    for made in run([click(item="30"), click(item=None), click("v", "new"), click("w", None)], serving).lists:
        assert not set(ids(made)) & set(ALL[:25])
        assert len(made.items) == 10


def test_an_item_that_becomes_available_again_is_listed_again() -> None:
    serving, best = model(), best_of(model(), ["3"], 10)[0]
    assert best not in ids(run([click(item="3")], Serving(serving, unavailable=frozenset({item_hash(best)}))).lists[0])
    assert ids(run([click(item="3")], Serving(serving)).lists[0])[0] == best


@every_search
@pytest.mark.parametrize("n_seen", [25, 29, 30, 31, 35, 39, 40])
def test_a_list_is_as_full_as_the_catalogue_allows(n_seen: int, index_type: type[VectorIndex]) -> None:
    """Also for a user who has seen nearly everything."""
    made = run([click(item=i) for i in ALL[:n_seen]], Serving(model(index_type=index_type))).lists[-1]
    assert len(made.items) == min(10, 40 - n_seen)


@every_search
def test_a_list_is_full_where_most_of_a_large_catalogue_is_seen(index_type: type[VectorIndex]) -> None:
    """Wider searches are needed here: the first candidates are all seen or unavailable."""
    item_ids = tuple(f"i{n}" for n in range(1200))
    large = model("large", item_ids, index_type=index_type)
    first = best_of(large, ["i0"], 1180)
    session = run([click(item="i0")], Serving(large)).sessions
    session[U].seen = with_seen(b"", [item_hash(i) for i in first[:600]], limit=600)
    gone = frozenset(item_hash(i) for i in first[600:1170])
    made, fresh = run(
        [click(item=None), click("v", "i1", "v")], Serving(large, unavailable=gone), session, start=1
    ).lists
    assert ids(made) == first[1170:1180]
    assert len(fresh.items) == 10


def test_popularity_fills_what_the_model_leaves_short_without_repeats() -> None:
    small = model("small", ("a", "b", "c", "d"))
    (made,) = run([click(item="a")], Serving(small, popular("b", "a", "x", "c", "y"))).lists
    assert [i.source for i in made.items] == [ANN] * 3 + [POPULARITY] * 2
    assert sorted(ids(made)[:3]) == ["b", "c", "d"]
    assert ids(made)[3:] == ["x", "y"]


@every_search
@pytest.mark.parametrize("top_n", [1, 3, 40])
def test_a_list_has_the_length_asked_for(top_n: int, index_type: type[VectorIndex]) -> None:
    (made,) = run([click(item="3")], Serving(model(index_type=index_type)), rules=Rules(top_n=top_n)).lists
    assert len(made.items) == min(top_n, 39)


def test_what_is_withheld_in_one_catalogue_may_be_listed_in_another() -> None:
    """An item of another catalogue with the same id is another item."""
    serving = Serving(None, popular("1", "2", "3", catalogue="films"), frozenset({item_hash("1", "books")}))
    (made,) = run([click(item="x", catalogue="films")], serving).lists
    assert ids(made) == ["1", "2", "3"]
    withheld = frozenset({item_hash("1", "films"), item_hash("3", "films")})
    (made,) = run([click(item="x", catalogue="films")], Serving(None, serving.popular, withheld)).lists
    assert ids(made) == ["2"]


def test_lists_are_counted_by_the_source_of_their_best_item() -> None:
    given = [click(item="1"), click("v", None), click("w", "x", catalogue="books"), click(item="2")]
    outcome = run(given, Serving(model(), popular("7")))
    assert [made.items[0].source if made.items else None for made in outcome.lists] == [ANN, POPULARITY, None, ANN]
    assert outcome.sources == Counter({ANN: 2, POPULARITY: 1, "none": 1})


@pytest.mark.parametrize("awkward", ['"', "\\", "\n\0\x1f", "ü😀\u2028", "\x7f", "x" * 128])
def test_an_id_of_any_characters_goes_through(awkward: str) -> None:
    small = model("awkward", (awkward, "plain", f"{awkward}2"))
    (made,) = run([click(awkward, "plain", awkward)], Serving(small, popular(f"{awkward}3"))).lists
    assert (made.user_id, made.event_id) == (awkward, awkward)
    assert set(ids(made)) == {awkward, f"{awkward}2", f"{awkward}3"}


# --- models


@pytest.mark.parametrize("kind", ENCODERS)
def test_steps_through_the_pipeline_give_what_encode_gives(kind: str) -> None:
    """Event by event, with restarts, gaps, repeats, requests and unknown items in between."""
    rng, served = np.random.default_rng(4), model(kind=kind)
    serving, rules = Serving(served), Rules(window=WindowRule(max_len=7, session_gap_s=50))
    sessions: dict[SessionKey, Session] = {}
    time_s = 0
    for offset in range(300):
        time_s += int(rng.choice([1, 30, 51], p=[0.8, 0.15, 0.05]))
        item = str(rng.integers(1, 46)) if rng.random() < 0.9 else None
        given = click(f"u{rng.integers(3)}", item, f"e{offset}", timestamp_ms=1000 * time_s)
        outcome = run([given], serving, sessions, rules, start=offset)
        sessions |= outcome.sessions
        (session,) = outcome.sessions.values()
        windows = known_window(session.window, served)
        if windows.any():
            states, _ = served.bundle.encoder.encode(windows)
            np.testing.assert_allclose(state_of(session.states[served.state_key]), states[0], atol=1e-4)
        else:
            assert session.states == {}


def test_what_passed_while_no_model_served_is_not_skipped_when_it_is_back() -> None:
    """A worker that takes over before it has loaded the model must not leave an old state behind."""
    with_model = Serving(model())
    sessions = dict(run([click(item="3")], with_model).sessions)
    sessions |= run([click(item="14")], Serving(), sessions, start=1).sessions
    outcome = run([click(item="9")], with_model, sessions, start=2)
    assert ids(outcome.lists[0]) == best_of(model(), ["3", "14", "9"], 10)
    expected, _ = model().bundle.encoder.encode(known_window(outcome.sessions[U].window, model()))
    np.testing.assert_allclose(state_of(outcome.sessions[U].states[model().state_key]), expected[0], atol=1e-4)


def test_what_passed_while_a_model_of_another_catalogue_served_is_not_skipped() -> None:
    sessions = dict(run([click(item="3")], Serving(model())).sessions)
    elsewhere = Serving(model("b", catalogue="books"))
    sessions |= run([click(item="14")], elsewhere, sessions, start=1).sessions
    assert ids(run([click(item="9")], Serving(model()), sessions, start=2).lists[0]) == best_of(
        model(), ["3", "14", "9"], 10
    )


def test_models_with_permuted_vocabularies_take_turns_and_no_list_mixes_them() -> None:
    """Each list recomputes from its own `model_version`, whatever served before."""
    permuted = tuple(str(i) for i in np.random.default_rng(1).permutation(range(1, 41)))
    models = [model("a"), model("b", permuted, seed=5), model("c", permuted[:30], seed=6)]
    rng, sessions = np.random.default_rng(2), {}
    watched: dict[str, list[str]] = {"u0": [], "u1": []}
    for turn in range(40):
        serving = models[rng.integers(3)]
        given = [
            click(f"u{rng.integers(2)}", str(rng.integers(1, 41)), f"{turn}-{n}") for n in range(rng.integers(1, 4))
        ]
        outcome = run(
            given, Serving(serving), sessions, Rules(window=WindowRule(max_len=500, repeats="keep")), 10 * turn
        )
        sessions |= outcome.sessions
        for interaction, made in zip(given, outcome.lists, strict=True):
            past = watched[interaction.user_id]
            past.append(str(interaction.item_id))
            assert made.model_version == serving.version
            if made.items:  # the smallest model may know none of the window
                assert ids(made) == best_of(serving, past, 10)
            else:
                assert not set(past) & set(serving.bundle.vocabulary.item_ids)
    for session in sessions.values():
        assert len(session.states) <= 1


def test_the_state_of_the_model_is_found_among_those_of_others() -> None:
    """A request changes nothing, so the list is that of the state which is stored; no other model's is kept."""
    key, before = model().state_key, run([click(item="3")], Serving(model())).sessions
    state = before[U].states[key]
    for states in (
        {"a@b": bytes(40), key: state, f"{key}c": bytes(24)},
        {key[:-1]: bytes(24), f"{key} ": b"", key: state},
    ):
        given = {U: replace(before[U], states=states)}
        after = run([click(item=None)], Serving(model()), given, start=1)
        assert after.sessions[U].states == {key: state}
        assert ids(after.lists[0]) == best_of(model(), ["3"], 10)


def test_a_state_of_another_size_is_not_taken_for_the_models_own() -> None:
    """As where a bundle was made anew under the version that it had."""
    key, before = model().state_key, run([click(item="3")], Serving(model())).sessions
    given = {U: replace(before[U], states={key: bytes(4)})}
    after = run([click(item="14")], Serving(model()), given, start=1)
    assert ids(after.lists[0]) == best_of(model(), ["3", "14"], 10)
    assert len(after.sessions[U].states[key]) == len(before[U].states[key])


def test_states_are_kept_as_they_are_while_no_model_reads_them_and_the_window_stays() -> None:
    before = run([click(item="3")], Serving(model())).sessions
    given = {U: replace(before[U], states={**before[U].states, "gru@b": bytes(12)})}
    for nothing_new in (
        click(item=None),
        click(item="3", event_id="again"),
        click(item="3"),
        click(item="9", event_type="skip"),
    ):
        for serving in (Serving(), Serving(model("b", catalogue="books"))):
            assert run([nothing_new], serving, given, start=1).sessions[U].states == given[U].states


def test_an_old_models_state_is_dropped_with_the_first_event_under_the_new_one() -> None:
    sessions = run([click(item="1")], Serving(model("a"))).sessions
    after = run([click(item=None)], Serving(model("b", seed=9)), sessions, start=1).sessions[U]
    assert set(after.states) == {"gru@b"}


def test_a_batch_is_one_with_its_rows_alone() -> None:
    """Ten users at once, each list the same as alone."""
    given = [click(f"u{n % 10}", str(1 + n * 7 % 40), f"e{n}") for n in range(60)]
    together = run(given, Serving(model()))
    for n in range(10):
        alone = run(given[n::10], Serving(model()))
        assert [ids(r) for r in alone.lists] == [ids(r) for r in together.lists[n::10]]


def test_known_windows_leave_unknown_items_out_and_pad_on_the_left() -> None:
    windows = ["1x3", "", "x", "2"]
    hashes = np.array([item_hash(i) for window in windows for i in window], dtype=np.uint64)
    found = known_windows(hashes, np.array([len(window) for window in windows]), model())
    np.testing.assert_array_equal(found, [[1, 3], [0, 0], [0, 0], [0, 2]])
    one = Window.of(Entry(item_hash(i), 0, 2) for i in "1x3")
    np.testing.assert_array_equal(known_window(one, model()), [[1, 3]])
    np.testing.assert_array_equal(known_window(Window(), model()), [[0]])


@every_search
def test_the_index_of_the_test_model_is_exact(index_type: type[VectorIndex]) -> None:
    """What the expectations above rest on."""
    serving = model(index_type=index_type)
    queries = serving.bundle.encoder.encode(np.array([[1], [2]]))[1]
    assert recall_at_k(serving.index, serving.bundle.item_vectors, queries, 10) == 1.0


def test_stages_are_timed_in_their_order() -> None:
    seen: list[str] = []

    @contextmanager
    def stage(name: str) -> Iterator[None]:
        seen.append(name)
        yield

    process([Batch(SOURCE, events([click()]))], Serving(model()), Rules(), NOW_MS, stage)
    assert list(dict.fromkeys(seen)) == ["encode", "retrieve", "strategy", "pack"]
