"""A session and its stored form."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.window import Entry, Window
from streams.errors import StateFormatError
from streams.lists import SOURCES
from streams.session import (
    LatestList,
    Session,
    StoredSession,
    event_hash,
    fingerprints_of,
    pack,
    pack_list,
    unpack,
    with_recent,
    with_seen,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "session.v3.hex"


def full() -> Session:
    return Session(
        applied_offset=2**62,
        window=Window.of([Entry(0, 0, 1), Entry(2**64 - 1, 2**32 - 1, 255)]),
        recent_events=bytes(range(16)),
        states={"gru@20261122T101500Z-3fa9c1": np.array([1.5, -2.25], dtype="<f4").tobytes()},
        packed_latest=pack_list(
            LatestList(
                1_700_000_000_000,
                "20261122T101500Z-3fa9c1",
                ["50", "ü:/"],
                [0.5, -1.25],
                ["ann", "popularity"],
            )
        ),
    )


def test_the_stored_form_is_the_golden_one_and_reads_back() -> None:
    """Version 3 lies in Redis: a changed byte needs a new version."""
    assert pack(full()).hex() == GOLDEN.read_text().strip()
    assert unpack(bytes.fromhex(GOLDEN.read_text())) == full()


def test_a_new_session_reads_back() -> None:
    assert unpack(pack(Session())) == Session()


def test_a_list_may_be_empty_which_is_not_the_same_as_no_list() -> None:
    empty = LatestList(5, None, [], [], [])
    assert unpack(pack(Session(packed_latest=pack_list(empty)))).latest == empty
    assert unpack(pack(Session())).latest is None


def test_the_largest_settings_fit() -> None:
    """200 items a list, 65,535 entries and seen, 255 recent events, ids and versions of any alphabet."""
    wide = "\U0001f600"
    listed = LatestList(0, "v" * 128, [wide * 256] * 200, [0.0] * 200, [SOURCES[i % len(SOURCES)] for i in range(200)])
    session = Session(
        7,
        Window.of(Entry(1, 2, 3) for _ in range(65_535)),
        bytes(4 * 65_535),
        bytes(8 * 255),
        {f"{'m' * 128}@{'v' * 126}": bytes(4 * 4096)},
        pack_list(listed),
    )
    assert unpack(pack(session), session.seen) == session


def test_a_session_without_bytes_is_refused() -> None:
    with pytest.raises(StateFormatError, match="has nothing"):
        unpack(b"")


@pytest.mark.parametrize("version", [0, 1, 2, 255])
def test_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(StateFormatError, match=f"has version {version}, this streamrec reads version 3"):
        unpack(bytes([version]) + pack(Session())[1:])


def test_a_session_cut_anywhere_is_refused() -> None:
    blob = pack(full())
    for length in range(1, len(blob)):
        with pytest.raises(StateFormatError):
            _ = unpack(blob[:length]).latest


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(StateFormatError, match="damaged: 1 bytes too many"):
        _ = unpack(pack(full()) + b"\0").latest


def test_damage_is_refused_or_read_but_never_another_error() -> None:
    blob, rng = pack(full()), np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(blob)
        damaged[rng.integers(1, len(blob))] = rng.integers(256)
        try:
            _ = unpack(bytes(damaged)).latest
        except StateFormatError:
            continue


def test_seen_items_of_half_a_fingerprint_are_refused() -> None:
    with pytest.raises(StateFormatError, match="7 bytes of seen items"):
        unpack(pack(full()), b"1234567")


def test_what_is_stored_in_two_parts_is_one_session() -> None:
    stored = StoredSession(pack(full()), with_seen(b"", [2**32 + 5, 7], 9))
    assert stored.session() == replace(full(), seen=stored.seen)
    assert StoredSession(pack(full())).session() == full()


def test_a_source_is_stored_as_its_place_for_all_time() -> None:
    """Lists that lie in Redis name their sources by it."""
    assert SOURCES[:2] == ("ann", "popularity")


def test_a_source_that_this_version_does_not_know_is_refused() -> None:
    blob = bytearray(pack_list(LatestList(0, None, ["1"], [0.0], [SOURCES[-1]])))
    blob[-4] = len(SOURCES)
    with pytest.raises(StateFormatError):
        _ = Session(packed_latest=bytes(blob)).latest


def test_what_was_seen_is_known_by_its_fingerprints() -> None:
    assert fingerprints_of(with_seen(with_seen(b"", [2**32 + 5, 7], 9), [9], 9)) == [5, 7, 9]


def test_a_memory_of_seen_items_drops_the_oldest() -> None:
    assert fingerprints_of(with_seen(with_seen(b"", [1, 2, 3], 3), [4, 5], 3)) == [3, 4, 5]


def test_an_item_seen_again_counts_as_new() -> None:
    assert fingerprints_of(with_seen(with_seen(b"", [1, 2, 3], 3), [1], 3)) == [2, 3, 1]


def test_a_memory_of_nothing_stays_empty() -> None:
    assert with_seen(b"", [1, 2], 0) == b"" == with_recent(b"", event_hash("a"), 0)


def test_recent_events_are_the_newest_ones() -> None:
    recent = b""
    for name in "abcd":
        recent = with_recent(recent, event_hash(name), 3)
    assert Session(recent_events=recent).recent_event_hashes == tuple(map(event_hash, "bcd"))


def test_event_hashes_are_64_bits_and_tell_ids_apart() -> None:
    hashes = {event_hash(str(i)) for i in range(1000)}
    assert len(hashes) == 1000
    assert 2**62 < max(hashes) < 2**64


def test_the_hash_of_an_event_id_is_fixed_for_all_time() -> None:
    """Sessions hold it; the first is of XXH3's own tests."""
    assert event_hash("") == 0x2D06800538D394C2
    assert event_hash("e") == 0xE5E72E5E3BEC4A78
