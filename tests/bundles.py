"""Small real bundles, and the ways in which one can be bad."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from random import Random

import numpy as np
import torch
from safetensors import numpy as safetensors_numpy

from encoders.bundle import EncoderDraft, IndexRecord, write_bundle
from encoders.gru import GRUConfig, GRUEncoder, GRUModule
from encoders.records import BundleReference, ModelUpdate
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule
from index.build import INDEXES
from index.flat import FlatIndex

RULE = WindowRule(max_len=10)
MANIFEST, WEIGHTS, VECTORS, INDEX = "manifest.json", "weights.safetensors", "item_vectors.safetensors", "index.faiss"


def write_model(
    directory: Path,
    seed: int = 0,
    n_items: int = 40,
    rule: WindowRule = RULE,
    permuted: bool = False,
    index_kind: str = "flat",
) -> BundleReference:
    """An untrained GRU over items "1" … as a whole bundle; another seed gives another version.

    Item "1" has number 1 and so on, unless the numbers are permuted, each seed in its own way.
    """
    item_ids = [str(number) for number in range(1, n_items + 1)]
    if permuted:
        Random(seed).shuffle(item_ids)
    torch.manual_seed(seed)
    encoder = GRUEncoder(GRUModule(n_items, GRUConfig(embedding_dim=8, hidden_dim=6)))
    draft = EncoderDraft(
        model="gru",
        encoder=encoder,
        vocabulary=Vocabulary.from_ids(item_ids),
        popularity=np.zeros(n_items + 1, dtype=np.float32),
        window_rule=rule,
        index=IndexRecord(kind=index_kind),
        save_index=INDEXES[index_kind].build(encoder.item_vectors).save,
    )
    return write_bundle(directory, draft, 1_795_342_500_000 + 1000 * seed)


def announced(reference: BundleReference, previous: BundleReference | None = None) -> ModelUpdate:
    """The update that announces a bundle."""
    return ModelUpdate(model="gru", previous=previous, **reference.model_dump())


def sealed(reference: BundleReference, **changes: object) -> BundleReference:
    """Make manifest and reference match the files as they are, as a trainer with a fault would have written them."""
    folder = Path(reference.uri)
    manifest = json.loads((folder / MANIFEST).read_text())
    for name in manifest["files"]:
        data = (folder / name).read_bytes()
        manifest["files"][name] = {"sha256": sha256(data).hexdigest(), "bytes": len(data)}
    raw = json.dumps({**manifest, **changes}).encode()
    (folder / MANIFEST).write_bytes(raw)
    return reference.model_copy(update={"manifest_sha256": sha256(raw).hexdigest()})


def _missing_file(reference: BundleReference) -> BundleReference:
    (Path(reference.uri) / VECTORS).unlink()
    return reference


def _missing_folder(reference: BundleReference) -> BundleReference:
    shutil.rmtree(reference.uri)
    return reference


def _flipped_bit(reference: BundleReference) -> BundleReference:
    path = Path(reference.uri) / WEIGHTS
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    return reference


def _other_manifest(reference: BundleReference) -> BundleReference:
    return reference.model_copy(update={"manifest_sha256": "0" * 64})


def change_tensor(
    file: str, name: str, change: Callable[[np.ndarray], np.ndarray]
) -> Callable[[BundleReference], BundleReference]:
    def damage(reference: BundleReference) -> BundleReference:
        path = Path(reference.uri) / file
        tensors = safetensors_numpy.load(path.read_bytes())
        tensors[name] = np.ascontiguousarray(change(tensors[name].copy()))
        path.write_bytes(safetensors_numpy.save(tensors))
        return sealed(reference)

    return damage


def _with_nan(array: np.ndarray) -> np.ndarray:
    array.flat[-1] = np.nan
    return array


def _overflowing(array: np.ndarray) -> np.ndarray:
    return np.where(array < 0, -3e38, 3e38).astype(np.float32)


def _shuffled(array: np.ndarray) -> np.ndarray:
    return np.concatenate([array[:1], array[:0:-1]])


def _index_of(n_items: int, dimensions: int) -> Callable[[BundleReference], BundleReference]:
    def damage(reference: BundleReference) -> BundleReference:
        vectors = np.ones((n_items + 1, dimensions), dtype=np.float32)
        FlatIndex.build(vectors).save(Path(reference.uri) / INDEX)
        return sealed(reference)

    return damage


def _index_of_noise(reference: BundleReference) -> BundleReference:
    (Path(reference.uri) / INDEX).write_bytes(b"this is no index")
    return sealed(reference)


def _no_bundle(reference: BundleReference) -> BundleReference:
    raw = b"\x89PNG\r\n"
    (Path(reference.uri) / MANIFEST).write_bytes(raw)
    return reference.model_copy(update={"manifest_sha256": sha256(raw).hexdigest()})


def _other_rule(reference: BundleReference) -> BundleReference:
    return sealed(reference, window_rule=WindowRule(max_len=20, session_gap_s=60).model_dump(mode="json"))


def _other_version(reference: BundleReference) -> BundleReference:
    return sealed(reference, version="another")


def _unknown_index(reference: BundleReference) -> BundleReference:
    return sealed(reference, index={"kind": "quantum"})


def with_long_version(reference: BundleReference) -> BundleReference:
    """A version that has as many letters as one may have, and twice as many bytes."""
    return sealed(reference, version="é" * 128).model_copy(update={"version": "é" * 128})


DAMAGES: dict[str, tuple[Callable[[BundleReference], BundleReference], str]] = {
    "missing file": (_missing_file, r"item_vectors\.safetensors.*No such file"),
    "missing folder": (_missing_folder, r"manifest\.json.*No such file"),
    "wrong hash of a file": (_flipped_bit, r"weights\.safetensors has another SHA-256"),
    "wrong hash of the manifest": (_other_manifest, r"manifest\.json has another SHA-256"),
    "wrong dimension of the vectors": (
        change_tensor(VECTORS, "item_vectors", lambda a: a[:, :-1]),
        r"item_vectors.*\(41, 7\).*\(41, 8\)",
    ),
    "wrong dimension of the weights": (
        change_tensor(WEIGHTS, "project.bias", lambda a: a[:-1]),
        r"weights\.safetensors does not fit",
    ),
    "wrong dimension of the index": (_index_of(40, 7), r"index\.faiss.*\(40, 7\).*\(40, 8\)"),
    "wrong size of the index": (_index_of(39, 8), r"index\.faiss.*\(39, 8\).*\(40, 8\)"),
    "NaN in the weights": (change_tensor(WEIGHTS, "project.bias", _with_nan), r"weights\.safetensors.*NaN"),
    "NaN in the item vectors": (change_tensor(VECTORS, "item_vectors", _with_nan), r"item_vectors\.safetensors.*NaN"),
    "answers that overflow": (change_tensor(WEIGHTS, "project.weight", _overflowing), r"not with finite numbers"),
    "an index of other vectors": (change_tensor(VECTORS, "item_vectors", _shuffled), r"index\.faiss.*item vectors"),
    "an index that is none": (_index_of_noise, r"index\.faiss cannot be read"),
    "an unknown index": (_unknown_index, r"kind 'quantum'.*flat"),
    "not a bundle at all": (_no_bundle, r"manifest\.json.*JSON"),
    "another window rule": (_other_rule, r"max_len 20 \(worker: 10\), session_gap_s 60 \(worker: None\)"),
    "another version": (_other_version, r"holds version another"),
}
"""What can be wrong with a bundle: how to make it so, and what the refusal must say."""
