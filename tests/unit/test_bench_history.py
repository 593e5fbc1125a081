"""The users of the benchmark of histories."""

from __future__ import annotations

from collections import Counter

from streams.cli.bench.catalogues import WINDOW_RULE
from streams.cli.bench.history import FULL, PASTS, QUICK, Turn, in_turn, measured_turns


def test_users_take_turns_on_other_items_each_time() -> None:
    clicks = list(in_turn([Turn(0, ["a", "b"], 0, 3), Turn(0, ["a"], 3, 5)], n_items=50))
    assert [sorted(click.user_id for click in clicks[n : n + 2]) for n in (0, 2, 4)] == [["a", "b"]] * 3
    assert Counter(click.user_id for click in clicks) == {"a": 5, "b": 3}
    assert len({(click.user_id, click.item_id) for click in clicks}) == len(clicks)
    assert [click.timestamp_ms for click in clicks] == sorted(click.timestamp_ms for click in clicks)


def test_every_round_measures_as_many_events_of_each_past() -> None:
    for size in (FULL, QUICK):
        turns = measured_turns(size)
        measured = Counter[int]()
        for turn in turns:
            measured[turn.past] += len(turn.users) * (turn.end - turn.start)
        assert measured == dict.fromkeys(PASTS, size.rounds * size.measured)
        assert {len(turn.users) for turn in turns} == {size.users}


def test_a_past_is_as_long_as_it_says_when_it_is_measured() -> None:
    done: Counter[str] = Counter()
    for turn in measured_turns(FULL):
        for user in turn.users:
            assert turn.start == turn.past + done[user]
            done[user] += turn.end - turn.start
        assert turn.end <= turn.past * 2 if turn.past < max(PASTS) else turn.end <= turn.past * 1.2


def test_every_round_has_its_share_of_the_restarts_of_full_windows() -> None:
    between_restarts = WINDOW_RULE.max_len - WINDOW_RULE.max_len // 2
    for past in PASTS[1:]:
        assert FULL.measured_per_user[past] % between_restarts == 0
