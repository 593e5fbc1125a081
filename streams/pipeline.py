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
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from encoders.events import EVENT_TRAITS
from encoders.vocabulary import PADDING_ITEM, item_hash
from encoders.window import Entry, Step, WindowRule, extend
from streams.decode import DeadLetter, Decoded, Event
from streams.lists import ANN, POPULARITY, ListedItem, MadeList
from streams.popularity import PopularItems
from streams.serving import ServingModel
from streams.session import (
    FINGERPRINT_MASK,
    LatestList,
    Session,
    SessionKey,
    event_hash,
    is_recent,
    with_recent,
    with_seen,
)
from streams.waves import Waves

if TYPE_CHECKING:
    from hashlib import _Hash

_MARGIN = 6
"""Candidates fetched at first for a list of n: 2 n and so many; rows that filters leave short are searched again."""
_DECIMALS = 6
"""Of a score on the wire."""
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
    as they are, but for what `Session.fingerprints` says."""


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
        >>> click = Interaction(event_id="e", user_id="u", item_id="7", event_type="click", timestamp_ms=0)
        >>> (outcome,) = process([Batch(Source("c", "t", 0), Decoded([Event(3, click)]))], Serving(), Rules(), 1)
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
        search = _Search(questions, waves, serving, rules.top_n) if waves else None
    with stage("strategy"):
        if search:
            search.fill_lists()
        for question in questions:
            if len(question.items) < rules.top_n:
                _fill_with_popular(question, serving, rules.top_n)
        return [reading.outcome(batch, serving, now_ms) for reading, batch in zip(readings, batches, strict=True)]


class _Turn:
    """One user's session on its way through a batch."""

    __slots__ = ("added", "changes", "n_events", "place", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.added: dict[int, int] = {}
        """Which event made a fingerprint known that was not known before: how many events came before it."""
        self.n_events = 0
        self.place = -1
        """Where its newest encoder state is; -1 if it has none of this model."""
        self.changes = 0


class _Question(NamedTuple):
    """What an event asks for: a list for its user as of this event."""

    event: Event
    session: Session
    place: int
    """Where the encoder state is that answers it; -1 if there is none."""
    known: set[int]
    """Fingerprints of items that are not to be listed, unless they became known only by a later event."""
    added: dict[int, int]
    nth: int
    """How many events of the same user come before, in this batch."""
    items: list[ListedItem]
    """The answer, filled in later."""

    def knows(self, fingerprint: int) -> bool:
        """Whether the user had seen an item when this event came, that event included."""
        return fingerprint in self.known and self.added.get(fingerprint, -1) <= self.nth


class _Reading:
    """What the events of one batch did to sessions and counts."""

    def __init__(self) -> None:
        self.turns: dict[SessionKey, _Turn] = {}
        self.questions: list[_Question] = []
        self.counts: list[tuple[str, str, float]] = []
        self.duplicates = 0

    def keep_states(self, waves: Waves) -> None:
        """Give every session the newest of its encoder states."""
        turns = [turn for turn in self.turns.values() if turn.place >= 0]
        places = [turn.place for turn in turns]
        for turn, state in zip(turns, waves.stored_states(places), strict=True):
            turn.session.states = state

    def outcome(self, batch: Batch, serving: Serving, now_ms: int) -> Outcome:
        """The lists as they go out, and the newest of each user in the session."""
        version = serving.model.version if serving.model else None
        source, partition = batch.source, batch.source.partition
        lists = []
        for question in self.questions:
            event, interaction, items = question.event, question.event.interaction, question.items
            question.session.latest = LatestList(now_ms, version, items)
            lists.append(
                MadeList(
                    recommendation_id=source.recommendation_id(event.offset),
                    event_id=interaction.event_id,
                    user_id=interaction.user_id,
                    source_partition=partition,
                    source_offset=event.offset,
                    scenario="default",
                    variant="default",
                    model_version=version,
                    generated_at_ms=now_ms,
                    items=items,
                )
            )
        sessions = {key: turn.session for key, turn in self.turns.items()}
        return Outcome(lists, sessions, self.counts, self.duplicates, batch.decoded.dead)


def _read(batch: Batch, rules: Rules, model: ServingModel | None, waves: Waves | None) -> _Reading:
    """Let the events of a batch into their users' sessions; encoder states only take their places."""
    reading, given = _Reading(), batch.sessions
    turns, half_life_s = reading.turns, rules.popularity_half_life.total_seconds()
    for event in batch.decoded.events:
        interaction = event.interaction
        key = SessionKey(interaction.catalogue, interaction.user_id)
        turn = turns.get(key)
        if turn is None:
            turn = turns[key] = _Turn(given[key].successor() if key in given else Session())
        session = turn.session
        step = _apply(session, event, turn, rules)
        if step is None:
            reading.duplicates += 1
        elif interaction.item_id is not None and interaction.event_type in _LOG2_WEIGHT:
            count = _LOG2_WEIGHT[interaction.event_type] + interaction.timestamp_ms / 1000 / half_life_s
            reading.counts.append((interaction.catalogue, interaction.item_id, count))
        if waves and model and interaction.catalogue == model.catalogue:
            _take_place(turn, step, waves, model.state_key)
        elif step is not None and step is not Step.IGNORED:
            session.states = {}  # of a model that has not read this event
        known = session.fingerprints()
        reading.questions.append(_Question(event, session, turn.place, known, turn.added, turn.n_events, []))
        turn.n_events += 1
    return reading


def _apply(session: Session, event: Event, turn: _Turn, rules: Rules) -> Step | None:
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
        session.seen = with_seen(session.seen, dropped, rules.max_seen)
        session.known, turn.added = None, {}  # earlier events keep what they knew
    elif step is Step.APPENDED:
        known, fingerprint = session.fingerprints(), item & FINGERPRINT_MASK
        if fingerprint not in known:
            known.add(fingerprint)
            turn.added[fingerprint] = turn.n_events
    return step


def _take_place(turn: _Turn, step: Step | None, waves: Waves, state_key: str) -> None:
    """Say what an event does to its session's encoder state."""
    session = turn.session
    if turn.place < 0 and state_key in session.states:
        turn.place = waves.given(session.states[state_key])
    if turn.place < 0 or step is Step.RESTARTED:
        turn.place = waves.encode(session.window, turn.changes)
    elif step is Step.APPENDED:
        turn.place = waves.step(turn.place, session.window.item_column[-8:], turn.changes)
    else:
        return
    turn.changes += 1


class _Search:
    """Finds the model's nearest items for all questions that it can answer, and filters them.

    The index is asked at once for somewhat more than a list takes; rows that filters leave short are searched
    again, wider, until they are full or the catalogue is at its end.
    """

    def __init__(self, questions: Sequence[_Question], waves: Waves, serving: Serving, top_n: int) -> None:
        model = self._model = waves.model
        self._top_n = top_n
        self._n_items = model.bundle.vocabulary.n_items
        self._withheld = model.item_mask(serving.unavailable) if serving.unavailable else None
        self._questions = [question for question in questions if question.place >= 0 and waves.answers[question.place]]
        self._queries_BD = waves.vectors[[question.place for question in self._questions]]
        self._k = 2 * top_n + _MARGIN
        self._find()

    def _find(self) -> None:
        self._k = min(self._k, self._n_items)
        if not self._questions:
            return
        self._numbers_BK, self._scores_BK = self._model.index.search(self._queries_BD, self._k)
        if self._withheld is not None:
            self._numbers_BK[self._withheld[self._numbers_BK]] = PADDING_ITEM

    def fill_lists(self) -> None:
        """Answer every question with its best items that may be listed, best first."""
        while self._questions:
            short = [n for n, row in enumerate(self._rows()) if not self._answer(self._questions[n], *row)]
            if not short or self._k == self._n_items:
                return
            self._questions, self._queries_BD = [self._questions[n] for n in short], self._queries_BD[short]
            self._k *= 4
            self._find()

    def _rows(self) -> Iterator[tuple[list[int], list[int], list[float]]]:
        """For each question the numbers, fingerprints and scores of its candidates."""
        fingerprints = self._model.fingerprints[self._numbers_BK].tolist()
        scores = self._scores_BK.astype(np.float64).round(_DECIMALS).tolist()
        return zip(self._numbers_BK.tolist(), fingerprints, scores, strict=True)

    def _answer(self, question: _Question, numbers: list[int], fingerprints: list[int], scores: list[float]) -> bool:
        """Fill one list; False if candidates ran out before it was full."""
        items, known, added, nth, item_id = (
            question.items,
            question.known,
            question.added,
            question.nth,
            self._model.item_id,
        )
        items.clear()
        for number, fingerprint, score in zip(numbers, fingerprints, scores, strict=True):
            if number and (fingerprint not in known or added.get(fingerprint, -1) > nth):
                items.append(ListedItem(item_id(number), score, ANN, ()))
                if len(items) == self._top_n:
                    return True
        return False


def _fill_with_popular(question: _Question, serving: Serving, top_n: int) -> None:
    """Complete a list, in place, from what is popular in the catalogue."""
    catalogue, items = question.event.interaction.catalogue, question.items
    popular = serving.popular.get(catalogue)
    if popular is None:
        return
    listed = {item_hash(item.item_id, catalogue) & FINGERPRINT_MASK for item in items}

    def may_list(identity: int) -> bool:
        fingerprint = identity & FINGERPRINT_MASK
        return not (fingerprint in listed or question.knows(fingerprint) or identity in serving.unavailable)

    for item_id, score in popular.top(top_n - len(items), may_list):
        items.append(ListedItem(item_id, score, POPULARITY, ()))
