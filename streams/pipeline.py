"""The heart: from decoded events and sessions to lists and new sessions, with no I/O.

`process` is a function of its arguments. The worker loads what it needs, calls it once for all batches of a
fetch, and makes the outcome durable. Events of one user are applied in the order of their offsets.

Shape letters: ``B`` events of all batches, ``K`` candidates of each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from math import log2
from typing import TYPE_CHECKING

import numpy as np

from encoders.events import EVENT_TRAITS
from encoders.vocabulary import item_hash
from encoders.window import Entry, Step, WindowRule, extend
from streams.decode import DeadLetter, Decoded, Event
from streams.lists import POPULARITY, MadeList
from streams.popularity import PopularItems
from streams.search import Answer, Question, Search
from streams.serving import ServingModel
from streams.session import (
    FINGERPRINT_MASK,
    ListPacker,
    Session,
    SessionKey,
    event_hash,
    is_recent,
    with_recent,
)
from streams.waves import Waves

if TYPE_CHECKING:
    from hashlib import _Hash

_NOTHING: frozenset[int] = frozenset()
_LOG2_WEIGHT = {kind: log2(traits.weight) for kind, traits in EVENT_TRAITS.items() if traits.weight > 0}


@dataclass(frozen=True, slots=True)
class Rules:
    """What a deployment decides once, the same for every batch."""

    window: WindowRule = field(default_factory=WindowRule)
    top_n: int = 10
    max_seen: int = 1024
    """Most fingerprints kept of items that have left the window."""
    recent_events: int = 16
    """How many event ids a session remembers, to count an event that was sent twice once."""
    popularity_half_life: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Source:
    """Where a batch comes from."""

    cluster: str
    topic: str
    partition: int
    _place: _Hash = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        place = f"{self.cluster}\0{self.topic}\0{self.partition}\0"
        object.__setattr__(self, "_place", blake2b(place.encode(), digest_size=16))

    def recommendation_id(self, offset: int) -> str:
        """The id of the list for the event at ``offset``, the same however often it is made."""
        whole = self._place.copy()
        whole.update(b"%d" % offset)
        return whole.hexdigest()


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers: one model or none, popularity by catalogue, and what may not be listed."""

    model: ServingModel | None = None
    popular: Mapping[str, PopularItems] = field(default_factory=dict)
    unavailable: frozenset[int] = frozenset()
    """64-bit hashes of items that may not be listed."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Events of one partition, and the state that they find."""

    source: Source
    decoded: Decoded
    sessions: Mapping[SessionKey, Session] = field(default_factory=dict)
    """The session of each user in the batch, as of the batch's start; one that is missing is new. They are left
    as they are."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch leads to. Nothing has happened yet: the caller makes it durable."""

    lists: list[MadeList] = field(default_factory=list)
    """One for each event, in their order."""
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    """Every session that changed, whole."""
    counts: list[tuple[str, str, float]] = field(default_factory=list)
    """What to add to the popularity counts, in the order of offsets: catalogue, item id, base-2 logarithm of the
    weight."""
    duplicates: int = 0
    """Events that had come before; they are answered, but not counted again."""
    dead: list[DeadLetter] = field(default_factory=list)


def process(
    batches: Sequence[Batch],
    serving: Serving,
    rules: Rules,
    now_ms: int,
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> list[Outcome]:
    """Apply the batches of one fetch and answer each of their events.

    Args:
        batches: One of each partition.
        serving: The model and popularity that answer.
        rules: How the deployment is set up.
        now_ms: The clock, milliseconds since 1970, for `generated_at_ms`.
        stage: Times the stages `encode`, `retrieve` and `strategy`.

    Returns:
        What each batch leads to.

    Example:
        >>> from encoders.records import Interaction
        >>> click = Interaction(event_id="e", user_id="u", item_id="7", event_type="click", timestamp_ms=0)
        >>> (outcome,) = process([Batch(Source("c", "t", 0), Decoded([Event.of(3, click)]))], Serving(), Rules(), 1)
        >>> outcome.sessions[SessionKey("default", "u")].applied_offset
        3
    """
    with stage("encode"):
        waves = Waves(serving.model) if serving.model else None
        readings = [_read(batch, rules, serving.model, waves) for batch in batches]
        if waves:
            waves.run()
            for reading in readings:
                reading.keep_states(waves)
    questions = [question for reading in readings for question in reading.questions]
    with stage("retrieve"):
        search = Search(questions, waves, serving.unavailable, rules.top_n) if waves else None
    with stage("strategy"):
        answers = search.answers() if search else [Answer([], [], []) for _ in questions]
        for question, answer in zip(questions, answers, strict=True):
            if len(answer.item_ids) < rules.top_n:
                _fill_with_popular(question, answer, serving, rules.top_n)
        remaining = iter(answers)
        return [
            reading.outcome(batch, remaining, serving, now_ms) for reading, batch in zip(readings, batches, strict=True)
        ]


_NO_ANSWER = Answer([], [], [])


class _Turn:
    """One user's session on its way through a batch."""

    __slots__ = ("answer", "n_steps", "place", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.place = -1
        """Where its newest encoder state is; -1 if it has none of this model."""
        self.n_steps = 0
        """How often the encoder has stepped."""
        self.answer = _NO_ANSWER
        """To its newest event."""


class _Reading:
    """What the events of one batch did to sessions and counts."""

    def __init__(self) -> None:
        self.turns: dict[SessionKey, _Turn] = {}
        self.questions: list[Question] = []
        self.counts: list[tuple[str, str, float]] = []
        self.duplicates = 0

    def keep_states(self, waves: Waves) -> None:
        """Give every session the newest of its encoder states."""
        turns = [turn for turn in self.turns.values() if turn.place >= 0]
        places = [turn.place for turn in turns]
        for turn, state in zip(turns, waves.stored_states(places), strict=True):
            turn.session.states = state

    def outcome(self, batch: Batch, answers: Iterator[Answer], serving: Serving, now_ms: int) -> Outcome:
        """The lists as they go out, and the newest of each user in the session; takes as many answers as it asked."""
        version = serving.model.version if serving.model else None
        source, partition = batch.source, batch.source.partition
        lists = []
        for (event, turn, *_), answer in zip(self.questions, answers, strict=False):
            interaction = event.interaction
            turn.answer = answer
            head = (source.recommendation_id(event.offset), interaction.event_id, interaction.user_id)
            lists.append(MadeList(*head, partition, event.offset, version, now_ms, *answer))
        packer = ListPacker(now_ms, version)
        for turn in self.turns.values():
            turn.session.packed_latest = packer.pack(*turn.answer)
        sessions = {key: turn.session for key, turn in self.turns.items()}
        return Outcome(lists, sessions, self.counts, self.duplicates, batch.decoded.dead)


def _read(batch: Batch, rules: Rules, model: ServingModel | None, waves: Waves | None) -> _Reading:
    """Let the events of a batch into their users' sessions; encoder states only take their places."""
    reading, given = _Reading(), batch.sessions
    turns, half_life_s = reading.turns, rules.popularity_half_life.total_seconds()
    for event in batch.decoded.events:
        interaction = event.interaction
        key = event.key
        turn = turns.get(key)
        if turn is None:
            turn = turns[key] = _Turn(given[key].successor() if key in given else Session())
        session = turn.session
        step = _apply(session, event, rules)
        if step is None:
            reading.duplicates += 1
        elif interaction.item_id is not None and interaction.event_type in _LOG2_WEIGHT:
            count = _LOG2_WEIGHT[interaction.event_type] + interaction.timestamp_ms / 1000 / half_life_s
            reading.counts.append((interaction.catalogue, interaction.item_id, count))
        if waves and model and interaction.catalogue == model.catalogue:
            _take_place(turn, step, waves, model.state_key)
        elif step is not None and step is not Step.IGNORED:
            session.states = {}  # of a model that has not read this event
        seen = session.seen_set() if session.seen else _NOTHING
        reading.questions.append(Question(event, turn, turn.place, session.window.item_column, seen))
    return reading


def _apply(session: Session, event: Event, rules: Rules) -> Step | None:
    """Let one event into a session, in place; `None` if it had come before."""
    interaction = event.interaction
    session.applied_offset = event.offset
    identity = event_hash(interaction.event_id)
    if is_recent(session.recent_events, identity):
        return None
    session.recent_events = with_recent(session.recent_events, identity, rules.recent_events)
    if interaction.item_id is None:
        return Step.IGNORED
    item = item_hash(interaction.item_id, interaction.catalogue)
    entry = Entry(item, interaction.timestamp_ms // 1000, EVENT_TRAITS[interaction.event_type].code)
    step, dropped = extend(session.window, entry, rules.window)
    if dropped:
        session.see(dropped, rules.max_seen)
    return step


def _take_place(turn: _Turn, step: Step | None, waves: Waves, state_key: str) -> None:
    """Say what an event does to its session's encoder state."""
    session = turn.session
    if turn.place < 0 and state_key in session.states:
        turn.place = waves.given(session.states[state_key])
    elif turn.place < 0 and len(session.window) == 1 and step is Step.APPENDED:
        turn.place = waves.blank()  # a step costs less than encoding a window, however short
    if turn.place < 0 or step is Step.RESTARTED:
        turn.place = waves.encode(session.window)
    elif step is Step.APPENDED:
        turn.place = waves.step(turn.place, session.window.item_column[-8:], turn.n_steps)
        turn.n_steps += 1


def _fill_with_popular(question: Question, answer: Answer, serving: Serving, top_n: int) -> None:
    """Complete a list, in place, from what is popular in the catalogue."""
    catalogue = question.event.interaction.catalogue
    popular = serving.popular.get(catalogue)
    if popular is None:
        return
    passed_over = {item_hash(item_id, catalogue) & FINGERPRINT_MASK for item_id in answer.item_ids}
    passed_over.update(np.frombuffer(question.window, dtype="<u4")[::2].tolist())

    def may_list(identity: int) -> bool:
        fingerprint = identity & FINGERPRINT_MASK
        return not (fingerprint in passed_over or fingerprint in question.seen or identity in serving.unavailable)

    for item_id, score in popular.top(top_n - len(answer.item_ids), may_list):
        answer.item_ids.append(item_id)
        answer.scores.append(score)
        answer.sources.append(POPULARITY)
