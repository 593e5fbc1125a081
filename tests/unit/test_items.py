"""The catalogue of items as the topic describes them."""

from __future__ import annotations

import pytest

from encoders.records import Item
from encoders.vocabulary import item_hash
from streams.items import ItemCatalogue


def described(**fields: object) -> ItemCatalogue:
    catalogue = ItemCatalogue()
    item = Item.model_validate({"item_id": "50", **fields})
    assert catalogue.apply(item.key, item.to_json()) is None
    return catalogue


def test_an_item_is_known_by_id_and_title() -> None:
    catalogue = described(title="Amélie")
    assert (catalogue.item_id(item_hash("50")), catalogue.title(item_hash("50"))) == ("50", "Amélie")
    assert len(catalogue) == 1


def test_an_unknown_item_has_neither_id_nor_title_and_is_available() -> None:
    catalogue = ItemCatalogue()
    assert catalogue.item_id(1) is None
    assert catalogue.title(1) is None
    assert 1 not in catalogue.unavailable


def test_an_item_without_a_title_has_none() -> None:
    assert described().title(item_hash("50")) is None


@pytest.mark.parametrize("item_id", ["a\0b", "ä" * 256, "catalogue/50", " "])
def test_any_id_comes_back_as_it_was(item_id: str) -> None:
    catalogue = described(item_id=item_id, title="\0t")
    assert (catalogue.item_id(item_hash(item_id)), catalogue.title(item_hash(item_id))) == (item_id, "\0t")


@pytest.mark.parametrize(
    ("fields", "unavailable"),
    [
        ({}, False),
        ({"stock": 1}, False),
        ({"stock": 0}, True),
        ({"stock": -1}, True),
        ({"available": False}, True),
        ({"available": False, "stock": 9}, True),
    ],
)
def test_an_item_is_unavailable_when_marked_so_or_out_of_stock(fields: dict[str, object], unavailable: bool) -> None:
    assert (item_hash("50") in described(**fields).unavailable) is unavailable


def test_an_item_in_stock_again_is_available_again() -> None:
    catalogue = described(stock=0)
    item = Item(item_id="50", stock=3)
    catalogue.apply(item.key, item.to_json())
    assert not catalogue.unavailable


def test_a_tombstone_removes_the_description_and_withholds_the_item() -> None:
    catalogue = described(title="Amélie")
    assert catalogue.apply(b"default/50", None) is None
    assert catalogue.title(item_hash("50")) is None
    assert catalogue.unavailable == {item_hash("50")}


def test_a_tombstone_for_an_id_with_a_slash_removes_that_item() -> None:
    catalogue = described(item_id="a/b")
    catalogue.apply(b"default/a/b", None)
    assert catalogue.unavailable == {item_hash("a/b")}


def test_the_same_id_in_another_catalogue_is_another_item() -> None:
    catalogue = described()
    catalogue.apply(b"films/50", None)
    assert catalogue.item_id(item_hash("50")) == "50"
    assert catalogue.unavailable == {item_hash("50", "films")}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        (b"default/50", b"{", "not-json"),
        (b"default/50", b'{"item_id": "\xff"}', "not-utf8"),
        (b"default/50", b"", "not-json"),
        (b"default/50", b'{"item_id": 50}', "invalid"),
        (b"default/50", b"{}", "invalid"),
        (b"default/50", b'{"item_id": "50", "price": NaN}', "invalid"),
        (b"a/b/50", b'{"item_id": "50", "catalogue": "a/b"}', "invalid"),
        (b"50", b'{"item_id": "50"}', "key"),
        (None, b'{"item_id": "50"}', "key"),
        (b"default/51", b'{"item_id": "50"}', "key"),
        (b"50", None, "key"),
        (b"default/", None, "key"),
        (b"\xff/50", None, "key"),
        (None, None, "key"),
    ],
)
def test_a_bad_record_is_refused_with_its_reason_and_changes_nothing(
    key: bytes | None, value: bytes | None, reason: str
) -> None:
    catalogue = described(title="Amélie")
    refusal = catalogue.apply(key, value)
    assert refusal is not None
    assert refusal.reason == reason
    assert (len(catalogue), catalogue.title(item_hash("50")), catalogue.unavailable) == (1, "Amélie", frozenset())


def test_unavailable_is_the_same_object_until_availability_changes() -> None:
    catalogue = described(stock=0)
    before = catalogue.unavailable
    still = Item(item_id="50", title="new title", stock=0)
    catalogue.apply(still.key, still.to_json())
    assert catalogue.unavailable is before
    other = Item(item_id="51", available=False)
    catalogue.apply(other.key, other.to_json())
    assert catalogue.unavailable is not before
    assert before == {item_hash("50")}, "what was handed out does not change"
