"""The vocabulary: ids to numbers and back, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from encoders import vocabulary as module
from encoders.errors import VocabularyError
from encoders.vocabulary import Vocabulary, item_hash


def arrays(vocabulary: Vocabulary) -> dict[str, Any]:
    names = ("catalogue", "sorted_hashes", "numbers", "id_bytes", "id_offsets")
    return {name: getattr(vocabulary, name) for name in names}


def test_items_are_numbered_from_one_in_the_order_given() -> None:
    vocabulary = Vocabulary.from_ids(["b", "a", "ü"])
    assert [vocabulary.item_number(i) for i in ("b", "a", "ü")] == [1, 2, 3]
    assert vocabulary.item_ids == ["b", "a", "ü"]
    assert vocabulary.n_items == 3


def test_an_unknown_item_is_padding() -> None:
    vocabulary = Vocabulary.from_ids(["a"])
    unknown = [item_hash("b"), 0, 2**64 - 1, item_hash("a", "films")]
    assert vocabulary.item_numbers(unknown).tolist() == [0, 0, 0, 0]
    assert vocabulary.item_number("") == 0


def test_the_hash_is_fixed_for_all_time() -> None:
    """Sessions in Redis and bundles on disk hold it. The figures are those of `b2sum -l 64`."""
    assert item_hash("50").to_bytes(8, "little").hex() == "c93fb8fea35bf41a"
    assert item_hash("50", "films").to_bytes(8, "little").hex() == "35158e59f06e69b6"


def test_numbers_come_as_int64_whatever_is_asked() -> None:
    vocabulary = Vocabulary.from_ids(["a"])
    for asked in ([], [item_hash("a")], np.array([], dtype=np.uint64), frozenset({item_hash("a")})):
        assert vocabulary.item_numbers(asked).dtype == np.int64
        assert vocabulary.item_numbers(asked).shape == (len(asked),)


def test_an_empty_vocabulary_knows_nothing() -> None:
    vocabulary = Vocabulary.from_ids([])
    assert vocabulary.item_ids == []
    assert vocabulary.item_numbers([1, 2]).tolist() == [0, 0]
    with pytest.raises(VocabularyError):
        vocabulary.item_id(1)


@pytest.mark.parametrize("number", [0, -1, 3])
def test_a_number_out_of_range_has_no_id(number: int) -> None:
    with pytest.raises(VocabularyError, match=f"item number {number} is not in 1 … 2"):
        Vocabulary.from_ids(["a", "b"]).item_id(number)


def test_the_same_id_twice_is_refused_by_name() -> None:
    with pytest.raises(VocabularyError, match="'b' and 'b' of catalogue 'default' share the hash"):
        Vocabulary.from_ids(["a", "b", "c", "b"])


def test_two_items_with_one_hash_are_refused_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """No two ids with the same 64-bit hash are known, so the hash is made short here."""
    monkeypatch.setattr(module, "item_hash", lambda item_id, catalogue: len(item_id))
    with pytest.raises(VocabularyError, match="'aa' and 'bb'"):
        Vocabulary.from_ids(["a", "aa", "bb"])


def test_arrays_that_were_stored_give_the_same_vocabulary() -> None:
    stored = arrays(Vocabulary.from_ids(["x", "", "yy"], "films"))
    again = Vocabulary(**stored)
    assert again.item_ids == ["x", "", "yy"]
    assert again.item_number("yy") == 3


@pytest.mark.parametrize(
    "damage",
    [
        {"numbers": np.array([1, 2], dtype=np.int32)},
        {"numbers": np.array([1, 1, 2], dtype=np.int32)},
        {"numbers": np.array([0, 1, 2], dtype=np.int32)},
        {"numbers": np.array([2, 3, 4], dtype=np.int32)},
        {"sorted_hashes": np.array([3, 2, 1], dtype=np.uint64)},
        {"sorted_hashes": np.array([1, 1, 2], dtype=np.uint64)},
        {"id_offsets": np.array([0, 1, 2], dtype=np.int64)},
        {"id_offsets": np.array([0, 1, 2, 4], dtype=np.int64)},
        {"id_offsets": np.array([1, 1, 2, 3], dtype=np.int64)},
        {"id_offsets": np.array([0, 2, 1, 3], dtype=np.int64)},
        {"id_bytes": np.zeros(2, dtype=np.uint8)},
    ],
    ids=str,
)
def test_arrays_that_contradict_each_other_are_refused(damage: dict[str, Any]) -> None:
    with pytest.raises(VocabularyError):
        Vocabulary(**{**arrays(Vocabulary.from_ids(["a", "b", "c"])), **damage})
