"""A vocabulary is a bijection between ids and 1 … n."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from encoders.vocabulary import Vocabulary, item_hash

item_ids = st.lists(st.text(max_size=20), unique=True, max_size=60)


@given(item_ids, st.text(max_size=5))
def test_ids_and_numbers_are_one_to_one(ids: list[str], catalogue: str) -> None:
    vocabulary = Vocabulary.from_ids(ids, catalogue)
    numbers = [vocabulary.item_number(i) for i in ids]
    assert numbers == list(range(1, len(ids) + 1))
    assert [vocabulary.item_id(n) for n in numbers] == ids == vocabulary.item_ids
    hashes = vocabulary.hashes_by_number
    assert [int(h) for h in hashes[1:]] == [item_hash(i, catalogue) for i in ids]
    np.testing.assert_array_equal(vocabulary.item_numbers(hashes[1:]), numbers)


@given(item_ids, st.lists(st.integers(0, 2**64 - 1), max_size=20))
def test_a_hash_is_known_exactly_if_its_item_is(ids: list[str], others: list[int]) -> None:
    vocabulary = Vocabulary.from_ids(ids)
    known = {item_hash(i): n for n, i in enumerate(ids, 1)}
    asked = [*others, *known]
    assert vocabulary.item_numbers(asked).tolist() == [known.get(h, 0) for h in asked]


@given(item_ids, st.randoms())
def test_another_order_is_another_numbering_of_the_same_items(ids: list[str], random: object) -> None:
    shuffled = ids.copy()
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    one, other = Vocabulary.from_ids(ids), Vocabulary.from_ids(shuffled)
    np.testing.assert_array_equal(one.sorted_hashes, other.sorted_hashes)
    assert all(other.item_id(other.item_number(i)) == i for i in ids)
