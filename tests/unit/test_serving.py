"""Opening, verifying and warming up a model, on real bundles."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path

import numpy as np
import pytest

from encoders.errors import BundleError
from encoders.gru import GRUEncoder
from encoders.vocabulary import item_hash
from index.build import KINDS
from index.protocol import ItemSearch, excluding
from streams.serving import ModelSlot, ServingModel
from tests.bundles import DAMAGES, RULE, with_long_version, write_model


@pytest.fixture
def model(tmp_path: Path) -> ServingModel:
    return ServingModel.load(write_model(tmp_path), RULE)


def test_a_good_bundle_answers_with_its_own_version(tmp_path: Path) -> None:
    reference = write_model(tmp_path)
    model = ServingModel.load(reference, RULE)
    assert (model.version, model.catalogue) == (reference.version, "default")
    assert model.state_key == f"gru@{reference.version}"
    _, queries = model.bundle.encoder.encode(np.array([[1, 2, 3]]))
    numbers, _ = model.index.search(queries, 10)
    assert len(set(numbers[0].tolist())) == 10


@pytest.mark.parametrize("n_items", [1, 2, 40])
@pytest.mark.parametrize("kind", KINDS)
def test_a_bundle_of_any_size_and_kind_of_index_can_be_served(tmp_path: Path, kind: str, n_items: int) -> None:
    model = ServingModel.load(write_model(tmp_path, n_items=n_items, index_kind=kind), RULE)
    assert (model.index.kind, model.index.n_items) == (kind, n_items)


@pytest.mark.parametrize("what", DAMAGES)
def test_a_bad_bundle_is_refused_and_the_message_says_what_is_wrong(tmp_path: Path, what: str) -> None:
    damage, message = DAMAGES[what]
    with pytest.raises(BundleError, match=message):
        ServingModel.load(damage(write_model(tmp_path)), RULE)


def test_a_version_too_long_for_a_stored_session_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="take more than 255 bytes"):
        ServingModel.load(with_long_version(write_model(tmp_path)), RULE)


def test_a_state_that_no_session_has_room_for_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(GRUEncoder, "state_size", 65_536)
    with pytest.raises(BundleError, match="a state of 65,536 numbers is more than the 65,535"):
        ServingModel.load(write_model(tmp_path), RULE)


def test_fingerprints_are_the_low_half_of_each_items_hash(model: ServingModel) -> None:
    number = model.bundle.vocabulary.item_number("7")
    assert model.fingerprints[number] == item_hash("7") & 0xFFFFFFFF
    assert model.fingerprints.shape == (41,)


def found(index: ItemSearch) -> set[int]:
    """All items that the index has."""
    numbers, _ = index.search(np.ones((1, 8), dtype=np.float32), 40)
    return set(numbers[0].tolist()) - {0}


def test_an_item_that_is_withheld_is_not_searched_and_an_unknown_one_withholds_nothing(model: ServingModel) -> None:
    number = model.bundle.vocabulary.item_number("7")
    assert found(model.index_without(frozenset({item_hash("7"), item_hash("unknown")}))) == set(range(1, 41)) - {number}
    assert model.index_without(frozenset({item_hash("unknown")})) is model.index


def test_a_flat_index_leaves_out_what_users_have_come_by_also_where_an_item_is_withheld(model: ServingModel) -> None:
    for identities in (frozenset[int](), frozenset({item_hash("7")})):
        assert excluding(model.index_without(identities))


def test_what_is_withheld_follows_the_set_it_is_given(model: ServingModel) -> None:
    for identities, n in ((frozenset[int](), 40), (frozenset({item_hash("7")}), 39), (frozenset[int](), 40)):
        assert len(found(model.index_without(identities))) == n


def test_the_same_set_is_not_worked_out_again(model: ServingModel) -> None:
    withheld = frozenset({item_hash("7")})
    assert model.index_without(withheld) is model.index_without(withheld)


def test_a_replaced_model_is_freed_without_the_garbage_collector(tmp_path: Path) -> None:
    slot = ModelSlot()
    slot.swap(ServingModel.load(write_model(tmp_path, seed=1), RULE))
    assert slot.current is not None
    replaced = weakref.ref(slot.current)
    weights = weakref.ref(slot.current.bundle.encoder)
    gc.disable()
    try:
        slot.swap(ServingModel.load(write_model(tmp_path, seed=2), RULE))
        assert replaced() is None
        assert weights() is None
    finally:
        gc.enable()
