"""What the demo remembers of events and lists, and how it shows them."""

from __future__ import annotations

import io
from contextlib import suppress

import pytest
from rich.console import Console

from encoders.records import Interaction, Recommendation
from streams.cli.demo.live import LiveView
from streams.cli.demo.score import HitRates, Hits, Percentiles, Phase
from streams.cli.demo.summary import Summary
from streams.cli.demo.traffic import Ledger
from streams.cli.progress import counted

TITLES = {"50": "Star Wars (1977)", "1": "Toy Story (1995)", "7": "[b]Twelve Monkeys"}


def rated(event_id: str, item_id: str, user_id: str = "u") -> Interaction:
    return Interaction(
        event_id=event_id, user_id=user_id, item_id=item_id, event_type="rating", timestamp_ms=0, value=5.0
    )


def listed(event_id: str, *item_ids: str, user_id: str = "u", version: str | None = "v1") -> Recommendation:
    return Recommendation(
        recommendation_id=f"r-{event_id}",
        event_id=event_id,
        user_id=user_id,
        source_partition=0,
        source_offset=0,
        model_version=version,
        generated_at_ms=0,
        items=[{"item_id": item_id, "score": 1.0, "source": "ann"} for item_id in item_ids],
    )


class TestLedger:
    def test_an_event_is_under_way_until_its_list_comes(self) -> None:
        ledger = Ledger()
        ledger.publishing(rated("e1", "50"), replayed=True)
        assert (ledger.n_unanswered, ledger.oldest_unanswered_s()) == (1, ledger.sent_s["e1"])
        ledger.receive(listed("e1", "1"))
        assert (ledger.n_unanswered, ledger.oldest_unanswered_s()) == (0, None)
        assert [trip.sent_s <= trip.received_s for trip in ledger.trips()] == [True]

    def test_a_repeated_list_is_counted_and_changes_nothing_else(self) -> None:
        ledger = Ledger()
        ledger.publishing(rated("e1", "50"), replayed=True)
        ledger.receive(listed("e1", "1"))
        first_s = ledger.received_s["e1"]
        ledger.receive(listed("e1", "7", version="v2"))
        assert ledger.received["e1"] == 2
        assert ledger.received_s["e1"] == first_s
        assert ledger.lists["e1"].item_ids == ("1",)
        assert ledger.versions == ["v1"]

    def test_events_of_the_past_have_lists_but_no_latency(self) -> None:
        ledger = Ledger()
        ledger.publishing(rated("e1", "50"), replayed=False)
        ledger.receive(listed("e1", "1"))
        assert ledger.trips() == []
        assert list(ledger.recent) == []
        assert "e1" in ledger.lists

    def test_running_hits_compare_with_the_users_list_before(self) -> None:
        ledger = Ledger()
        ledger.publishing(rated("e1", "50"), replayed=False)
        ledger.receive(listed("e1", "1"))
        for event in (rated("e2", "1"), rated("e3", "50"), rated("f1", "1", user_id="w")):
            ledger.publishing(event, replayed=True)
        ledger.receive(listed("e2", "7"))
        ledger.receive(listed("e3", "7"))
        ledger.receive(listed("f1", "7", user_id="w"))
        assert [shown.foreseen for shown in ledger.recent] == [True, False, None]
        assert (ledger.hits, ledger.targets) == (1, 2)

    def test_versions_come_in_the_order_of_their_first_list(self) -> None:
        ledger = Ledger()
        for event_id, version in (("a", None), ("b", "v1"), ("c", "v2"), ("d", "v1")):
            ledger.receive(listed(event_id, "1", version=version))
        assert ledger.versions == ["v1", "v2"]


@pytest.fixture
def ledger() -> Ledger:
    ledger = Ledger()
    ledger.publishing(rated("e1", "50"), replayed=True)
    ledger.receive(listed("e1", "1", "7"))
    return ledger


class TestLiveView:
    def test_without_a_terminal_there_are_plain_lines_and_no_control_codes(self, ledger: Ledger) -> None:
        out = io.StringIO()
        with LiveView(Console(file=out, width=60), ledger, TITLES, n_replayed=4, top_n=10) as view:
            view.say("5. Half-way")
            view.refresh()
            view._line_at_s = 0.0
            view.refresh()
        text = out.getvalue()
        assert "\x1b" not in text
        assert "1 of 4 events" in text
        assert "user u just watched Star Wars (1977); now: 1. Toy Story (1995)  2. [b]Twelve Monkeys" in text

    def test_a_line_comes_only_now_and_then(self, ledger: Ledger) -> None:
        out = io.StringIO()
        with LiveView(Console(file=out), ledger, TITLES, n_replayed=4, top_n=10) as view:
            for _ in range(100):
                view.refresh()
        assert out.getvalue() == ""

    def test_on_a_terminal_it_shows_who_watched_what_and_the_list(self, ledger: Ledger) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True, width=100)
        console.print(LiveView(console, ledger, TITLES, n_replayed=4, top_n=1).picture())
        text = out.getvalue()
        assert "Star Wars (1977)" in text
        assert "Toy Story (1995)" in text
        assert "Twelve Monkeys" not in text

    def test_nothing_to_show_yet_is_no_error(self) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True)
        view = LiveView(console, Ledger(), {}, n_replayed=4, top_n=10)
        console.print(view.picture())
        assert "0 of 4 events" in view.lines()


def summary(**changes: object) -> Summary:
    figures: dict[str, object] = {
        "events_in": 4,
        "recommendations_out": 5,
        "lost": [],
        "duplicated": 1,
        "state_mismatches": [],
        "n_sessions": 2,
        "replay_rate": 286.12,
        "latency": {phase: Percentiles(1, 10.0, 20.0, 30.0) for phase in Phase}
        | {Phase.SWAP: Percentiles(0, None, None, None)},
        "rates": HitRates(Hits(4, 2, 1), Hits(4, 2, 1), Hits()),
        "model_versions": ["v1", "v2"],
        "train_s": [30.04, 41.0],
    }
    return Summary(**(figures | changes))  # type: ignore[arg-type]


class TestSummary:
    def test_json_has_the_promised_keys(self) -> None:
        assert summary().to_json() == {
            "events_in": 4,
            "recommendations_out": 5,
            "lost": 0,
            "duplicated": 1,
            "state_mismatches": 0,
            "replay_rate": 286.1,
            "latency_ms": {
                "steady": {"p50": 10.0, "p95": 20.0, "p99": 30.0},
                "swap": {"p50": None, "p95": None, "p99": None},
                "takeover": {"p50": 10.0, "p95": 20.0, "p99": 30.0},
            },
            "hit_rate_at_10": 0.5,
            "hit_rate_at_10_known": 0.5,
            "hit_rate_at_10_new": None,
            "popularity_hit_rate_at_10": 0.25,
            "popularity_hit_rate_at_10_known": 0.25,
            "popularity_hit_rate_at_10_new": None,
            "model_versions": ["v1", "v2"],
            "train_s": [30.0, 41.0],
        }

    def test_all_is_well_with_repeated_lists(self) -> None:
        assert summary().problems() == []

    @pytest.mark.parametrize(
        ("changes", "complaint"),
        [
            ({"lost": ["e7"]}, "1 events got no list, among them e7"),
            ({"state_mismatches": ["default/u: window is"]}, "1 sessions in Redis are not what the log amounts to"),
            ({"model_versions": ["v1"]}, "lists came only from: v1"),
            ({"model_versions": []}, "lists came only from: none"),
        ],
    )
    def test_what_went_wrong_is_said(self, changes: dict[str, object], complaint: str) -> None:
        (problem,) = summary(**changes).problems()
        assert complaint in problem

    def test_tables_show_every_phase_and_group(self) -> None:
        out = io.StringIO()
        for table in summary().tables():
            Console(file=out, width=120).print(table)
        for words in ("steady", "swapped", "worker is dead", "known to the model", "0.5000", "0.2500", "30.0"):
            assert words in out.getvalue()


class TestCounted:
    def test_without_a_terminal_the_end_is_one_line(self) -> None:
        out = io.StringIO()
        with counted(Console(file=out), "films", 1000) as done:
            for n in range(1, 1001):
                done(n)
        assert out.getvalue() == "films: 1,000 of 1,000\n"

    def test_an_interruption_shows_how_far_it_came(self) -> None:
        out = io.StringIO()
        console = Console(file=out, force_terminal=True)
        with suppress(KeyboardInterrupt), counted(console, "films", 10) as done:
            done(3)
            raise KeyboardInterrupt
        assert "films" in out.getvalue()
