"""Codes for ids: each id has one, in the order of first appearance, however many there are."""

from __future__ import annotations

import numpy as np
import pytest

from trainer import ids
from trainer.ids import Ids, IdTable, hashes


def test_an_id_keeps_the_code_of_its_first_appearance() -> None:
    table = IdTable()
    assert table.codes(["b", "a", "b"]).tolist() == [0, 1, 0]
    assert table.codes(["c", "a"]).tolist() == [2, 1]
    assert list(table.ids) == ["b", "a", "c"]


def test_a_table_grows_far_beyond_its_first_room() -> None:
    table, wanted = IdTable(), [f"user-{n}" for n in range(20_000)]
    for start in range(0, len(wanted), 700):
        table.codes(wanted[start : start + 700])
    assert table.codes(wanted[::-1]).tolist() == list(range(19_999, -1, -1))


def test_a_table_made_of_ids_goes_on_where_they_end() -> None:
    table = IdTable(Ids.of(["x", "ÿ", "z"]))
    assert table.codes(["z", "new", "ÿ"]).tolist() == [2, 3, 1]


def test_what_a_table_held_is_not_changed_by_later_ids() -> None:
    table = IdTable()
    table.codes(["a"])
    before = table.ids
    table.codes([f"id-{n}" for n in range(5_000)])
    assert list(before) == ["a"]


def test_one_id_more_than_there_are_codes_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ids, "MOST_IDS", 3)
    table = IdTable()
    table.codes(["a", "b", "c"])
    with pytest.raises(OverflowError, match="more than 3 ids"):
        table.codes(["d"])


def test_ids_are_a_sequence() -> None:
    given_ids = ["a", "", "ünï", "d"]
    held = Ids.of(given_ids)
    assert (len(held), list(held), held[-1], held[1:3]) == (4, given_ids, "d", ["", "ünï"])
    assert "ünï" in held
    with pytest.raises(IndexError):
        held[4]


def test_ids_are_taken_in_the_order_asked_for() -> None:
    assert list(Ids.of(["a", "bb", "ccc"]).take(np.array([2, 0, 2], dtype=np.int32))) == ["ccc", "a", "ccc"]


def test_hashes_are_those_published_for_fnv_1a() -> None:
    """Vectors of Noll's reference implementation."""
    found = hashes(Ids.of(["", "a", "foobar"]))
    assert found.tolist() == [0xCBF29CE484222325, 0xAF63DC4C8601EC8C, 0x85944171F73967E8]
