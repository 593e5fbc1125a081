"""What the compiled loops make of whole batches is what the plain fold makes of one event after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from encoders.events import EVENT_TRAITS, EventType
from encoders.records import Interaction, Recommendation
from encoders.vocabulary import item_hash
from encoders.window import Entry, Step, WindowRule, extend
from streams.decode import Limits
from streams.fold import TOLERANCE, PartitionState, fold
from streams.pipeline import Batch, Outcome, Rules, Serving, Source, process
from streams.popularity import most_popular
from streams.serving import ServingModel
from streams.session import Session, SessionKey, StoredSession, pack, state_of, unpack
from streams.waves import known_window
from tests.inmemory import NOW_MS, click, events, finding, model, record

N_PARTITIONS = 2
CATALOGUES = ["default", "books"]
PERMUTED = tuple(str(number) for number in range(20, 0, -1))
MODELS = [model(), model("b", PERMUTED, seed=1), model("c", catalogue="books")]
POPULAR = {"default": most_popular([{str(n): -float(n) for n in range(1, 30)}], "default", 100)}


class Drawn(NamedTuple):
    """One event, in few numbers."""

    partition: int
    user: int
    catalogue: str
    kind: EventType
    item: int
    event_id: int
    time_s: int

    @property
    def interaction(self) -> Interaction:
        """The event itself; an item goes with every other event that needs none."""
        has_item = EVENT_TRAITS[self.kind].needs_item or self.item % 2
        return click(
            f"u{self.user}",
            str(self.item) if has_item else None,
            f"e{self.event_id}",
            event_type=self.kind,
            catalogue=self.catalogue,
            timestamp_ms=NOW_MS - 100_000 + 1000 * self.time_s + self.item,
        )


drawn = st.builds(
    Drawn,
    st.integers(0, N_PARTITIONS - 1),
    st.integers(0, 2),
    st.sampled_from([*CATALOGUES, "default"]),
    st.sampled_from([*EventType, *[EventType.CLICK] * len(EventType)]),
    st.integers(1, 12) | st.integers(1, 44),
    st.integers(0, 20),
    st.integers(0, 30),
)
"""The models know items up to 20 or 40; time may run backwards."""
rules = st.builds(
    Rules,
    window=st.builds(
        WindowRule,
        max_len=st.integers(2, 7),
        repeats=st.sampled_from(["collapse", "keep"]),
        session_gap_s=st.none() | st.integers(1, 20),
        event_types=st.just(WindowRule().event_types) | st.sets(st.sampled_from(EventType)).map(tuple),
    ),
    top_n=st.integers(1, 5),
    max_seen=st.integers(0, 6),
    recent_events=st.integers(0, 5),
)
servings = st.sampled_from([Serving(), *(Serving(each, POPULAR) for each in MODELS)])
fetches = st.lists(st.tuples(servings, st.lists(drawn, max_size=25)), min_size=1, max_size=4)
"""Each answered by another model, if need be."""
fetches_of_one_model = st.tuples(servings, st.lists(st.lists(drawn, max_size=25), min_size=1, max_size=4)).map(
    lambda chosen: [(chosen[0], each) for each in chosen[1]]
)


class Reference:
    """One partition, folded event by event."""

    def __init__(self, partition: int, given_rules: Rules) -> None:
        self.source = Source("cluster", "interactions", partition)
        self.folded = PartitionState()
        self.stored: dict[SessionKey, StoredSession] = {}
        """What `process` has led to."""
        self.popularity: dict[tuple[str, str], float] = {}
        self.duplicates = 0
        self.state_keys: dict[SessionKey, set[str]] = {}
        self.end = 0
        self._rules = given_rules

    def batch(self, interactions: Sequence[Interaction]) -> Batch:
        """The next events, and the sessions that they find."""
        decoded = events(interactions, self.end)
        self.end += len(interactions)
        return finding(self.source, decoded, self.stored)

    def follow(self, interactions: Sequence[Interaction], serving: ServingModel | None) -> None:
        """Fold the same events."""
        for offset, interaction in enumerate(interactions, self.end - len(interactions)):
            key = SessionKey(interaction.catalogue, interaction.user_id)
            may_enter, duplicates = self._may_enter(interaction, key), self.folded.duplicates
            fold(
                [record(offset, interaction)],
                partition=0,
                n_partitions=1,
                rules=self._rules,
                limits=Limits(),
                now_ms=NOW_MS,
                into=self.folded,
            )
            if serving and serving.catalogue == key.catalogue:
                knows = known_window(self.folded.sessions[key].window, serving).any()
                self.state_keys[key] = {serving.state_key} if knows else set()
            elif may_enter and self.folded.duplicates == duplicates:
                self.state_keys[key] = set()

    def _may_enter(self, interaction: Interaction, key: SessionKey) -> bool:
        """Whether an event enters its user's window, unless it had come before."""
        before = self.folded.sessions.get(key, Session())
        if interaction.item_id is None:
            return False
        identity = item_hash(interaction.item_id, interaction.catalogue)
        entry = Entry(identity, interaction.timestamp_ms // 1000, EVENT_TRAITS[interaction.event_type].code)
        return extend(before.window.copy(), entry, self._rules.window)[0] is not Step.IGNORED

    def take(self, batch: Batch, outcome: Outcome) -> None:
        """Take over what `process` has made of a batch."""
        for key, before in zip(batch.decoded.events.keys, batch.seen, strict=True):
            self.stored[key] = StoredSession(outcome.sessions[key], outcome.seen.get(key, before))
        self.popularity |= outcome.counts.onto(self.popularity)
        self.duplicates += outcome.duplicates


def assert_same(reference: Reference, models: Mapping[str, ServingModel]) -> None:
    """Bit by bit, but for encoder states."""
    folded = reference.folded
    assert reference.stored.keys() == folded.sessions.keys()
    for key, expected in folded.sessions.items():
        found = reference.stored[key].session()
        assert found.applied_offset == expected.applied_offset
        assert found.window == expected.window
        assert found.seen == expected.seen
        assert found.recent_events == expected.recent_events
        assert found.states.keys() == reference.state_keys.get(key, set())
        for name, state in found.states.items():
            states, _ = models[name].bundle.encoder.encode(known_window(expected.window, models[name]))
            np.testing.assert_allclose(state_of(state), states[0], atol=TOLERANCE)
        assert pack(found) == reference.stored[key].packed
    assert reference.popularity == folded.popularity
    assert reference.duplicates == folded.duplicates


def assert_latest(batch: Batch, outcome: Outcome) -> None:
    """A session holds the list that was made for its user's newest event."""
    received = batch.decoded.events
    made = {received.keys[n]: each for n, each in zip(received.session_B.tolist(), outcome.lists, strict=True)}
    assert outcome.sessions.keys() == made.keys()
    for key, written in made.items():
        read, latest = Recommendation.model_validate_json(written), unpack(outcome.sessions[key]).latest
        assert latest is not None
        assert (latest.generated_at_ms, latest.model_version) == (read.generated_at_ms, read.model_version)
        assert [(i.item_id, i.source) for i in latest.items] == [(i.item_id, i.source) for i in read.items]


@given(rules, fetches_of_one_model | fetches)
@settings(max_examples=300)
def test_compiled_sessions_are_those_of_the_fold(
    given_rules: Rules, fetched: list[tuple[Serving, list[Drawn]]]
) -> None:
    """Restarts, gaps, repeats, requests, unknown items, several catalogues and partitions, and models that change."""
    references = [Reference(partition, given_rules) for partition in range(N_PARTITIONS)]
    for serving, given_events in fetched:
        parts = [
            [each.interaction for each in given_events if each.partition == partition]
            for partition in range(N_PARTITIONS)
        ]
        batches = [reference.batch(part) for reference, part in zip(references, parts, strict=True)]
        outcomes = process(batches, serving, given_rules, NOW_MS)
        for reference, part, batch, outcome in zip(references, parts, batches, outcomes, strict=True):
            assert_latest(batch, outcome)
            assert sum(outcome.sources.values()) == len(outcome.lists)
            reference.follow(part, serving.model)
            reference.take(batch, outcome)
            assert_same(reference, {each.state_key: each for each in MODELS})
