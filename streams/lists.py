"""Lists on their way out: the wire form of `encoders.records.Recommendation`, written for a whole batch at once.

Whoever reads recommendations does so with `Recommendation`, and a property test holds the two together.

Shape letters: ``B`` events, ``N`` length of a list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, Int, IntArray, compiled, copy_bytes
from streams.texts import Texts, chained, cut, joined, texts

ANN, POPULARITY = "ann", "popularity"
"""Candidate sources: the model's nearest items, and what is popular where the model cannot answer."""

SOURCES = (ANN, POPULARITY)
"""A stored list names a source by its place here; none is ever removed."""

_DECIMALS = 6
_LARGEST_SCORE = 9e11
"""Beyond it a score is written as this."""


class Lists(NamedTuple):
    """The lists of a batch as columns, best items first."""

    items_BN: IntArray
    """Item number where the model found it, ``-1 - place`` where it is of the popular ones."""
    scores_BN: npt.NDArray[np.float64]
    lengths_B: IntArray

    @classmethod
    def empty(cls, n_lists: int, top_n: int) -> Lists:
        """Lists that have no item yet."""
        return cls(
            np.zeros((n_lists, top_n), dtype=np.int64),
            np.zeros((n_lists, top_n), dtype=np.float64),
            np.zeros(n_lists, dtype=np.int64),
        )


class Names(NamedTuple):
    """How items are called."""

    ann: Texts
    """By item number minus 1."""
    popular: Texts
    """By place among the popular ones."""


class Head(NamedTuple):
    """What a list says before its items, for each event of a batch."""

    places: Bytes
    """Cluster, topic and partition as 16 hexadecimal digits, for each partition. Shape: ``(n_partitions, 16)``."""
    partitions: IntArray
    """Numbers of those partitions."""
    partition_B: IntArray
    """Which of them an event is from."""
    offsets_B: IntArray
    event_ids: Texts
    user_ids: Texts


class WireLists:
    """Lists in their wire form, each with the user whose it is.

    Args:
        users: Their ids.
        values: The lists, as JSON.
    """

    def __init__(self, users: Texts, values: Texts) -> None:
        self.users, self.values = users, values

    def __len__(self) -> int:
        return len(self.values.ends) - 1

    def __getitem__(self, part: slice) -> WireLists:
        first, end, _ = part.indices(len(self))
        ends = slice(first, end + 1)
        return WireLists(Texts(self.users.data, self.users.ends[ends]), Texts(self.values.data, self.values.ends[ends]))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WireLists) and [*self.records()] == [*other.records()]

    __hash__ = None  # type: ignore[assignment]

    @classmethod
    def none(cls) -> WireLists:
        """No list."""
        return cls(texts([]), texts([]))

    @classmethod
    def together(cls, parts: Sequence[WireLists]) -> WireLists:
        """Several, one after the other."""
        if len(parts) == 1:
            return parts[0]
        return cls(chained([part.users for part in parts]), chained([part.values for part in parts]))

    def __iter__(self) -> Iterator[bytes]:
        """The lists alone."""
        return iter(cut(self.values.data, self.values.ends))

    @property
    def size_bytes(self) -> int:
        """How long the lists are together."""
        return int(self.values.ends[-1] - self.values.ends[0])

    def records(self) -> Iterator[tuple[bytes, bytes]]:
        """User and list, one after the other."""
        return zip(cut(self.users.data, self.users.ends), self, strict=True)

    def take(self, places: Sequence[int]) -> WireLists:
        """Some of them."""
        records = [*self.records()]
        users, values = zip(*[records[place] for place in places], strict=True)
        return WireLists(joined(users), joined(values))


def wire_lists(head: Head, lists: Lists, names: Names, model_version: str | None, generated_at_ms: int) -> WireLists:
    """Every list in its wire form.

    Args:
        head: Whose lists they are.
        lists: Their items.
        names: What the items are called.
        model_version: What made them.
        generated_at_ms: When.
    """
    version = (
        b""
        if model_version is None
        else b'"model_version":%s,' % json.dumps(model_version, ensure_ascii=False).encode()
    )
    pieces = [
        b'{"recommendation_id":"',
        b'","event_id":"',
        b'","user_id":"',
        b'","source_partition":',
        b',"source_offset":',
        b',"scenario":"default","variant":"default",%s"generated_at_ms":%d,"items":[' % (version, generated_at_ms),
        b'{"item_id":"',
        b'","score":',
        *(b',"source":"%s","because":[]}' % source.encode() for source in SOURCES),
    ]
    data, places = _write_lists(head, lists, names, joined(pieces))
    return WireLists(head.user_ids, Texts(data, places))


@compiled
def _write_lists(head: Head, lists: Lists, names: Names, pieces: Texts) -> tuple[Bytes, IntArray]:
    """All lists, one after the other, and where each begins and the last one ends."""
    n_lists = len(lists.lengths_B)
    places = np.zeros(n_lists + 1, dtype=np.int64)
    out = np.empty(1024 * max(n_lists, 1), dtype=np.uint8)
    at = 0
    for b in range(n_lists):
        need = _room(head, lists, names, pieces, b)
        if at + need > len(out):
            grown = np.empty(2 * (at + need), dtype=np.uint8)
            grown[:at] = out[:at]
            out = grown
        partition = head.partition_B[b]
        at = _copy(out, at, pieces, 0)
        for i in range(16):
            out[at + i] = head.places[partition, i]
        at = _write_hex(out, at + 16, head.offsets_B[b])
        at = _copy(out, at, pieces, 1)
        at = _write_text(out, at, head.event_ids, b)
        at = _copy(out, at, pieces, 2)
        at = _write_text(out, at, head.user_ids, b)
        at = _copy(out, at, pieces, 3)
        at = _write_decimal(out, at, head.partitions[partition])
        at = _copy(out, at, pieces, 4)
        at = _write_decimal(out, at, head.offsets_B[b])
        at = _copy(out, at, pieces, 5)
        for n in range(lists.lengths_B[b]):
            if n:
                out[at] = 44  # ,
                at += 1
            item = lists.items_BN[b, n]
            at = _copy(out, at, pieces, 6)
            at = (
                _write_text(out, at, names.ann, item - 1)
                if item > 0
                else _write_text(out, at, names.popular, -1 - item)
            )
            at = _copy(out, at, pieces, 7)
            at = _write_score(out, at, lists.scores_BN[b, n])
            at = _copy(out, at, pieces, 8 if item > 0 else 9)
        out[at], out[at + 1] = 93, 125  # ]}
        at += 2
        places[b + 1] = at
    return out[:at], places


@compiled
def _room(head: Head, lists: Lists, names: Names, pieces: Texts, b: Int) -> Int:
    """No fewer bytes than a list takes: a byte of text becomes six at most, a number twenty."""
    n_text = head.event_ids.ends[b + 1] - head.event_ids.ends[b] + head.user_ids.ends[b + 1] - head.user_ids.ends[b]
    for n in range(lists.lengths_B[b]):
        item = lists.items_BN[b, n]
        if item > 0:
            n_text += names.ann.ends[item] - names.ann.ends[item - 1]
        else:
            n_text += names.popular.ends[-item] - names.popular.ends[-1 - item]
    n_pieces = pieces.ends[6] + lists.lengths_B[b] * (pieces.ends[-1] - pieces.ends[6] + 24)
    return 6 * n_text + n_pieces + 100


@compiled
def _copy(out: Bytes, at: Int, pieces: Texts, n: Int) -> Int:
    return copy_bytes(out, at, pieces.data, pieces.ends[n], pieces.ends[n + 1] - pieces.ends[n])


@compiled
def _write_text(out: Bytes, at: Int, of: Texts, n: Int) -> Int:
    """A text as JSON says it between quotation marks."""
    for i in range(of.ends[n], of.ends[n + 1]):
        byte = of.data[i]
        if byte == 34 or byte == 92:  # " and \\
            out[at] = 92
            at += 1
        elif byte < 32:
            for digit in (92, 117, 48, 48, 48 + (byte >> 4)):  # \\u00
                out[at] = digit
                at += 1
            byte = _hex_digit(byte & 15)
        out[at] = byte
        at += 1
    return at


@compiled
def _hex_digit(value: Int) -> Int:
    return 48 + value if value < 10 else 87 + value


@compiled
def _write_hex(out: Bytes, at: Int, value: Int) -> Int:
    """Sixteen hexadecimal digits."""
    for i in range(16):
        out[at + 15 - i] = _hex_digit((value >> (4 * i)) & 15)
    return at + 16


@compiled
def _write_decimal(out: Bytes, at: Int, value: Int) -> Int:
    """A number that is not negative."""
    n, rest = 1, value // 10
    while rest:
        n += 1
        rest //= 10
    for i in range(n):
        out[at + n - 1 - i] = 48 + value % 10
        value //= 10
    return at + n


@compiled
def _write_score(out: Bytes, at: Int, score: float) -> Int:
    """A score, rounded to `_DECIMALS`, with no more zeros at its end than one."""
    if score < 0:
        out[at] = 45  # -
        at += 1
    scaled = np.int64(np.rint(min(abs(score), _LARGEST_SCORE) * 10**_DECIMALS))
    at = _write_decimal(out, at, scaled // 10**_DECIMALS)
    out[at] = 46  # .
    fraction = scaled % 10**_DECIMALS
    for i in range(_DECIMALS):
        out[at + _DECIMALS - i] = 48 + fraction % 10
        fraction //= 10
    end = at + _DECIMALS
    while end > at + 1 and out[end] == 48:
        end -= 1
    return end + 1
