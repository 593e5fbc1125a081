"""The heart: from decoded events and sessions to lists and new sessions, with no I/O.

`process` is a function of its arguments. The worker loads what it needs, calls it once for each batch,
and makes the outcome durable. Events of one user are applied in the order of their offsets, in waves:
wave ``i`` holds the ``i``-th event of every user, so that each wave is one encoder call.

Shape letters: ``B`` events of a batch, ``W`` events of a wave, ``D`` embedding dimension, ``K`` candidates.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.events import EVENT_TRAITS
from encoders.records import Interaction, Recommendation, RecommendedItem
from encoders.vocabulary import PADDING_ITEM, item_hash
from encoders.window import Entry, Step, WindowRule, extend
from streams.decode import DeadLetter, Decoded, Event
from streams.popularity import PopularItems, log2_count
from streams.serving import ServingModel
from streams.session import FINGERPRINT_MASK, LatestList, ListedItem, Session, SessionKey, event_hash, remember
from streams.strategy import first_allowed, seen_mask

FloatArray = npt.NDArray[np.float32]
ANN, POPULARITY = "ann", "popularity"
_EXTRA_CANDIDATES = 54
"""Candidates fetched beyond the list at first; rows that filters leave short are searched again, wider."""


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

    def recommendation_id(self, offset: int) -> str:
        """The id of the list for the event at ``offset``, the same however often it is made."""
        place = f"{self.cluster}\0{self.topic}\0{self.partition}\0{offset}"
        return blake2b(place.encode(), digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers: one model or none, popularity by catalogue, and what may not be listed."""

    model: ServingModel | None = None
    popular: Mapping[str, PopularItems] = field(default_factory=dict)
    unavailable: frozenset[int] = frozenset()
    """64-bit hashes of items that may not be listed."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch leads to. Nothing has happened yet: the caller makes it durable."""

    lists: list[Recommendation]
    sessions: dict[SessionKey, Session]
    """Every session that changed, whole."""
    counts: list[tuple[str, str, float]]
    """What to add to the popularity counts, in the order of offsets: catalogue, item id, base-2 logarithm of the
    weight."""
    duplicates: int
    """Events that had come before; they are answered, but not counted again."""
    dead: list[DeadLetter]


def process(
    batch: Decoded,
    sessions: Mapping[SessionKey, Session],
    serving: Serving,
    source: Source,
    rules: Rules,
    now_ms: int,
    stage: Callable[[str], AbstractContextManager[object]] = nullcontext,
) -> Outcome:
    """Apply a batch and answer each of its events.

    Args:
        batch: Events of one partition in the order of offsets.
        sessions: The session of each user in the batch, as of the batch's start; one that is missing
            is new. They are left as they are.
        serving: The model and popularity that answer.
        source: Where the batch comes from.
        rules: How the deployment is set up.
        now_ms: The clock, milliseconds since 1970, for `generated_at_ms`.
        stage: Times the stages `encode`, `retrieve` and `strategy`.

    Returns:
        One list for each event, in their order; new sessions; popularity counts; the dead letters.

    Example:
        >>> click = Interaction(event_id="e", user_id="u", item_id="7", event_type="click", timestamp_ms=0)
        >>> outcome = process(Decoded([Event(3, click)]), {}, Serving(), Source("c", "t", 0), Rules(), now_ms=1)
        >>> outcome.sessions[SessionKey("default", "u")].applied_offset
        3
    """
    model = serving.model
    progress = _Progress.of(len(batch.events), model)
    with stage("encode"):
        for wave in _waves(batch.events):
            moves = [_move(place, batch.events[place], sessions, progress, rules) for place in wave]
            mine = []
            for move in moves:
                if model and _key(batch.events[move.place]).catalogue == model.catalogue:
                    mine.append(move)
                elif move.step is not Step.IGNORED:
                    move.session.states = {}  # of a model that has not read this event
            if model and mine:
                _encode(mine, progress, model)
    with stage("retrieve"):
        listed = _ann_lists(progress, serving, rules.top_n)
    lists = []
    with stage("strategy"):
        for event, items, seen in zip(batch.events, listed, progress.seen, strict=True):
            _fill_with_popular(items, event.interaction.catalogue, seen, serving, rules.top_n)
            latest = LatestList(now_ms, model.version if model else None, items)
            progress.sessions[_key(event)].latest = latest
            lists.append(_record(event, latest, source))
    counts = [count for counted in progress.counts for count in counted]
    return Outcome(lists, progress.sessions, counts, progress.duplicates, batch.dead)


def _key(event: Event) -> SessionKey:
    return SessionKey(event.interaction.catalogue, event.interaction.user_id)


def _waves(events: Sequence[Event]) -> list[list[int]]:
    """Places of the events, by how many events of the same user come before in the batch."""
    nth: dict[SessionKey, int] = defaultdict(int)
    waves: list[list[int]] = []
    for place, event in enumerate(events):
        key = _key(event)
        if nth[key] == len(waves):
            waves.append([])
        waves[nth[key]].append(place)
        nth[key] += 1
    return waves


class _Move(NamedTuple):
    """What one event did: its place in the batch, the session it changed, and how."""

    place: int
    session: Session
    step: Step


@dataclass(slots=True)
class _Progress:
    """What has been worked out of a batch so far."""

    answered: npt.NDArray[np.bool_]
    """Whether the model knows an item of the event's window. Shape: ``(B,)``."""
    vectors: FloatArray
    """Query vector of each event. Shape: ``(B, D)``."""
    seen: list[list[int]]
    """Fingerprints of what each event's user has seen, that event included."""
    counts: list[list[tuple[str, str, float]]]
    """What each event adds to the popularity counts."""
    sessions: dict[SessionKey, Session] = field(default_factory=dict)
    duplicates: int = 0

    @classmethod
    def of(cls, n_events: int, model: ServingModel | None) -> _Progress:
        dim = model.bundle.encoder.embedding_dim if model else 0
        return cls(
            np.zeros(n_events, dtype=bool),
            np.zeros((n_events, dim), dtype=np.float32),
            [[] for _ in range(n_events)],
            [[] for _ in range(n_events)],
        )

    def read(self, key: str, moves: list[_Move], states: FloatArray, vectors: FloatArray) -> None:
        """Keep new encoder states in their sessions, and the query vectors that they give."""
        for move, state in zip(moves, states, strict=True):
            move.session.states = {key: state}
        places = [move.place for move in moves]
        self.vectors[places] = vectors
        self.answered[places] = True


def _move(place: int, event: Event, sessions: Mapping[SessionKey, Session], progress: _Progress, rules: Rules) -> _Move:
    """Let one event into its user's session."""
    key = _key(event)
    session = progress.sessions.get(key)
    if session is None:
        session = progress.sessions[key] = sessions[key].copy() if key in sessions else Session()
    step = _apply(session, event, rules)
    if step is None:
        progress.duplicates += 1
    else:
        progress.counts[place] = _count(event.interaction, rules)
    progress.seen[place] = session.fingerprints()
    return _Move(place, session, step or Step.IGNORED)


def _apply(session: Session, event: Event, rules: Rules) -> Step | None:
    """Let one event into a session, in place; `None` if it had come before."""
    interaction = event.interaction
    session.applied_offset = event.offset
    identity = event_hash(interaction.event_id)
    if identity in session.recent_events:
        return None
    remember(session.recent_events, [identity], rules.recent_events)
    if interaction.item_id is None:
        return Step.IGNORED
    entry = Entry(
        item_hash(interaction.item_id, interaction.catalogue),
        interaction.timestamp_ms // 1000,
        EVENT_TRAITS[interaction.event_type].code,
    )
    step, dropped = extend(session.window, entry, rules.window)
    remember(session.seen, (identity & FINGERPRINT_MASK for identity in dropped), rules.max_seen)
    return step


def _count(interaction: Interaction, rules: Rules) -> list[tuple[str, str, float]]:
    weight = EVENT_TRAITS[interaction.event_type].weight
    if interaction.item_id is None or weight <= 0:
        return []
    added = log2_count(weight, interaction.timestamp_ms / 1000, rules.popularity_half_life)
    return [(interaction.catalogue, interaction.item_id, added)]


def _encode(wave: list[_Move], progress: _Progress, model: ServingModel) -> None:
    """Bring each session's encoder state up to its event and read the query vector."""
    key, encoder = model.state_key, model.bundle.encoder
    fresh: list[_Move] = []
    kept: list[_Move] = []
    for move in wave:
        (fresh if move.step is Step.RESTARTED or key not in move.session.states else kept).append(move)
    newest = [move.session.window.item_hashes[-1] if move.step is Step.APPENDED else 0 for move in kept]
    numbers = model.bundle.vocabulary.item_numbers(newest)
    stepped = [move for move, number in zip(kept, numbers, strict=True) if number]
    unchanged = [move for move, number in zip(kept, numbers, strict=True) if not number]
    if fresh:
        windows_WT = known_windows([move.session for move in fresh], model)
        known = np.any(windows_WT, axis=1)
        for move in fresh:
            move.session.states = {}
        if known.any():
            moves = [move for move, is_known in zip(fresh, known, strict=True) if is_known]
            progress.read(key, moves, *encoder.encode(windows_WT[known]))
    if stepped:
        states = np.stack([move.session.states[key] for move in stepped])
        progress.read(key, stepped, *encoder.step(states, numbers[numbers > 0]))
    if unchanged:
        states = np.stack([move.session.states[key] for move in unchanged])
        progress.read(key, unchanged, states, encoder.vectors(states))


def known_windows(sessions: Sequence[Session], model: ServingModel) -> npt.NDArray[np.int64]:
    """Windows as the model's item numbers, unknown items left out, padded on the left with 0.

    Shape:
        - Output: ``(W, T)``, ``T`` the longest of them, at least 1
    """
    lengths = [len(session.window) for session in sessions]
    numbers = model.bundle.vocabulary.item_numbers([h for s in sessions for h in s.window.item_hashes])
    rows = [row[row > 0] for row in np.split(numbers, np.cumsum(lengths)[:-1])]
    windows = np.zeros((len(rows), max([1, *map(len, rows)])), dtype=np.int64)
    for window, row in zip(windows, rows, strict=True):
        if len(row):
            window[-len(row) :] = row
    return windows


def _ann_lists(progress: _Progress, serving: Serving, top_n: int) -> list[list[ListedItem]]:
    """The model's best items for each event that it can answer, filtered, best first."""
    lists: list[list[ListedItem]] = [[] for _ in progress.seen]
    model = serving.model
    if model is None:
        return lists
    n_items, withheld = model.bundle.vocabulary.n_items, model.item_mask(serving.unavailable)
    short, k = np.flatnonzero(progress.answered), min(n_items, top_n + _EXTRA_CANDIDATES)
    while len(short):
        numbers_BK, scores_BK = model.index.search(progress.vectors[short], k)
        allowed = (numbers_BK != PADDING_ITEM) & ~withheld[numbers_BK]
        allowed &= ~seen_mask(model.fingerprints[numbers_BK], [progress.seen[place] for place in short])
        done = (allowed.sum(axis=1) >= top_n) | (k >= n_items)
        rows, columns = first_allowed(allowed[done], top_n)
        places = short[done][rows].tolist()
        numbers, scores = numbers_BK[done][rows, columns].tolist(), scores_BK[done][rows, columns].tolist()
        for place, number, score in zip(places, numbers, scores, strict=True):
            lists[place].append(ListedItem(model.bundle.vocabulary.item_id(number), score, ANN))
        short, k = short[~done], min(n_items, 4 * k)
    return lists


def _fill_with_popular(items: list[ListedItem], catalogue: str, seen: list[int], serving: Serving, top_n: int) -> None:
    """Complete a list, in place, from what is popular in the catalogue."""
    popular = serving.popular.get(catalogue)
    if popular is None or len(items) >= top_n:
        return
    listed = {item_hash(item.item_id, catalogue) & FINGERPRINT_MASK for item in items}
    for item_id, score in popular.top(top_n - len(items), seen=listed.union(seen), unavailable=serving.unavailable):
        items.append(ListedItem(item_id, score, POPULARITY))


def _record(event: Event, latest: LatestList, source: Source) -> Recommendation:
    return Recommendation(
        recommendation_id=source.recommendation_id(event.offset),
        event_id=event.interaction.event_id,
        user_id=event.interaction.user_id,
        source_partition=source.partition,
        source_offset=event.offset,
        model_version=latest.model_version,
        generated_at_ms=latest.generated_at_ms,
        items=[RecommendedItem(item_id=i.item_id, score=i.score, source=i.source) for i in latest.items],
    )
