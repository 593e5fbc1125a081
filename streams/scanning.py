"""JSON, a byte at a time: where a value ends that begins somewhere in the data.

Every function answers -1 where there is no such value, or none that is plain: numbers have no exponents and at most
`_MOST_DIGITS` digits, objects hold scalars.

References:
    RFC 8259; The Unicode Standard, table 3-7 (well-formed UTF-8).
"""

from __future__ import annotations

from encoders.compiled import Bytes, Int, as_bytes, compiled
from streams.texts import joined, place_of

QUOTE, BACKSLASH, COLON, COMMA, OPEN, CLOSE, MINUS, POINT, SLASH = b'"\\:,{}-./'
_LITERALS = joined([b"null", b"true", b"false"])
_ESCAPED = as_bytes(b'"\\/bfnrt')
_MOST_DIGITS = 18
"""Of a number; with more it may not fit 64 bits."""


@compiled
def flat_end(data: Bytes, at: Int, end: Int) -> Int:
    """The end of an object that holds nothing but scalars; -1 if it is none."""
    if data[at] != OPEN:
        return -1
    at = after_space(data, at + 1, end)
    if at < end and data[at] == CLOSE:
        return at + 1
    while True:
        if at == end or data[at] != QUOTE:
            return -1
        at = text_end(data, at + 1, end, False)
        if at < 0:
            return -1
        at = after_space(data, at + 1, end)
        if at == end or data[at] != COLON:
            return -1
        at = after_space(data, at + 1, end)
        at = scalar_end(data, at, end) if at < end else -1
        if at < 0:
            return -1
        at = after_space(data, at, end)
        if at < end and data[at] == CLOSE:
            return at + 1
        if at == end or data[at] != COMMA:
            return -1
        at = after_space(data, at + 1, end)


@compiled
def scalar_end(data: Bytes, at: Int, end: Int) -> Int:
    """The end of a text, a number, `true`, `false` or `null`; -1 if it is none, or none that is plain."""
    if data[at] == QUOTE:
        last = text_end(data, at + 1, end, False)
        return last + 1 if last >= 0 else -1
    if data[at] == MINUS or 48 <= data[at] < 58:
        return number_end(data, at, end)
    literal_end = at
    while literal_end < end and 97 <= data[literal_end] < 123:  # a … z
        literal_end += 1
    return literal_end if place_of(data, at, literal_end, _LITERALS) >= 0 else -1


@compiled
def number_end(data: Bytes, at: Int, end: Int) -> Int:
    """The end of a number without an exponent; -1 if it is none."""
    if data[at] == MINUS:
        at += 1
    at = digits_end(data, at, end)
    if at < 0 or at == end:
        return at
    if data[at] == POINT:
        first = at + 1
        at = first
        while at < end and 48 <= data[at] < 58:
            at += 1
        if at == first or at - first > _MOST_DIGITS:
            return -1
    return -1 if at < end and (data[at] | 32) == 101 else at  # e


@compiled
def digits_end(data: Bytes, at: Int, end: Int) -> Int:
    """The end of a whole number that is not negative; -1 if it is none, or too large."""
    first = at
    while at < end and 48 <= data[at] < 58:
        at += 1
    if at == first or at - first > _MOST_DIGITS or (data[first] == 48 and at - first > 1):
        return -1
    return at


@compiled
def text_end(data: Bytes, at: Int, end: Int, is_kept: bool) -> Int:
    """Where a text's closing quotation mark stands; -1 if it has none, is no UTF-8, or is kept and has an escape."""
    while at < end:
        byte = data[at]
        if byte == QUOTE:
            return at
        n = 1
        if byte < 32 or (byte == BACKSLASH and is_kept):
            return -1
        if byte == BACKSLASH:
            n = _escape_bytes(data, at, end)
        elif byte > 127:
            n = _sequence_bytes(data, at, end)
        if n == 0:
            return -1
        at += n
    return -1


@compiled
def _escape_bytes(data: Bytes, at: Int, end: Int) -> Int:
    """How many bytes an escape has; 0 if it is none, or half of a surrogate pair."""
    if at + 1 >= end:
        return 0
    if data[at + 1] != 117:  # u
        for byte in _ESCAPED:
            if data[at + 1] == byte:
                return 2
        return 0
    if at + 6 > end:
        return 0
    value = 0
    for i in range(at + 2, at + 6):
        byte = data[i] | 32
        digit = byte - 48 if 48 <= data[i] < 58 else byte - 87 if 97 <= byte < 103 else -1
        if digit < 0:
            return 0
        value = 16 * value + digit
    return 0 if 0xD800 <= value < 0xE000 else 6


@compiled
def _sequence_bytes(data: Bytes, at: Int, end: Int) -> Int:
    """How many bytes a character beyond ASCII has; 0 if it is none (Unicode, table 3-7)."""
    first = data[at]
    n = 2 if 0xC2 <= first < 0xE0 else 3 if 0xE0 <= first < 0xF0 else 4 if 0xF0 <= first < 0xF5 else 0
    if n == 0 or at + n > end:
        return 0
    second = data[at + 1]
    low = 0xA0 if first == 0xE0 else 0x90 if first == 0xF0 else 0x80
    high = 0x9F if first == 0xED else 0x8F if first == 0xF4 else 0xBF
    if second < low or second > high:
        return 0
    for i in range(2, n):
        if data[at + i] & 0xC0 != 0x80:
            return 0
    return n


@compiled
def after_space(data: Bytes, at: Int, end: Int) -> Int:
    """Where something else than white space stands, or the end."""
    while at < end and (data[at] == 32 or data[at] == 10 or data[at] == 13 or data[at] == 9):
        at += 1
    return at
