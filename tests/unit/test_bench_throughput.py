"""What is reported of several rounds of our worker and its limit."""

from __future__ import annotations

from dataclasses import replace

import pytest

from streams.cli.bench.benchmark import lost_events
from streams.cli.bench.drain import Drained
from streams.cli.bench.throughput import FULL, QUICK, Round, middle, round_figures

OURS = Drained(
    n_events=1_000, n_answered=1_000, lost=0, duplicates=0, events_per_s=20_000.0, cpu_us_per_event=20.0,
    measured_events=800, measured_s=0.04, longest_pause_s=0.01, rss_bytes=500_000_000,
)  # fmt: skip


def rounds(*limits_us: float) -> list[Round]:
    """As many rounds, told apart by their speed, at 20 µs of CPU an event."""
    return [
        Round(replace(OURS, events_per_s=1_000.0 * number), {"limit_us": us, "limit_us_search": us / 2})
        for number, us in enumerate(limits_us, start=1)
    ]


def test_the_round_in_the_middle_is_reported_whole_with_the_range_of_all() -> None:
    figures = round_figures(rounds(18.0, 10.0, 14.0))
    assert (figures["share_of_limit"], figures["share_of_limit_min"], figures["share_of_limit_max"]) == (0.7, 0.5, 0.9)
    assert (figures["limit_us"], figures["limit_us_search"], figures["events_per_s"]) == (14.0, 7.0, 3_000.0)
    assert figures["rounds"] == 3


@pytest.mark.parametrize("place", [0, 1, 2])
def test_an_event_that_any_round_lost_is_lost(place: int) -> None:
    all_rounds = rounds(18.0, 10.0, 14.0)
    all_rounds[place] = all_rounds[place]._replace(ours=replace(OURS, lost=2, duplicates=1))
    figures = round_figures(all_rounds)
    assert lost_events(figures) == {"lost": 2}
    assert (figures["events"], figures["duplicates"]) == (3_000, 1)


def test_the_number_of_rounds_has_a_middle() -> None:
    assert FULL.rounds == 3
    assert QUICK.rounds == 1
    only = rounds(12.0)
    assert middle(only) is only[0]
