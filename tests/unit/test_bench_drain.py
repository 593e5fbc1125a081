"""Where a benchmark measures from."""

from __future__ import annotations

import pytest

from streams.cli.bench.drain import Mark, measured_from


def mark(n_answered: int, cpu_s: float) -> Mark:
    return Mark(n_answered, at_s=float(n_answered), cpu_s=cpu_s, rss_bytes=0, stage_s={}, stage_calls={})


START, END = mark(0, 0.5), mark(4_000, 0.75)


def test_warm_up_is_left_out() -> None:
    begin = mark(600, 0.6)
    assert measured_from(START, begin, END) is begin


@pytest.mark.parametrize(
    "begin", [mark(4_000, 0.6), mark(3_900, 0.75), mark(3_900, 0.74)], ids=["no list", "no tick", "one tick"]
)
def test_so_few_events_that_their_cost_cannot_be_told_are_measured_from_the_start(begin: Mark) -> None:
    assert measured_from(START, begin, END) is START
