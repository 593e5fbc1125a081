"""What travels through a worker: fetched batches, owned partitions, and what is to be made durable."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import NamedTuple, TypeVar

from streams.cache import SessionCache
from streams.decode import ConsumedRecord
from streams.lists import WireLists
from streams.output import OutgoingRecord
from streams.store import Changes, Ownership

K = TypeVar("K")
V = TypeVar("V")


class RecordBatch(NamedTuple):
    """Consecutive records of one partition: all that a reader of offsets ``start`` to ``end`` gets to see.

    Offsets that compaction or aborted transactions left out simply have no record.
    """

    partition: int
    start: int
    end: int
    """Offset after the last one that this batch covers."""
    records: Sequence[ConsumedRecord]


class Handled(Enum):
    """What became of a batch."""

    DONE = "done"
    """State and lists are durable up to the batch's end."""
    STALE = "stale"
    """The batch is of a partition that is not owned, or was applied already; it was dropped."""
    GAP = "gap"
    """Records before the batch are missing: the caller seeks to the partition's position."""
    LOST = "lost"
    """The partition may have another owner: it was released, and is to be acquired anew."""


@dataclass(slots=True)
class OwnedPartition:
    """A partition that this worker may write, and what it remembers of its state."""

    ownership: Ownership
    position: int
    """Offset after the last event that is durable."""
    computed: int
    """Offset after the last event that is worked out; what lies between is on its way."""
    popularity: dict[tuple[str, str], float]
    """As of `computed`."""
    sessions: SessionCache = field(default_factory=SessionCache)
    """As of `computed`."""


@dataclass(frozen=True, slots=True)
class Computed:
    """A batch, or several one after the other, that was worked out and is to be made durable.

    Holds bytes and figures only: what waits for its turn in memory is as small as it can be.
    """

    partition: int
    owned: OwnedPartition
    changes: Changes
    lists: list[WireLists]
    """Those that have not been sent before."""
    forwarded: list[OutgoingRecord]
    """The same of records outside their users' partitions."""
    dead_letters: list[OutgoingRecord]
    dead_by_reason: Counter[str]
    lists_by_source: Counter[str]
    size_bytes: int
    """Roughly what this holds in memory."""


def together(batches: Sequence[Computed]) -> Computed:
    """Several batches of one partition, one following the other, as one: what they change twice is written once."""
    if len(batches) == 1:
        return batches[0]
    first, changes = batches[0], [batch.changes for batch in batches]
    return Computed(
        first.partition,
        first.owned,
        Changes(
            changes[0].start,
            changes[-1].end,
            _merged([each.sessions for each in changes]),
            _merged([each.popularity for each in changes]),
            {name: sum(each.counters[name] for each in changes) for name in changes[0].counters},
            _merged([each.seen for each in changes]),
            list({key: None for each in changes for key in each.unchanged_seen}),
        ),
        [lists for batch in batches for lists in batch.lists],
        [record for batch in batches for record in batch.forwarded],
        [record for batch in batches for record in batch.dead_letters],
        sum((batch.dead_by_reason for batch in batches), Counter()),
        sum((batch.lists_by_source for batch in batches), Counter()),
        sum(batch.size_bytes for batch in batches),
    )


def _merged(mappings: Iterable[Mapping[K, V]]) -> dict[K, V]:
    """Of what several have, the last one's."""
    merged: dict[K, V] = {}
    for each in mappings:
        merged.update(each)
    return merged
