"""A session and its stored form."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest

from encoders.window import Window
from streams.errors import StateFormatError
from streams.session import LatestList, ListedItem, Session, event_hash, pack, remember, unpack

GOLDEN = Path(__file__).parent.parent / "golden" / "session.v1.hex"


def full() -> Session:
    return Session(
        applied_offset=2**62,
        window=Window([0, 2**64 - 1], [0, 2**32 - 1], [1, 255]),
        seen=[0, 2**32 - 1],
        recent_events=[1, 2**64 - 1],
        states={"gru@20261122T101500Z-3fa9c1": np.array([1.5, -2.25], dtype=np.float32)},
        latest=LatestList(
            1_700_000_000_000,
            "20261122T101500Z-3fa9c1",
            [ListedItem("50", 0.5, "ann"), ListedItem("ü:/", -1.25, "popularity")],
        ),
    )


def same(a: Session, b: Session) -> bool:
    names = ("applied_offset", "window", "seen", "recent_events", "latest")
    return (
        all(getattr(a, name) == getattr(b, name) for name in names)
        and a.states.keys() == b.states.keys()
        and all(np.array_equal(a.states[key], b.states[key]) for key in a.states)
    )


def test_the_stored_form_is_the_golden_one_and_reads_back() -> None:
    """Version 1 lies in Redis: a changed byte needs a new version."""
    assert pack(full()).hex() == GOLDEN.read_text().strip()
    assert same(unpack(bytes.fromhex(GOLDEN.read_text())), full())


def test_a_new_session_reads_back() -> None:
    assert same(unpack(pack(Session())), Session())


def test_a_list_may_be_empty_which_is_not_the_same_as_no_list() -> None:
    assert unpack(pack(Session(latest=LatestList(5, None, [])))).latest == LatestList(5, None, [])


def test_the_largest_settings_fit() -> None:
    """200 items a list, 65,535 seen, 255 recent events, 65,535 entries, ids and versions of any alphabet."""
    wide = "\U0001f600"
    session = Session(
        7,
        Window([1] * 65_535, [2] * 65_535, [3] * 65_535),
        list(range(65_535)),
        list(range(255)),
        {f"{'m' * 128}@{'v' * 126}": np.zeros(4096, dtype=np.float32)},
        LatestList(0, "v" * 128, [ListedItem(wide * 256, 0.0, f"source-{i % 50}") for i in range(200)]),
    )
    assert same(unpack(pack(session)), session)


def test_a_session_without_bytes_is_refused() -> None:
    with pytest.raises(StateFormatError, match="has nothing"):
        unpack(b"")


@pytest.mark.parametrize("version", [0, 2, 255])
def test_an_unknown_version_is_refused(version: int) -> None:
    with pytest.raises(StateFormatError, match=f"has version {version}, this streamrec reads version 1"):
        unpack(bytes([version]) + pack(Session())[1:])


def test_a_session_cut_anywhere_is_refused() -> None:
    blob = pack(full())
    for length in range(1, len(blob)):
        with pytest.raises(StateFormatError):
            unpack(blob[:length])


def test_bytes_too_many_are_refused() -> None:
    with pytest.raises(StateFormatError, match="damaged: 1 bytes too many"):
        unpack(pack(full()) + b"\0")


def test_damage_is_refused_or_read_but_never_another_error() -> None:
    blob, rng = pack(full()), np.random.default_rng(0)
    for _ in range(2000):
        damaged = bytearray(blob)
        damaged[rng.integers(1, len(blob))] = rng.integers(256)
        try:
            unpack(bytes(damaged))
        except StateFormatError:
            continue


def test_a_copy_can_change_alone() -> None:
    session = full()
    changed = session.copy()
    changed.window.drop_oldest(1)
    changed.seen.append(1)
    changed.recent_events.append(1)
    changed.states.clear()
    changed.latest, changed.applied_offset = None, 9
    assert same(session, full())


def test_seen_is_what_left_the_window_and_what_is_in_it() -> None:
    session = Session(window=Window([2**32 + 5], [0], [1]), seen=[7])
    assert session.fingerprints() == [7, 5]


def test_a_memory_drops_the_oldest() -> None:
    memory = [1, 2, 3]
    remember(memory, [4, 5], limit=3)
    assert memory == [3, 4, 5]


def test_a_value_remembered_again_counts_as_new() -> None:
    memory = [1, 2, 3]
    remember(memory, [1], limit=3)
    assert memory == [2, 3, 1]


def test_a_memory_of_nothing_stays_empty() -> None:
    memory: list[int] = []
    remember(memory, [1, 2], limit=0)
    assert memory == []


def test_event_hashes_are_64_bits_and_tell_ids_apart() -> None:
    hashes = {event_hash(str(i)) for i in range(1000)}
    assert len(hashes) == 1000
    assert struct.pack("<Q", max(hashes))
