"""A bundle comes back as it was written, and every damage is refused with the file's name."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import numpy as safetensors_numpy

from encoders.bundle import ENCODERS, EncoderDraft, IndexRecord, read_bundle, write_bundle
from encoders.errors import BundleError
from encoders.gru import GRUConfig, GRUEncoder, GRUModule
from encoders.records import BundleReference
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule
from index.flat import FlatIndex
from tests.small_encoders import small_encoder

N_ITEMS = 6
CREATED_AT_MS = 1_795_342_500_123


def make_draft(seed: int = 0) -> EncoderDraft:
    torch.manual_seed(seed)
    encoder = GRUEncoder(GRUModule(N_ITEMS, GRUConfig(embedding_dim=4, hidden_dim=5)))
    return EncoderDraft(
        model="gru",
        encoder=encoder,
        vocabulary=Vocabulary.from_ids(["50", "é", "c/d", "x" * 200, "5", "0"], "films"),
        popularity=np.arange(N_ITEMS + 1, dtype=np.float32),
        window_rule=WindowRule(max_len=10),
        index=IndexRecord(kind="flat", recall={"recall@10": 1.0}),
        save_index=FlatIndex.build(encoder.item_vectors).save,
        metrics={"recall@10": 0.125},
        trained_through={"interactions": {0: 12, 1: 7}},
        items_offsets={0: 3},
    )


@pytest.fixture
def reference(tmp_path: Path) -> BundleReference:
    return write_bundle(tmp_path / "bundles", make_draft(), CREATED_AT_MS)


def seal(folder: Path, **changes: object) -> None:
    """Make the manifest match the files as they are, with some of its fields changed."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    (folder / "manifest.json").write_text(json.dumps({**manifest, **changes}))


def change_tensor(folder: Path, file: str, key: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    tensors = safetensors_numpy.load((folder / file).read_bytes())
    tensors[key] = np.ascontiguousarray(change(tensors[key].copy()))
    (folder / file).write_bytes(safetensors_numpy.save(tensors))
    seal(folder)


def with_nan(array: np.ndarray) -> np.ndarray:
    array.flat[-1] = np.nan
    return array


@pytest.mark.parametrize("kind", ENCODERS)
def test_every_kind_of_encoder_answers_as_it_did_before_it_was_written(tmp_path: Path, kind: str) -> None:
    encoder = small_encoder(kind, N_ITEMS, embedding_dim=4, hidden_dim=5)
    draft = replace(make_draft(), encoder=encoder, save_index=FlatIndex.build(encoder.item_vectors).save)
    bundle = read_bundle(write_bundle(tmp_path, draft, CREATED_AT_MS).uri)
    windows = np.array([[0, 1, 2, 6], [3, 4, 3, 5]])
    for after, before in zip(bundle.encoder.encode(windows), encoder.encode(windows), strict=True):
        np.testing.assert_array_equal(after, before)


def test_what_was_written_is_read_back(reference: BundleReference) -> None:
    draft, bundle = make_draft(), read_bundle(reference.uri, reference.manifest_sha256)
    assert bundle.manifest.version == reference.version
    assert bundle.manifest.trained_through == {"interactions": {0: 12, 1: 7}}
    assert bundle.manifest.items_offsets == {0: 3}
    assert bundle.manifest.metrics == {"recall@10": 0.125}
    assert bundle.manifest.window_rule == WindowRule(max_len=10)
    assert bundle.vocabulary.item_ids == draft.vocabulary.item_ids
    assert bundle.vocabulary.catalogue == "films"
    np.testing.assert_array_equal(bundle.item_vectors, draft.encoder.item_vectors)
    np.testing.assert_array_equal(bundle.popularity, draft.popularity)
    windows = np.array([[1, 2, 3]])
    np.testing.assert_array_equal(bundle.encoder.encode(windows)[1], draft.encoder.encode(windows)[1])
    assert FlatIndex.load(bundle.index_path).n_items == N_ITEMS


def test_version_begins_with_the_time_and_tells_two_models_of_one_second_apart(tmp_path: Path) -> None:
    first, second = (write_bundle(tmp_path, make_draft(seed), CREATED_AT_MS) for seed in (1, 2))
    assert first.version.startswith("20261122T101500Z-")
    assert first.version != second.version


def test_reference_holds_an_absolute_path_and_the_manifests_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    reference = write_bundle(Path("here"), make_draft(), CREATED_AT_MS)
    assert reference.uri == str(tmp_path / "here" / reference.version)
    assert reference.manifest_sha256 == sha256((Path(reference.uri) / "manifest.json").read_bytes()).hexdigest()


def test_file_uris_are_read(tmp_path: Path) -> None:
    reference = write_bundle(tmp_path / "with space", make_draft(), CREATED_AT_MS)
    assert read_bundle(Path(reference.uri).as_uri()).manifest.version == reference.version


@pytest.mark.parametrize("uri", ["s3://models/1", "file://elsewhere/models/1"])
def test_other_uris_are_refused(uri: str) -> None:
    with pytest.raises(BundleError, match="only paths and file:// URIs"):
        read_bundle(uri)


def test_a_write_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def full(path: Path) -> None:
        raise OSError(28, "No space left on device")

    draft = make_draft()
    with pytest.raises(BundleError, match="No space left"):
        write_bundle(tmp_path, EncoderDraft(**{**vars(draft), "save_index": full}), CREATED_AT_MS)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_a_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="file"):
        write_bundle(tmp_path / "file" / "bundles", make_draft(), CREATED_AT_MS)


@pytest.mark.parametrize(
    "name",
    [
        "manifest.json",
        "weights.safetensors",
        "item_vectors.safetensors",
        "vocabulary.safetensors",
        "popularity.safetensors",
        "index.faiss",
    ],
)
class TestEveryFile:
    def test_missing_is_refused(self, reference: BundleReference, name: str) -> None:
        (Path(reference.uri) / name).unlink()
        with pytest.raises(BundleError, match=f"{name} cannot be read: No such file"):
            read_bundle(reference.uri, reference.manifest_sha256)

    def test_one_flipped_bit_is_refused(self, reference: BundleReference, name: str) -> None:
        path = Path(reference.uri) / name
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        with pytest.raises(BundleError, match=f"{name} has another SHA-256"):
            read_bundle(reference.uri, reference.manifest_sha256)

    def test_cut_short_is_refused(self, reference: BundleReference, name: str) -> None:
        path = Path(reference.uri) / name
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(BundleError, match=name):
            read_bundle(reference.uri, reference.manifest_sha256)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("weights.safetensors", "project.weight"),
        ("item_vectors.safetensors", "item_vectors"),
        ("popularity.safetensors", "scores"),
    ],
)
def test_nan_is_refused_though_every_hash_fits(reference: BundleReference, file: str, key: str) -> None:
    change_tensor(Path(reference.uri), file, key, with_nan)
    with pytest.raises(BundleError, match=f"{file}: tensor '{key}' holds NaN"):
        read_bundle(reference.uri)


@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("weights.safetensors", "project.weight"),
        ("item_vectors.safetensors", "item_vectors"),
        ("popularity.safetensors", "scores"),
        ("vocabulary.safetensors", "numbers"),
    ],
)
def test_a_row_too_few_is_refused_though_every_hash_fits(reference: BundleReference, file: str, key: str) -> None:
    change_tensor(Path(reference.uri), file, key, lambda a: a[:-1])
    with pytest.raises(BundleError, match=file):
        read_bundle(reference.uri)


@pytest.mark.parametrize(
    ("file", "key"), [("item_vectors.safetensors", "item_vectors"), ("popularity.safetensors", "scores")]
)
def test_float64_is_refused(reference: BundleReference, file: str, key: str) -> None:
    change_tensor(Path(reference.uri), file, key, lambda a: a.astype(np.float64))
    with pytest.raises(BundleError, match="float64"):
        read_bundle(reference.uri)


def test_a_vector_for_padding_is_refused(reference: BundleReference) -> None:
    change_tensor(Path(reference.uri), "item_vectors.safetensors", "item_vectors", lambda a: a + 1)
    with pytest.raises(BundleError, match="row 0 is padding"):
        read_bundle(reference.uri)


def test_a_vocabulary_with_two_numbers_exchanged_is_refused(reference: BundleReference) -> None:
    change_tensor(Path(reference.uri), "vocabulary.safetensors", "numbers", lambda a: a[::-1])
    with pytest.raises(BundleError, match="another vocabulary"):
        read_bundle(reference.uri)


def test_a_tensor_that_is_missing_is_named(reference: BundleReference) -> None:
    folder = Path(reference.uri)
    (folder / "popularity.safetensors").write_bytes(safetensors_numpy.save({"other": np.zeros(1, np.float32)}))
    seal(folder)
    with pytest.raises(BundleError, match=r"popularity\.safetensors has no tensor 'scores'"):
        read_bundle(folder)


def test_a_file_that_is_no_safetensors_is_named(reference: BundleReference) -> None:
    (Path(reference.uri) / "weights.safetensors").write_bytes(b"\x80\x04pickle")
    seal(Path(reference.uri))
    with pytest.raises(BundleError, match=r"weights\.safetensors cannot be read as safetensors"):
        read_bundle(reference.uri)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 3}, "format_version 3, this version of streamrec reads 1 and 2"),
        ({"format_version": None}, "format_version None"),
        ({"kind": "transformer9"}, "kind 'transformer9' is unknown"),
        ({"embedding_dim": 5}, r"item_vectors.*the manifest says float32 \(7, 5\)"),
        ({"n_items": 5}, r"the manifest says float32 \(6, 4\)"),
        ({"config": {"embedding_dim": 4, "hidden_dim": 6}}, "does not fit the manifest"),
        ({"config": {"embedding_dim": 4, "hidden_dim": 5, "layers": 2}}, "layers"),
        ({"window_rule": {"max_len": 0}}, r"window_rule\.max_len"),
        ({"catalogue": "shoes"}, "another vocabulary"),
        ({"files": {}}, "does not list"),
        ({"trained_through": None}, "trained_through"),
    ],
)
def test_a_manifest_that_does_not_fit_is_refused(
    reference: BundleReference, changes: dict[str, object], message: str
) -> None:
    seal(Path(reference.uri), **changes)
    with pytest.raises(BundleError, match=message):
        read_bundle(reference.uri)


@pytest.mark.parametrize("content", ["", "[]", "{}", "\x00", "[" * 100_000])
def test_a_manifest_that_is_none_is_refused(reference: BundleReference, content: str) -> None:
    (Path(reference.uri) / "manifest.json").write_text(content)
    with pytest.raises(BundleError, match=r"manifest\.json"):
        read_bundle(reference.uri)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match=r"manifest\.json cannot be read"):
        read_bundle(tmp_path)


def test_a_manifest_of_another_bundle_is_refused(reference: BundleReference) -> None:
    with pytest.raises(BundleError, match="its model update says"):
        read_bundle(reference.uri, "0" * 64)
