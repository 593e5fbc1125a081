"""What the demo measures, against numbers worked out by hand."""

from __future__ import annotations

import pytest

from streams.cli.demo.pace import default_rate, stretched_rate
from streams.cli.demo.score import (
    Hits,
    LoggedEvent,
    MadeList,
    Percentiles,
    Phase,
    Span,
    TrainingData,
    Trip,
    hit_rates,
    latencies,
    lost_and_duplicated,
    percentiles,
    phase_of,
)

SPANS = [Span(Phase.TRAINING, 100, 140), Span(Phase.SWAP, 140, 145), Span(Phase.TAKEOVER, 150, 162)]


@pytest.mark.parametrize(
    ("sent_s", "received_s", "phase"),
    [
        (99.0, 99.9, Phase.STEADY),
        (99.9, 100.0, Phase.TRAINING),
        (139.0, 139.5, Phase.TRAINING),
        (139.0, 140.5, Phase.SWAP),
        (145.0, 145.1, Phase.SWAP),
        (146.0, 147.0, Phase.STEADY),
        (149.9, 161.0, Phase.TAKEOVER),
        (120.0, 170.0, Phase.TAKEOVER),
        (162.1, 163.0, Phase.STEADY),
    ],
)
def test_an_event_counts_to_the_gravest_phase_it_lived_through(sent_s: float, received_s: float, phase: Phase) -> None:
    assert phase_of(Trip(sent_s, received_s), SPANS) is phase


def test_percentiles_interpolate_between_the_two_nearest() -> None:
    """Of 1 … 5 ms, the 95th percentile lies at place 0.95 * 4 = 3.8: 4 + 0.8 * (5 - 4)."""
    assert percentiles([5.0, 1.0, 3.0, 2.0, 4.0]) == Percentiles(5, 3.0, 4.8, 4.96)


def test_latency_is_from_publication_to_receipt_in_milliseconds() -> None:
    found = latencies([Trip(10.0, 10.25), Trip(151.0, 159.0)], SPANS)
    assert found[Phase.STEADY] == Percentiles(1, 250.0, 250.0, 250.0)
    assert found[Phase.TAKEOVER] == Percentiles(1, 8000.0, 8000.0, 8000.0)
    assert found[Phase.SWAP] == Percentiles(0, None, None, None)


def test_lost_are_the_published_without_a_list_and_duplicates_what_comes_beyond_the_first() -> None:
    received = {"a": 1, "b": 3, "never-published": 2}
    assert lost_and_duplicated(["a", "b", "c"], received) == (["c"], 3)


def log(*events: tuple[int, int, str, str]) -> list[LoggedEvent]:
    """Events as (partition, offset, user, item); the event id is partition-offset."""
    return [LoggedEvent(p, o, f"{p}-{o}", user, item) for p, o, user, item in events]


TRAINED = log(
    (0, 0, "ann", "a"),
    (0, 1, "bob", "a"),
    (0, 2, "cat", "a"),
    (0, 3, "ann", "b"),
    (0, 4, "bob", "b"),
    (0, 5, "ann", "d"),
    (0, 6, "bob", "c"),
    (0, 7, "ann", "z"),
)


class TestTrainingData:
    """a three times, b twice, c and d once, z is past what the model has seen."""

    data = TrainingData(TRAINED, {0: 7})

    def test_items_rank_by_count_and_then_by_id(self) -> None:
        assert self.data.ranking == ["a", "b", "c", "d"]

    def test_users_are_those_with_an_event_before_the_end(self) -> None:
        assert self.data.users == {"ann", "bob", "cat"}

    @pytest.mark.parametrize(
        ("target", "seen", "k", "hit"),
        [
            ("b", set(), 2, True),
            ("c", set(), 2, False),
            ("c", {"a"}, 2, True),
            ("d", {"a"}, 2, False),
            ("a", {"a"}, 2, False),
            ("z", set(), 2, False),
        ],
    )
    def test_seen_items_leave_their_place_to_the_next(self, target: str, seen: set[str], k: int, hit: bool) -> None:
        assert self.data.popularity_hit(target, seen, k) is hit

    def test_a_partition_that_was_not_read_counts_for_nothing(self) -> None:
        assert TrainingData(TRAINED, {1: 100}).ranking == []


class TestHitRates:
    """Two films are popular, a and b; the lists name others."""

    history = log((0, 0, "ann", "a"), (0, 1, "bob", "b"), (0, 2, "bob", "a"))
    replay = log((0, 3, "ann", "x"), (0, 4, "ann", "b"), (1, 0, "new", "a"), (1, 1, "new", "y"))

    def rates(self, lists: dict[str, MadeList]):
        first = TrainingData(self.history, {0: 3})
        second = TrainingData(self.history + self.replay, {0: 5, 1: 1})
        replayed = {event.event_id for event in self.replay}
        return hit_rates(self.history + self.replay, lists, replayed, {"v1": first, "v2": second})

    def test_the_list_of_the_same_users_event_before_decides(self) -> None:
        rates = self.rates(
            {
                "0-0": MadeList("v1", ("x",)),  # ann then took x: hit
                "0-2": MadeList("v1", ("b",)),  # bob's: not ann's
                "0-3": MadeList("v1", ("y",)),  # ann then took b: miss, but popularity knew
                "0-4": MadeList("v1", ("y",)),
                "1-0": MadeList("v1", ("y",)),  # new then took y: hit
                "1-1": MadeList("v1", ("y",)),
            }
        )
        assert rates.all == Hits(targets=3, hits=2, popularity_hits=1)
        assert rates.known == Hits(targets=2, hits=1, popularity_hits=1)
        assert rates.new == Hits(targets=1, hits=1, popularity_hits=0)

    def test_a_users_very_first_event_is_no_target(self) -> None:
        assert self.rates({}).all.targets == 3

    def test_without_the_list_before_the_target_is_missed(self) -> None:
        assert self.rates({}).all.hits == 0

    def test_who_is_known_goes_by_the_model_that_made_the_list(self) -> None:
        rates = self.rates({"1-0": MadeList("v2", ())})
        assert (rates.known.targets, rates.new.targets) == (3, 0)

    def test_only_the_first_ten_of_a_longer_list_count(self) -> None:
        eleven = (*(f"i{n}" for n in range(10)), "x")
        assert self.rates({"0-0": MadeList("v1", eleven)}).all.hits == 0
        assert self.rates({"0-0": MadeList("v1", eleven[1:])}).all.hits == 1

    def test_rates_are_shares_of_the_targets_and_none_without_any(self) -> None:
        assert (Hits(4, 1, 3).rate, Hits(4, 1, 3).popularity_rate) == (0.25, 0.75)
        assert (Hits().rate, Hits().popularity_rate) == (None, None)


def test_half_of_the_events_take_25_seconds_unless_a_rate_is_given() -> None:
    assert default_rate(20_000) == 400.0
    assert default_rate(3) == 1.0


def test_a_stretch_is_slowed_so_that_its_events_last() -> None:
    assert stretched_rate(400.0, 6000, 40.0) == 150.0
    assert stretched_rate(100.0, 6000, 40.0) == 100.0


def test_an_overdue_stretch_never_stands_still() -> None:
    assert stretched_rate(400.0, 0, -100.0) == 5.0
    assert stretched_rate(2.0, 0, -100.0) == 2.0
