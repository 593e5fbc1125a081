"""What users have come by, as item numbers."""

from __future__ import annotations

from itertools import chain

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams import exclusion
from streams.exclusion import ByFingerprint, Exclusion, look_up
from streams.strategy import Passed
from streams.texts import ends_of

FINGERPRINTS = np.arange(0, 7 * 31, 7, dtype=np.uint32)
"""Of items 1 to 30."""
TABLE = ByFingerprint.of(FINGERPRINTS)
come_by = st.lists(st.sampled_from([*FINGERPRINTS[1:].tolist(), 1, 2**32 - 1]), max_size=6)
users = st.lists(st.tuples(come_by, come_by, come_by), min_size=1, max_size=6)
"""Of each what is in the window, what had left it before the batch, and all that has left it where that is more."""


@given(st.lists(st.integers(0, 2**32 - 1) | st.integers(0, 20) | st.integers(0, 20).map(lambda n: n << 8), max_size=60))
@settings(max_examples=200)
def test_item_numbers_are_found_by_fingerprint(fingerprints: list[int]) -> None:
    """Also those that meet in one place of the table, and those at its end."""
    known, others = fingerprints[::2], fingerprints[1::2]
    table = ByFingerprint.of(np.array([0, *known], dtype=np.uint32))
    if len(set(known)) < len(known):
        assert table is None
    else:
        assert table is not None
        wanted = {identity: number for number, identity in enumerate(known, 1)}
        asked = [*known, *others, 0, 2**32 - 1]
        numbers = np.empty(len(asked), dtype=np.int32)
        look_up(table, np.array(asked, dtype=np.uint32), numbers)
        assert numbers.tolist() == [wanted.get(identity, 0) for identity in asked]


@pytest.mark.parametrize("most_bytes", [0, 1 << 20])
@given(users, st.data())
@settings(max_examples=100)
def test_the_same_is_left_out_however_often_it_is_asked_for(
    most_bytes: int, given_users: list[tuple[list[int], list[int], list[int]]], data: st.DataObject
) -> None:
    """What had left a window before the batch is remembered, as much of it as fits."""
    assert TABLE
    exclude = Exclusion(TABLE)
    number_of = {fingerprint: number for number, fingerprint in enumerate(FINGERPRINTS.tolist()) if number}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(exclusion, "_MOST_REMEMBERED_BYTES", most_bytes)
        for _ in range(3):
            some = data.draw(st.permutations(given_users))
            windows, stored, more = zip(*some, strict=True)
            seen = [*stored, *more]
            window_ends, seen_ends = ends_of([*map(len, windows)]), ends_of([*map(len, seen)])
            where = np.array([u + len(some) if more[u] else u for u in range(len(some))])
            passed = Passed(
                np.array([*chain(*windows)], dtype=np.uint32), window_ends[:-1], window_ends[1:],
                np.array([*chain(*seen)], dtype=np.uint32), seen_ends[where], seen_ends[where + 1],
            )  # fmt: skip
            rows = np.array(data.draw(st.permutations(range(len(some)))))
            excluded = exclude.of(passed, [np.array(each, dtype=np.uint32).tobytes() for each in stored], rows)
            for row, (window, left) in zip(rows.tolist(), excluded.ranges_BR2, strict=True):
                found = [*excluded.items[slice(*window)], *excluded.items[slice(*left)]]
                assert found == [number_of.get(each, 0) for each in [*windows[row], *(more[row] or stored[row])]]
