"""The heart: from decoded events and sessions to lists and new sessions, with no I/O.

`process` is a function of its arguments. The worker loads what it needs, calls it once for all batches of a
fetch, and makes the outcome durable. Events of one user are applied in the order of their offsets.

Shape letters: ``B`` events of all batches, ``K`` candidates of each.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from datetime import timedelta
from hashlib import blake2b
from math import log2

import numpy as np
import numpy.typing as npt

from encoders.compiled import as_bytes
from encoders.events import EVENT_TRAITS, EventType
from encoders.records import DEFAULT_CATALOGUE, Interaction
from encoders.window import WindowRule
from streams.advance import Advanced, Numbers, advance
from streams.asking import Asked, compile_asking
from streams.columns import Received, events_of, stored_of
from streams.decode import DeadLetter, Decoded, decoded
from streams.learning import NO_CLICKS, Clicks
from streams.lists import ANN, POPULARITY, Head, Lists, Names, WireLists, wire_lists
from streams.packing import Made, States, packed_sessions
from streams.popularity import Counts, PopularItems, most_popular
from streams.record_batch import record_batches
from streams.search import ask, compile_search, find
from streams.serving import EncoderModel, RetrieverModel, ServingModel
from streams.session import FINGERPRINT_MASK, SessionKey
from streams.strategy import Passed, Popular, fill
from streams.texts import Texts, ends_of, texts
from streams.waves import Waves, compile_waves

_LOG2_WEIGHT = np.full(256, -np.inf)
"""By an event type's code; minus infinity of a type that counts nothing."""
for _traits in EVENT_TRAITS.values():
    if _traits.weight > 0:
        _LOG2_WEIGHT[_traits.code] = log2(_traits.weight)


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

    @property
    def place(self) -> bytes:
        """A hash of all three, 16 hexadecimal digits."""
        whole = f"{self.cluster}\0{self.topic}\0{self.partition}"
        return blake2b(whole.encode(), digest_size=8).hexdigest().encode()

    def recommendation_id(self, offset: int) -> str:
        """The id of the list for the event at ``offset``, the same however often it is made."""
        return f"{self.place.decode()}{offset:016x}"


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
    sessions: Sequence[bytes] = ()
    """Packed sessions as of the batch's start, one for each of the events' `keys`; one that is new has no bytes. They
    are read unchecked: bytes that `unpack` does not take must not come here. Without any, all are new."""
    seen: Sequence[bytes] = ()
    """The same of what has left their windows."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a batch leads to. Nothing has happened yet: the caller makes it durable."""

    lists: WireLists = field(default_factory=WireLists.none)
    """One for each event, in their order."""
    sources: Counter[str] = field(default_factory=Counter)
    """How many lists each candidate source heads; `none` of those that are empty."""
    sessions: dict[SessionKey, bytes] = field(default_factory=dict)
    """Every session that changed, whole, in the stored form."""
    seen: dict[SessionKey, bytes] = field(default_factory=dict)
    """What has left the windows, where that changed, in the stored form."""
    counts: Counts = field(default_factory=Counts)
    """What to add to the popularity counts."""
    duplicates: int = 0
    """Events that had come before; they are answered, but not counted again."""
    dead: list[DeadLetter] = field(default_factory=list)
    clicks: Clicks = NO_CLICKS
    """What the model may learn, if it is one that does."""


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
        stage: Times the stages `encode`, `retrieve`, `strategy` and `pack`.

    Returns:
        What each batch leads to.

    Example:
        >>> from streams.session import unpack
        >>> click = Interaction(event_id="e", user_id="u", item_id="7", event_type="click", timestamp_ms=0)
        >>> (outcome,) = process([Batch(Source("c", "t", 0), decoded([click]))], Serving(), Rules(), 1)
        >>> unpack(outcome.sessions[SessionKey("default", "u")]).applied_offset
        0
    """
    model = serving.model
    encoder = model if isinstance(model, EncoderModel) else None
    with stage("encode"):
        received = Received.together([batch.decoded.events for batch in batches])
        events = events_of(received, encoder.catalogue if encoder else None, rules.window.codes)
        seen = _of_all(batches, [batch.seen for batch in batches])
        stored = stored_of(_of_all(batches, [batch.sessions for batch in batches]), seen)
        key = as_bytes(encoder.state_key.encode() if encoder else b"")
        advanced = advance(events, stored, key, _numbers(rules, encoder))
        waves = Waves(encoder, events, stored, advanced) if encoder else None
        asked = Asked.of(model, received, advanced, rules.window) if isinstance(model, RetrieverModel) else None
    lists = Lists.empty(len(received), rules.top_n)
    passed = _passed(advanced)
    if waves:
        place_B = advanced.place_B
        rows = np.flatnonzero((place_B >= 0) & waves.answers[place_B]) if len(waves.answers) else np.arange(0)
        find(waves.model, rows, waves.vectors(place_B[rows]), passed, seen, lists, serving.unavailable, stage)
    if asked:
        ask(asked, passed, lists, serving.unavailable, stage)
    with stage("strategy"):
        popular = _complete(received, serving, passed, lists)
    names = Names(model.names if model else texts([]), popular)
    version = model.version if model else None
    with stage("pack"):
        packed = packed_sessions(
            advanced,
            stored,
            received.offset_B,
            States(key, waves.states, waves.answers) if waves else _NO_STATES,
            Made(lists, names, as_bytes((version or "").encode()), now_ms),
        )
        written = wire_lists(_head(batches, received), lists, names, version, now_ms)
        return _outcomes(batches, received, advanced, packed, written, lists, asked, rules)


def compile_loops() -> None:
    """Compile what `process` runs on, before the first event would have to wait for it.

    That takes some seconds the first time on a machine, then a fraction of one.
    """
    click = Interaction(event_id="e", user_id="u", item_id="i", event_type=EventType.CLICK, timestamp_ms=0)
    batch = Batch(Source("", "", 0), decoded([click]))
    popular = {DEFAULT_CATALOGUE: most_popular([{"j": 0.0}], DEFAULT_CATALOGUE, 1)}
    (outcome,) = process([batch], Serving(popular=popular), Rules(), 0)
    outcome.counts.onto({})
    record_batches(outcome.lists, 0, 1)
    compile_asking()
    compile_search()
    compile_waves()


_NO_STATES = States(as_bytes(b""), np.empty((0, 1), dtype=np.float32), np.empty(0, dtype=np.bool_))


def _of_all(batches: Sequence[Batch], given: Sequence[Sequence[bytes]]) -> list[bytes]:
    """What is given of each session of all batches; nothing of a batch stands for sessions that are new."""
    pairs = zip(batches, given, strict=True)
    return [each for batch, theirs in pairs for each in theirs or [b""] * len(batch.decoded.events.keys)]


def _numbers(rules: Rules, model: EncoderModel | None) -> Numbers:
    state_size = model.bundle.encoder.state_size if model else 0
    return Numbers(*rules.window.numbers, rules.max_seen, rules.recent_events, state_size)


def _passed(advanced: Advanced) -> Passed:
    windows, seen = advanced.windows, advanced.seen
    return Passed(
        windows.item_T.astype(np.uint32), windows.first_B, windows.end_B, seen.item_F, seen.first_B, seen.end_B
    )


def _complete(received: Received, serving: Serving, passed: Passed, lists: Lists) -> Texts:
    """Complete lists from what is popular in their catalogues; returns what those items are called."""
    if (lists.lengths_B == lists.items_BN.shape[1]).all():
        return texts([])
    ends = ends_of([len(items.item_ids) for items in serving.popular.values()])
    place_of = {catalogue: place for place, catalogue in enumerate(serving.popular)}
    asked = np.array([place_of.get(key.catalogue, -1) for key in received.keys], dtype=np.int64)[received.session_B]
    first_B, end_B = ends[asked], ends[asked + 1]  # of an unknown catalogue nothing: from the last end to the first
    hashes = [identity for items in serving.popular.values() for identity in items.item_hashes]
    popular = Popular(
        (np.array(hashes, dtype=np.uint64) & np.uint64(FINGERPRINT_MASK)).astype(np.uint32),
        np.array([score for items in serving.popular.values() for score in items.scores], dtype=np.float64),
        np.array([identity not in serving.unavailable for identity in hashes], dtype=np.bool_),
    )
    fingerprints = serving.model.fingerprints if serving.model else np.zeros(1, dtype=np.uint32)
    fill(popular, first_B, end_B, fingerprints, passed, lists)
    return texts([item_id for items in serving.popular.values() for item_id in items.item_ids])


def _head(batches: Sequence[Batch], received: Received) -> Head:
    return Head(
        as_bytes(b"".join([batch.source.place for batch in batches])).reshape(-1, 16),
        np.array([batch.source.partition for batch in batches], dtype=np.int64),
        np.repeat(np.arange(len(batches)), [len(batch.decoded.events) for batch in batches]),
        received.offset_B,
        received.event_ids,
        received.user_ids,
    )


def _outcomes(
    batches: Sequence[Batch],
    received: Received,
    advanced: Advanced,
    packed: list[bytes],
    written: WireLists,
    lists: Lists,
    asked: Asked | None,
    rules: Rules,
) -> list[Outcome]:
    """What concerns each of the batches. What can be said of all events at once is: most fetches are of a few."""
    outcomes, changed, seen = [], advanced.sessions, advanced.seen
    log2_B = _log2_counts(received, advanced.is_repeat_B, rules.popularity_half_life.total_seconds())
    is_by_model_B, is_empty_B = lists.items_BN[:, 0] > 0, lists.lengths_B == 0
    first_event, first_session = 0, 0
    for batch in batches:
        theirs = batch.decoded.events
        events = slice(first_event, first_event + len(theirs))
        sessions = slice(first_session, first_session + len(theirs.keys))
        first_event, first_session = events.stop, sessions.stop
        last_U = changed.last_U[sessions]
        saw_more = changed.saw_more_U[sessions].nonzero()[0]
        ends = zip(seen.first_B[last_U[saw_more]].tolist(), seen.end_B[last_U[saw_more]].tolist(), strict=True)
        counted = (log2_B[events] > -np.inf).nonzero()[0]
        outcomes.append(
            Outcome(
                written[events],
                _sources(is_by_model_B[events], is_empty_B[events]),
                dict(zip(theirs.keys, packed[sessions], strict=True)),
                {
                    theirs.keys[u]: seen.item_F[first:end].tobytes()
                    for u, (first, end) in zip(saw_more.tolist(), ends, strict=True)
                },
                Counts(theirs.items, theirs.item_B[counted], log2_B[events][counted]),
                int(np.count_nonzero(advanced.is_repeat_B[events])),
                batch.decoded.dead,
                asked.clicks_of(events) if asked else NO_CLICKS,
            )
        )
    return outcomes


def _sources(is_by_model_B: npt.NDArray[np.bool_], is_empty_B: npt.NDArray[np.bool_]) -> Counter[str]:
    by_model, empty = int(np.count_nonzero(is_by_model_B)), int(np.count_nonzero(is_empty_B))
    found = {ANN: by_model, POPULARITY: len(is_empty_B) - by_model - empty, "none": empty}
    return Counter({source: n for source, n in found.items() if n})


def _log2_counts(received: Received, is_repeat_B: npt.NDArray[np.bool_], half_life_s: float) -> npt.NDArray[np.float64]:
    """What each event adds to its item's count, as a base-2 logarithm; minus infinity where it adds nothing."""
    log2_B = _LOG2_WEIGHT[received.type_B] + received.timestamp_ms_B / 1000 / half_life_s
    log2_B[is_repeat_B | (received.item_B < 0)] = -np.inf
    return log2_B
