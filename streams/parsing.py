"""Reads plainly valid interactions, a whole batch at once, without an object for any.

This is `encoders.records.Interaction` for the records that nearly everybody sends: no escapes in ids, no exponents,
nothing nested but a flat `context`. Whatever is not plainly valid is passed over, and pydantic alone decides and
explains; a property test holds the two together.

Shape letters: ``R`` records. A span is where a text begins and ends in the data, ``(…, 2)``.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from encoders.compiled import Bytes, Int, IntArray, compiled
from encoders.events import EVENT_TRAITS
from encoders.records import Interaction
from streams.scanning import (
    CLOSE,
    COLON,
    COMMA,
    OPEN,
    QUOTE,
    SLASH,
    after_space,
    digits_end,
    flat_end,
    number_end,
    scalar_end,
    text_end,
)
from streams.texts import joined, place_of

BoolArray = npt.NDArray[np.bool_]
_NAMES = [name.encode() for name in Interaction.model_fields]
_EVENT_ID, _USER_ID, _ITEM_ID, _EVENT_TYPE, _TIMESTAMP, _CATALOGUE, _VALUE, _QUERY, _POSITION, _CONTEXT = (
    _NAMES.index(name)
    for name in (
        *(b"event_id", b"user_id", b"item_id", b"event_type", b"timestamp_ms"),
        *(b"catalogue", b"value", b"query", b"position", b"context"),
    )
)
_FIELDS = joined(_NAMES)
_LONGEST = np.full(len(_NAMES), 128)
"""Of each text in bytes. One of more bytes may yet have few enough characters; that is for pydantic to see."""
_LONGEST[[_USER_ID, _ITEM_ID]], _LONGEST[_QUERY] = 256, 1 << 30
_MUST_BE_THERE = sum(
    1 << _NAMES.index(name.encode()) for name, field in Interaction.model_fields.items() if field.is_required()
)
_NEVER_NULL = _MUST_BE_THERE | 1 << _CATALOGUE | 1 << _CONTEXT
_TYPES = joined([kind.value.encode() for kind in EVENT_TRAITS])
_CODES = np.array([traits.code for traits in EVENT_TRAITS.values()], dtype=np.int64)
_NEEDS_ITEM = np.array([traits.needs_item for traits in EVENT_TRAITS.values()])


class Fields(NamedTuple):
    """What the pipeline needs of each record."""

    is_plain_R: BoolArray
    """Whether the record was read; of the others nothing here counts."""
    event_id_R2: IntArray
    user_id_R2: IntArray
    item_id_R2: IntArray
    """Empty where there is no item."""
    catalogue_R2: IntArray
    """Empty where the record names none."""
    type_R: npt.NDArray[np.uint8]
    timestamp_ms_R: IntArray

    def where(self, mask_R: BoolArray) -> Fields:
        """Those of some records."""
        columns: list[Any] = [column[mask_R] for column in self]
        return Fields(*columns)


@compiled
def read_fields(data: Bytes, ends: IntArray) -> Fields:
    """Read records that lie one after the other.

    Args:
        data: JSON in UTF-8, or anything else.
        ends: Where each begins, and at the end where the last one ends. Shape: ``(R + 1,)``.
    """
    n = len(ends) - 1
    spans, numbers = np.zeros((n, len(_LONGEST), 2), dtype=np.int64), np.zeros((n, 2), dtype=np.int64)
    is_plain = np.zeros(n, dtype=np.bool_)
    for r in range(n):
        is_plain[r] = _read(data, ends[r], ends[r + 1], spans[r], numbers[r])
    return Fields(
        is_plain,
        spans[:, _EVENT_ID].copy(),
        spans[:, _USER_ID].copy(),
        spans[:, _ITEM_ID].copy(),
        spans[:, _CATALOGUE].copy(),
        numbers[:, 0].astype(np.uint8),
        numbers[:, 1].copy(),
    )


@compiled
def _read(data: Bytes, at: Int, end: Int, spans: IntArray, numbers: IntArray) -> bool:
    """Read one record: its texts, the code of its type and its time; false if it is not plainly valid."""
    at = after_space(data, at, end)
    if at == end or data[at] != OPEN:
        return False
    found = 0
    while data[at] != CLOSE:
        at = after_space(data, at + 1, end)
        if at == end or data[at] != QUOTE:
            return False
        name, name_end = at + 1, text_end(data, at + 1, end, True)
        if name_end < 0:
            return False
        at = after_space(data, name_end + 1, end)
        if at == end or data[at] != COLON:
            return False
        field = place_of(data, name, name_end, _FIELDS)
        if field >= 0 and found >> field & 1:
            return False
        at = after_space(data, at + 1, end)
        at = _value_end(data, at, end, field, spans, numbers)
        if at < 0:
            return False
        found |= 1 << field if field >= 0 else 0
        at = after_space(data, at, end)
        if at == end or (data[at] != COMMA and data[at] != CLOSE):
            return False
    if after_space(data, at + 1, end) != end or found & _MUST_BE_THERE != _MUST_BE_THERE:
        return False
    has_item = spans[_ITEM_ID, 1] > 0
    needs_item = _NEEDS_ITEM[numbers[0]]
    numbers[0] = _CODES[numbers[0]]
    return has_item or not needs_item


@compiled
def _value_end(data: Bytes, at: Int, end: Int, field: Int, spans: IntArray, numbers: IntArray) -> Int:
    """Read the value of a field, or of one that is not known (-1), and return where it ends; -1 if it is not plain."""
    if at == end:
        return -1
    if field < 0:
        return scalar_end(data, at, end)
    if data[at] == 110:  # n
        return -1 if _NEVER_NULL >> field & 1 else scalar_end(data, at, end)
    if field in (_TIMESTAMP, _POSITION):
        last = digits_end(data, at, end)
        if field == _TIMESTAMP and last > 0:
            numbers[1] = 0
            for i in range(at, last):
                numbers[1] = 10 * numbers[1] + (data[i] - 48)
        return last
    if field == _VALUE:
        return number_end(data, at, end)
    if field == _CONTEXT:
        return flat_end(data, at, end)
    is_kept = field in (_EVENT_ID, _USER_ID, _ITEM_ID, _EVENT_TYPE, _CATALOGUE)
    last = text_end(data, at + 1, end, is_kept) if data[at] == QUOTE else -1
    if last < 0:
        return -1
    if field == _EVENT_TYPE:
        numbers[0] = place_of(data, at + 1, last, _TYPES)
        return last + 1 if numbers[0] >= 0 else -1
    length = last - at - 1
    if length > _LONGEST[field] or (length == 0 and field != _QUERY):
        return -1
    if field == _CATALOGUE:
        for i in range(at + 1, last):
            if data[i] == COLON or data[i] == SLASH:
                return -1
    spans[field, 0], spans[field, 1] = at + 1, last
    return last + 1
