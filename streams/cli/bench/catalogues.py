"""The catalogues of the benchmark, the clicks that load them, and a real model for each.

A model is a GRU of 64 dimensions, fitted for seconds with the trainer's own loop and loss to clicks that the
load does not hold, so that query vectors point where a trained model's do: at what follows a history. Item
vectors are learned where the catalogue is small enough for that, and else given, in clusters and of lognormal
lengths, and only the GRU and its projection learn to point at them. Nothing here says how good a model is.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from encoders.bundle import NETWORKS, EncoderDraft, IndexRecord, read_encoder_bundle, write_bundle
from encoders.events import EVENT_TRAITS, EventType
from encoders.gru import GRUEncoder
from encoders.protocols import FloatArray, IntArray, SequenceEncoder
from encoders.records import ModelUpdate
from encoders.vocabulary import PADDING_ITEM, Vocabulary
from encoders.window import WindowRule
from index.build import build_index, load_index
from streams.cli.bench.benchmark import MADE_UP
from streams.cli.bench.synthetic import Columns, World, live_clicks, visits
from trainer.dataset import cut_windows, training_rows
from trainer.datasets import read_dataset
from trainer.fit import build_model, fit
from trainer.interactions import Interactions
from trainer.settings import TrainerSettings

DATA_VARIABLE, DEFAULT_DATA = "STREAMREC_DATA", "../shared/data"
"""Where data sets lie: the environment's name for the folder, and the folder without it."""
WINDOW_RULE = WindowRule(max_len=50)
EMBEDDING_DIM = 64
HIDDEN_DIM = 64
MODEL = "gru"
TARGET_RECALL = 0.955
"""A little above the 0.95 that is asked for, since recall is measured with other queries than it is tuned with."""
N_QUERIES = 2_000
"""Held-out query vectors that an index is tuned with."""
HELD_OUT = 10
"""One in so many of a data set's clicks, the newest, is not fitted."""
_FIT, _HELD_OUT = 1_000_001, 2_000_000
"""Seeds of synthetic clicks that are no load."""
_CREATED_MS = 1_767_225_600_000
_EVENT_GAP_MS = 100
"""Event time between two clicks of a load."""


class Click(NamedTuple):
    """One click of a load; the fields that an interaction needs."""

    event_id: str
    user_id: str
    item_id: str
    timestamp_ms: int


@dataclass(frozen=True)
class Catalogue:
    """A catalogue of items ``"1"`` to ``str(n_items)``, how it is clicked, and how its model is fitted."""

    name: str
    n_items: int
    top_n: int
    n_users: int
    """Users who click at the same time; 0 stands for visitors who come once."""
    stay: float
    """Clicks in a cluster before a user turns to another; of visitors, the clicks of a visit."""
    fit: TrainerSettings
    fit_events: int
    learns_items: bool = True
    """Whether item vectors are learned; if not, they are `World.vectors`."""
    dataset: str | None = None
    """Folder of the data set whose clicks are the load where it is present."""

    @property
    def load(self) -> str:
        """Where the clicks come from: the data set's name, or `MADE_UP`."""
        return self.dataset if self.dataset and dataset_folder(self.dataset) else MADE_UP


def _settings(**changes: float) -> TrainerSettings:
    """One pass over the clicks, in large steps."""
    fixed = {
        "embedding_dim": EMBEDDING_DIM,
        "hidden_dim": HIDDEN_DIM,
        "max_epochs": 1,
        "dropout": 0.1,
        "learning_rate": 0.02,
    }
    return TrainerSettings.model_validate(fixed | {"batch_size": 256, "n_negatives": 1024} | changes)


GIVEN_ITEMS = _settings(max_epochs=4, dropout=0.0, learning_rate=0.04, n_negatives=512)

CATALOGUES = {
    catalogue.name: catalogue
    for catalogue in (
        Catalogue("ml1m", 3_416, 10, 6_040, 8, _settings(batch_size=64), 100_000),
        Catalogue("diginetica", 43_136, 20, 0, 4.85, _settings(n_negatives=512), 1_000_000, dataset="diginetica-ader"),
        Catalogue("100k", 100_000, 10, 20_000, 8, GIVEN_ITEMS, 500_000, learns_items=False),
        Catalogue("1m", 1_000_000, 10, 20_000, 8, GIVEN_ITEMS, 500_000, learns_items=False),
    )
}
"""By name. `ml1m` has the size of the MovieLens-1M catalogue, not its clicks."""


def clicks(catalogue: Catalogue, n_events: int, seed: int = 0) -> Iterator[Click]:
    """The load: clicks in the order in which they happen, the same for the same arguments.

    A data set gives its newest ``n_events`` clicks in their true order, and is gone through again, with new
    users, where it has fewer. Loads of different seeds share no `event_id`.
    """
    columns = load_columns(catalogue, n_events, seed)
    name = f"{catalogue.name}-{seed}"
    for row, (user, item) in enumerate(zip(columns.users.tolist(), columns.items.tolist(), strict=True)):
        yield Click(f"{name}-{row}", f"u{user}", str(item), _CREATED_MS + _EVENT_GAP_MS * row)


def load_columns(catalogue: Catalogue, n_events: int, seed: int = 0) -> Columns:
    """The same as columns."""
    if catalogue.load == MADE_UP:
        return _synthetic(catalogue, n_events, seed)
    log = _dataset(catalogue)
    n_users = int(log.users.max()) + 1
    rounds = -(-n_events // len(log.users))
    users = np.concatenate([log.users + n * n_users for n in range(rounds)])
    return Columns(users[-n_events:], np.tile(log.items, rounds)[-n_events:])


def make_bundle(folder: Path, catalogue: Catalogue, kind: str = "auto", generation: int = 0) -> ModelUpdate:
    """A bundle of the catalogue's model and an index over it, made once for each folder.

    Args:
        folder: Where the bundles of one run lie.
        catalogue: What the model knows.
        kind: Of the index, one of `index.build.KINDS` or `auto`.
        generation: Another one is another version of the same content, for a reload.

    Returns:
        What announces it; nothing has been announced. Its metrics hold the index's measured recall as
        `recall@<top_n>` and the seconds that it took to build as `build_s`.

    Raises:
        BundleError: If the bundle cannot be written.
    """
    place = folder / f"{catalogue.name}-{kind}-{generation}"
    announced = place / "update.json"
    if announced.is_file():
        return ModelUpdate.model_validate_json(announced.read_bytes())
    if generation:
        first = make_bundle(folder, catalogue, kind)
        bundle = read_encoder_bundle(first.uri)
        encoder, record, metrics = _as_gru(bundle.encoder), bundle.manifest.index, first.metrics
        index = load_index(bundle.index_path, record.kind)
    else:
        encoder = fitted_encoder(folder, catalogue)
        queries = held_out_queries(encoder, catalogue, N_QUERIES)
        built = build_index(encoder.item_vectors, queries, kind=kind, target_recall=TARGET_RECALL, k=catalogue.top_n)
        index, recall = built.index, {f"recall@{built.k}": built.recall}
        record = IndexRecord(kind=index.kind, params=index.params, recall=recall)
        metrics = recall | {"build_s": built.seconds}
    draft = EncoderDraft(
        model=MODEL,
        encoder=encoder,
        vocabulary=Vocabulary.from_ids([str(number) for number in range(1, catalogue.n_items + 1)]),
        popularity=np.zeros(catalogue.n_items + 1, dtype=np.float32),
        window_rule=WINDOW_RULE,
        index=record,
        save_index=index.save,
    )
    reference = write_bundle(place, draft, _CREATED_MS + 1000 * generation)
    update = ModelUpdate(model=MODEL, metrics=metrics, **reference.model_dump())
    announced.write_text(update.model_dump_json())
    return update


def fitted_encoder(folder: Path, catalogue: Catalogue) -> GRUEncoder:
    """The catalogue's model, from a bundle in the folder if there is one, else fitted now."""
    for announced in folder.glob(f"{catalogue.name}-*/update.json"):
        return _as_gru(read_encoder_bundle(ModelUpdate.model_validate_json(announced.read_bytes()).uri).encoder)
    return fit_encoder(catalogue)


def fit_encoder(catalogue: Catalogue) -> GRUEncoder:
    """Fit the catalogue's model; what a data set holds in its last tenth is left out, to ask the index with."""
    torch.set_num_threads(1)
    if catalogue.learns_items:
        module = build_model(catalogue.n_items, catalogue.fit)
    else:
        vectors = torch.from_numpy(_world(catalogue).vectors(catalogue.fit.embedding_dim))
        module = build_model(0, catalogue.fit)
        module.item_embeddings = nn.Embedding(len(vectors), vectors.shape[1], PADDING_ITEM, _weight=vectors)
        module.item_embeddings.weight.requires_grad_(False)
    events = _interactions(_not_held_out(catalogue, catalogue.fit_events))
    rows = training_rows(events, WINDOW_RULE, events.item_codes, np.ones(len(events), dtype=bool))
    fit(module, rows, None, catalogue.fit, report=lambda progress: None)
    return _as_gru(NETWORKS[catalogue.fit.model](module))


def held_out_queries(encoder: SequenceEncoder, catalogue: Catalogue, n: int, seed: int = 0) -> FloatArray:
    """Query vectors of windows that the fit has not seen; another seed gives others.

    Shape:
        - Output: ``(n, D)``
    """
    return encoder.encode(_held_out_windows(catalogue, n, seed))[1]


def dataset_folder(name: str) -> Path | None:
    """Where the data set lies, if it is there."""
    folder = Path(os.environ.get(DATA_VARIABLE) or DEFAULT_DATA) / name
    return folder if folder.is_dir() else None


def _held_out_windows(catalogue: Catalogue, n: int, seed: int) -> IntArray:
    if catalogue.load == MADE_UP:
        columns = _synthetic(catalogue, max(50 * n, 20 * catalogue.n_users), _HELD_OUT + seed)
        first = len(columns.users) // 2
    else:
        columns = _dataset(catalogue)
        first = len(columns.users) - len(columns.users) // HELD_OUT
    events = _interactions(columns)
    random = np.random.default_rng([seed, 3])
    some = np.sort(random.choice(np.arange(first, len(events)), n, replace=len(events) - first < n))
    return cut_windows(events, WINDOW_RULE).windows(some, events.item_codes, WINDOW_RULE.max_len)


def _not_held_out(catalogue: Catalogue, n_events: int) -> Columns:
    if catalogue.load == MADE_UP:
        return _synthetic(catalogue, n_events, _FIT)
    log = _dataset(catalogue)
    end = len(log.users) - len(log.users) // HELD_OUT
    return Columns(log.users[:end][-n_events:], log.items[:end][-n_events:])


def _interactions(columns: Columns) -> Interactions:
    """Clicks as the trainer reads them; item codes are item numbers."""
    n = len(columns.users)
    type_codes = np.full(n, EVENT_TRAITS[EventType.CLICK].code, dtype=np.int64)
    return Interactions(
        [], [], columns.users, columns.items, np.arange(n) * _EVENT_GAP_MS, type_codes, np.zeros_like(type_codes),
        np.arange(n),
    )  # fmt: skip


def _synthetic(catalogue: Catalogue, n_events: int, seed: int) -> Columns:
    world = _world(catalogue)
    if catalogue.n_users:
        return live_clicks(world, n_events, catalogue.n_users, catalogue.stay, seed)
    return visits(world, n_events, catalogue.stay, seed)


@lru_cache(maxsize=2)
def _world(catalogue: Catalogue) -> World:
    return World.of(catalogue.n_items)


@lru_cache(maxsize=1)
def _dataset(catalogue: Catalogue) -> Columns:
    """The whole data set, in the order of time; its item ids are item numbers.

    Raises:
        DatasetError: If it cannot be read.
        ValueError: If it holds other items than the catalogue.
    """
    folder = dataset_folder(catalogue.dataset or "")
    assert folder, "asked for only where it is present"
    events = read_dataset(folder).events
    numbers: dict[str, int] = {}
    users = np.fromiter((numbers.setdefault(user, len(numbers)) for user in events.user_ids), dtype=np.int64)
    items = np.fromiter(map(int, events.item_ids), dtype=np.int64)
    if items.min() < 1 or items.max() != catalogue.n_items:
        raise ValueError(f"{folder} holds items {items.min()} to {items.max()}, not 1 to {catalogue.n_items}")
    return Columns(users, items)


def _as_gru(encoder: SequenceEncoder) -> GRUEncoder:
    assert isinstance(encoder, GRUEncoder), "these bundles hold nothing else"
    return encoder
