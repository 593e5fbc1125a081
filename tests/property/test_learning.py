"""A worker lets a model learn exactly what the trainer would have, whatever the log and its batches."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.events import EVENT_BY_CODE
from encoders.records import Interaction
from encoders.window import WindowRule
from streams.pipeline import Rules, Serving, Source, process
from streams.session import StoredSession
from tests.histories import logs, rules
from tests.inmemory import NOW_MS, events, finding, retriever_model
from trainer.learning import Lessons

SOURCE = Source("cluster", "interactions", 0)

Learned = list[tuple[int, int, float]]


def learned_by_a_worker(log, rule: WindowRule, cuts: list[int]) -> Learned:
    """Session, item and time of what a worker would let its model have, batch by batch."""
    interactions = [
        Interaction(
            event_id=str(place),
            user_id=log.user_ids[user],
            item_id=str(item + 1),
            event_type=EVENT_BY_CODE[code],
            timestamp_ms=time_ms,
        )
        for place, (user, item, time_ms, code) in enumerate(
            zip(*(c.tolist() for c in (log.user_codes, log.item_codes, log.times_ms, log.type_codes)), strict=True)
        )
    ]
    serving, stored, learned = Serving(retriever_model(rule=rule)), {}, []
    bounds = sorted({0, len(interactions), *(cut % (len(interactions) + 1) for cut in cuts)})
    for first, end in pairwise(bounds):
        batch = finding(SOURCE, events(interactions[first:end], first), stored)
        (outcome,) = process([batch], serving, Rules(window=rule), NOW_MS)
        stored |= {
            key: StoredSession(packed, outcome.seen.get(key, stored.get(key, StoredSession(b"")).seen))
            for key, packed in outcome.sessions.items()
        }
        clicks = outcome.clicks
        learned += zip(clicks.session_B.tolist(), clicks.item_B.tolist(), clicks.time_s_B.tolist(), strict=True)
    return learned


@given(logs, rules, st.lists(st.integers(0, 60), max_size=3))
def test_trainer_and_worker_mean_the_same_sessions(log, rule: WindowRule, cuts: list[int]) -> None:
    """The order is each session's own: in which users took turns, the trainer goes by their times."""
    lessons = Lessons.of(log, rule)
    columns = lessons.session_W, lessons.item_W, lessons.time_s_W
    taught = [*zip(*(column.tolist() for column in columns), strict=True)]
    learned = learned_by_a_worker(log, rule, cuts)
    by_session = [sorted(each, key=lambda click: click[0]) for each in (taught, learned)]
    assert by_session[0] == by_session[1]


@given(logs, rules)
def test_lessons_are_in_the_order_of_time_and_each_users_in_their_own(log, rule: WindowRule) -> None:
    lessons = Lessons.of(log, rule)
    latest: dict[int, int] = {}
    moved = []
    for user, time_ms in zip(log.user_codes.tolist(), log.times_ms.tolist(), strict=True):
        latest[user] = max(time_ms, latest.get(user, 0))
        moved.append(latest[user])  # an event counts as being as late as the latest before it
    assert (np.diff(np.array(moved)[lessons.event_W]) >= 0).all()
    for user in latest:
        assert (np.diff(lessons.event_W[log.user_codes[lessons.event_W] == user]) > 0).all()
