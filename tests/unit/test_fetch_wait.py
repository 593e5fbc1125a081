"""How long a broker may look for records."""

from __future__ import annotations

from streams.fetch_wait import FetchWait


def test_it_grows_only_after_a_while_with_few_records_while_there_are_more() -> None:
    wait = FetchWait(10)
    assert [wait.after(3, 100, now_s) for now_s in (0.0, 0.4, 0.5, 0.9, 1.0)] == [False, False, True, False, True]
    assert wait.wait_ms == 40


def test_many_records_or_the_logs_end_begin_the_while_anew() -> None:
    wait = FetchWait(10)
    for n_records, n_left in ((32, 100), (0, 0), (3, 0)):
        wait.after(0, 100, 0.0)
        assert not wait.after(n_records, n_left, 0.6)
        assert not wait.after(0, 100, 0.7)
        assert not wait.after(99, 100, 0.8)
    assert wait.wait_ms == 10


def test_it_ends_at_half_a_second_and_keeps_a_longer_one() -> None:
    wait, longer = FetchWait(300), FetchWait(1000)
    for now_s in range(10):
        wait.after(0, 100, now_s)
        longer.after(0, 100, now_s)
    assert (wait.wait_ms, longer.wait_ms) == (500, 1000)
