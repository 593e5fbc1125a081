"""The clicks and models that load the benchmark."""

from __future__ import annotations

import gzip
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import read_bundle
from streams.cli.bench.catalogues import (
    CATALOGUES,
    DATA_VARIABLE,
    Catalogue,
    clicks,
    fitted_encoder,
    held_out_queries,
    load_columns,
    make_bundle,
)
from streams.cli.bench.synthetic import World, live_clicks, visits

SMALL = replace(CATALOGUES["ml1m"], name="small", n_items=400, n_users=60, fit_events=2_000)


@pytest.fixture
def no_data(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv(DATA_VARIABLE, str(tmp_path / "absent"))


def test_the_same_seed_gives_the_same_clicks() -> None:
    first, again, other = (list(clicks(SMALL, 500, seed)) for seed in (1, 1, 2))
    assert first == again
    assert not {click.event_id for click in first} & {click.event_id for click in other}


def test_every_click_is_of_an_item_of_the_catalogue() -> None:
    columns = load_columns(SMALL, 20_000)
    assert set(columns.items.tolist()) <= set(range(1, 401))
    assert len(np.unique(columns.items)) > 380


def test_neighbours_in_the_load_are_mostly_of_different_users() -> None:
    users = load_columns(CATALOGUES["ml1m"], 20_000).users
    assert (np.diff(users) == 0).mean() < 0.01
    assert len(np.unique(users)) > 4_000


def test_a_users_clicks_stay_in_a_cluster_for_a_while() -> None:
    world = World.of(5_000)
    cluster = np.zeros(5_001, dtype=int)
    cluster[world.members] = np.repeat(np.arange(world.n_clusters), np.diff(world.starts))
    columns = live_clicks(world, 20_000, n_users=100, stay=8, seed=0)
    order = np.argsort(columns.users, kind="stable")
    same_user = np.diff(columns.users[order]) == 0
    same_cluster = np.diff(cluster[columns.items[order]]) == 0
    assert same_cluster[same_user].mean() > 7 / 8


def test_visits_are_as_long_as_asked_and_overlap() -> None:
    users = visits(World.of(5_000), 50_000, mean_length=4.85, seed=0).users
    assert 4.3 < 50_000 / len(np.unique(users)) < 5.2
    assert (np.diff(users) == 0).mean() < 0.01


def test_item_vectors_have_lognormal_lengths_and_a_zero_row() -> None:
    world = World.of(20_000)
    vectors = world.vectors(16)
    logs = np.log(np.linalg.norm(vectors[1:], axis=1))
    assert vectors.shape == (20_001, 16)
    assert vectors.dtype == np.float32
    assert not vectors[0].any()
    assert abs(logs.mean()) < 0.01
    assert 0.24 < logs.std() < 0.26


def test_items_of_one_cluster_are_nearer_to_one_another() -> None:
    world = World.of(2_000)
    vectors = world.vectors(64)
    own = vectors[world.members[: world.starts[1]]]
    others = vectors[world.members[world.starts[1] :]]
    assert (own @ own.T).mean() > (own @ others.T).mean() + 0.1


@pytest.mark.parametrize("learns_items", [True, False])
def test_a_bundle_is_made_once_and_can_be_read(tmp_path: Path, learns_items: bool) -> None:
    catalogue = replace(SMALL, learns_items=learns_items)
    update = make_bundle(tmp_path, catalogue)
    bundle = read_bundle(update.uri, update.manifest_sha256)
    assert bundle.manifest.n_items == 400
    assert bundle.manifest.embedding_dim == 64
    assert bundle.vocabulary.item_id(400) == "400"
    assert update.metrics["recall@10"] >= 0.95
    assert make_bundle(tmp_path, catalogue) == update


def test_a_second_generation_is_another_version_with_the_same_vectors(tmp_path: Path) -> None:
    first, second = (read_bundle(make_bundle(tmp_path, SMALL, generation=n).uri) for n in (0, 1))
    assert first.manifest.version != second.manifest.version
    assert np.array_equal(first.item_vectors, second.item_vectors)


def test_queries_point_at_the_cluster_of_the_history(tmp_path: Path) -> None:
    """What tells a fitted model's queries from random ones, on which an index would be tuned wrongly."""
    catalogue = replace(SMALL, fit_events=20_000)
    make_bundle(tmp_path, catalogue)
    encoder = fitted_encoder(tmp_path, catalogue)
    scores = held_out_queries(encoder, catalogue, 200) @ encoder.item_vectors.T
    best = scores[:, 1:].max(axis=1)
    assert (best - scores[:, 1:].mean(axis=1)).mean() > 3 * scores[:, 1:].std(axis=1).mean() / 2


def test_without_its_data_set_the_load_is_synthetic(no_data: None) -> None:
    catalogue = CATALOGUES["diginetica"]
    assert catalogue.load == "synthetic"
    assert load_columns(catalogue, 10_000).items.max() <= 43_136


def with_data_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    (folder / "tiny").mkdir()
    rows = [f"{user},{item},{second},view,0" for second, (user, item) in enumerate(["a1", "b2", "a3", "b1", "c2"])]
    with gzip.open(folder / "tiny" / "events.csv.gz", "wt") as file:
        file.write("\n".join(["user_id,item_id,timestamp,event_type,value", *rows]))
    monkeypatch.setenv(DATA_VARIABLE, str(folder))
    return replace(CATALOGUES["diginetica"], name=folder.name, n_items=3, dataset="tiny")


def test_a_data_set_gives_its_newest_clicks_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = with_data_set(tmp_path, monkeypatch)
    assert catalogue.load == "tiny"
    assert [(click.user_id, click.item_id) for click in clicks(catalogue, 3)] == [("u0", "3"), ("u1", "1"), ("u2", "2")]


def test_a_data_set_that_is_too_short_goes_on_with_new_users(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    columns = load_columns(with_data_set(tmp_path, monkeypatch), 7)
    assert columns.users.tolist() == [1, 2, 3, 4, 3, 4, 5]
    assert columns.items.tolist() == [1, 2, 1, 2, 3, 1, 2]


def test_a_data_set_of_other_items_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = replace(with_data_set(tmp_path, monkeypatch), n_items=4)
    with pytest.raises(ValueError, match="holds items 1 to 3, not 1 to 4"):
        load_columns(catalogue, 3)
