"""Bundles of retrievers: what was learned, written and read back, or refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import (
    RETRIEVERS,
    EncoderBundle,
    RetrieverBundle,
    RetrieverDraft,
    read_bundle,
    read_encoder_bundle,
    write_bundle,
)
from encoders.errors import BundleError
from encoders.records import BundleReference
from encoders.vocabulary import Vocabulary, item_hash
from encoders.window import WindowRule
from streams.serving import RetrieverModel, ServingModel
from tests.bundles import RULE, change_tensor, sealed, write_model
from tests.contracts.retriever_contract import N_ITEMS, random_events

LEARNED = "learned.safetensors"
WINDOWS = np.array([[0, 1, 2], [3, 4, 5], [0, 0, 29]])
Change = Callable[[np.ndarray], np.ndarray]


def write(directory: Path, kind: str) -> BundleReference:
    """A retriever that has learned some events."""
    retriever = RETRIEVERS[kind]()
    retriever.learn(*random_events())
    draft = RetrieverDraft(
        model="films",
        retriever=retriever,
        vocabulary=Vocabulary.from_ids([f"film-{n}" for n in range(N_ITEMS)]),
        popularity=np.zeros(N_ITEMS + 1, dtype=np.float32),
        window_rule=RULE,
        metrics={"recall@10": 0.25},
        trained_through={"interactions": {0: 400}},
    )
    return write_bundle(directory, draft, 1_795_342_500_000)


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_what_was_learned_is_read_back_and_learned_on(tmp_path: Path, kind: str) -> None:
    bundle = read_bundle(write(tmp_path, kind).uri)
    assert isinstance(bundle, RetrieverBundle)
    assert (bundle.manifest.kind, bundle.manifest.metrics) == (kind, {"recall@10": 0.25})
    expected = RETRIEVERS[kind]()
    expected.learn(*random_events())
    for _ in range(2):
        for found, wanted in zip(bundle.retriever.retrieve(WINDOWS, 9), expected.retrieve(WINDOWS, 9), strict=True):
            np.testing.assert_array_equal(found, wanted)
        for each in (bundle.retriever, expected):
            each.learn(*random_events(seed=9))


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_a_bundle_of_a_retriever_has_neither_item_vectors_nor_an_index(tmp_path: Path, kind: str) -> None:
    folder = Path(write(tmp_path, kind).uri)
    files = {"manifest.json", LEARNED, "vocabulary.safetensors", "popularity.safetensors"}
    assert {path.name for path in folder.iterdir()} == files
    assert {"index", "embedding_dim"}.isdisjoint(json.loads((folder / "manifest.json").read_text()))


def test_workers_that_know_no_retrievers_refuse_one_by_its_format_and_go_on_reading_encoders(tmp_path: Path) -> None:
    formats = [
        json.loads((Path(reference.uri) / "manifest.json").read_text())["format_version"]
        for reference in (write_model(tmp_path), write(tmp_path, "markov"))
    ]
    assert formats == [1, 2]


def test_two_readings_share_nothing(tmp_path: Path) -> None:
    uri = write(tmp_path, "markov").uri
    first, second, untouched = (read_bundle(uri).retriever for _ in range(3))
    first.learn(*random_events(seed=3))
    for found, wanted in zip(second.retrieve(WINDOWS, 9), untouched.retrieve(WINDOWS, 9), strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_who_needs_item_vectors_is_told_that_there_are_none(tmp_path: Path) -> None:
    assert isinstance(read_encoder_bundle(write_model(tmp_path).uri), EncoderBundle)
    with pytest.raises(BundleError, match="session-knn, which has no item vectors"):
        read_encoder_bundle(write(tmp_path, "session-knn").uri)


@pytest.mark.parametrize("name", ["manifest.json", LEARNED, "vocabulary.safetensors", "popularity.safetensors"])
class TestEveryFile:
    def test_missing_is_refused(self, tmp_path: Path, name: str) -> None:
        reference = write(tmp_path, "markov")
        (Path(reference.uri) / name).unlink()
        with pytest.raises(BundleError, match=f"{name} cannot be read: No such file"):
            read_bundle(reference.uri, reference.manifest_sha256)

    def test_one_flipped_bit_is_refused(self, tmp_path: Path, name: str) -> None:
        reference = write(tmp_path, "markov")
        path = Path(reference.uri) / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=f"{name} has another SHA-256"):
            read_bundle(reference.uri, reference.manifest_sha256)


def first_is(value: float) -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        array[0] = value
        return array

    return change


def last_is(value: float) -> Change:
    def change(array: np.ndarray) -> np.ndarray:
        array[-1] = value
        return array

    return change


def second_is_the_first(array: np.ndarray) -> np.ndarray:
    array[1] = array[0]
    return array


def shifted(array: np.ndarray) -> np.ndarray:
    """The same sum, and rules of an item that there is not."""
    return np.append(np.zeros(1, array.dtype), array)


HOSTILE: list[tuple[str, str, Change, str]] = [
    ("session-knn", "click_items", last_is(N_ITEMS + 1), "'click_items' holds items that are not in 1 … 30"),
    ("session-knn", "click_items", first_is(0), "'click_items' holds items"),
    ("session-knn", "click_items", first_is(-(2**31)), "'click_items' holds items"),
    ("session-knn", "click_items", lambda a: a[:-1], "399 'click_items', but 400 'click_sessions'|'click_items'"),
    ("session-knn", "click_items", lambda a: a.astype(np.int64), "'click_items' is int64"),
    ("session-knn", "click_sessions", lambda a: a[:, None], "'click_sessions' is int64"),
    ("markov", "click_items", last_is(N_ITEMS + 1), "'click_items' holds items"),
    ("markov", "rule_items", first_is(N_ITEMS + 1), "'rule_items' holds items"),
    ("markov", "rule_items", first_is(-1), "'rule_items' holds items"),
    ("markov", "rule_items", second_is_the_first, "'rule_items' has a rule twice"),
    ("markov", "rule_counts", first_is(-1), "'rule_counts' holds what is no count"),
    ("markov", "rule_counts", first_is(np.inf), "tensor 'rule_counts' holds NaN or infinity"),
    ("markov", "rule_counts", lambda a: a[1:], "'n_rules' says"),
    ("markov", "n_rules", first_is(1), "'n_rules' is not of 30 items"),
    ("markov", "n_rules", last_is(-1), "'n_rules' is not of 30 items"),
    ("markov", "n_rules", last_is(129), "with 0 to 128 rules each"),
    ("markov", "n_rules", shifted, "'n_rules' is not of 30 items"),
    ("markov", "clock", lambda a: a[::-1] - [0, 1], "'clock' is"),
    ("markov", "clock", lambda a: a[:1], "'clock' is"),
    ("popularity", "counts", first_is(1), "'counts' has 31 rows, the first for padding"),
    ("popularity", "counts", last_is(-1), "'counts' holds what is no count"),
    ("popularity", "counts", last_is(np.nan), "tensor 'counts' holds NaN"),
    ("popularity", "counts", lambda a: np.append(a, 1.0), "'counts' has 32 rows"),
    ("popularity", "clock", lambda a: a.astype(np.float32), "'clock' is float32"),
]


@pytest.mark.parametrize(("kind", "name", "change", "message"), HOSTILE)
def test_what_cannot_have_been_learned_is_refused_though_every_hash_fits(
    tmp_path: Path, kind: str, name: str, change: Change, message: str
) -> None:
    reference = change_tensor(LEARNED, name, change)(write(tmp_path, kind))
    with pytest.raises(BundleError, match=rf"{LEARNED}.*({message})"):
        read_bundle(reference.uri, reference.manifest_sha256)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"kind": "oracle"},
            "kind 'oracle' is unknown, of bundles of format 2 this version has popularity, markov, ses",
        ),
        ({"kind": "gru"}, "kind 'gru' is unknown, of bundles of format 2"),
        ({"kind": "popularity"}, "does not fit the manifest"),
        ({"config": {"max_rules": 2}}, "with 0 to 2 rules each"),
        ({"config": {"max_clicks": 8}}, "more than max_clicks, 8, allows for"),
        ({"config": {"max_distance": 10**9}}, "max_distance"),
        ({"config": {"layers": 2}}, "layers"),
        ({"n_items": 10**12}, r"popularity\.safetensors.*the manifest says"),
        ({"n_items": N_ITEMS - 1}, r"popularity\.safetensors.*the manifest says"),
        ({"format_version": 1}, "index: Field required"),
        ({"format_version": [2]}, r"format_version \[2\]"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    reference = sealed(write(tmp_path, "markov"), **changes)
    with pytest.raises(BundleError, match=message):
        read_bundle(reference.uri, reference.manifest_sha256)


# --- served


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_a_worker_loads_it_and_warming_up_teaches_it_nothing(tmp_path: Path, kind: str) -> None:
    reference = write(tmp_path, kind)
    served, bundle = ServingModel.load(reference, RULE), read_bundle(reference.uri)
    assert isinstance(served, RetrieverModel)
    for name, array in bundle.retriever.arrays().items():
        np.testing.assert_array_equal(served.bundle.retriever.arrays()[name], array)


def test_a_worker_refuses_one_that_was_trained_under_another_window_rule(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"another window rule.*max_len 10 \(worker: 20\)"):
        ServingModel.load(write(tmp_path, "markov"), WindowRule(max_len=20))


def test_a_worker_refuses_one_of_another_version_than_was_announced(tmp_path: Path) -> None:
    reference = write(tmp_path, "markov").model_copy(update={"version": "other"})
    with pytest.raises(BundleError, match="the update announced other"):
        ServingModel.load(reference, RULE)


def test_what_is_withheld_is_known_by_its_place_and_the_rest_follows(tmp_path: Path) -> None:
    served = ServingModel.load(write(tmp_path, "popularity"), RULE)
    assert isinstance(served, RetrieverModel)
    everything, _ = served.search_without(frozenset(), WINDOWS, 5)
    best = served.bundle.vocabulary.item_id(everything[0, 0])
    rest, _ = served.search_without(frozenset({item_hash(best)}), WINDOWS, 5)
    assert rest[:, 0].tolist() == [-1] * len(WINDOWS)
    np.testing.assert_array_equal(rest[:, 1:], everything[:, 1:])
