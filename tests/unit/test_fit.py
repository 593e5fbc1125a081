"""The training loop, on a world whose rule is easy: item n is followed by item n + 1."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.bundle import NETWORKS
from encoders.gru import GRUEncoder
from encoders.neural import ModuleEncoder
from encoders.protocols import FloatArray
from encoders.window import WindowRule
from tests.logs import make_log
from trainer.dataset import TrainingRows, training_rows
from trainer.errors import TrainingError
from trainer.fit import FitProgress, batches, build_model, fit, mean_loss, refresh, without_some
from trainer.losses import Seen
from trainer.settings import TrainerSettings

N_ITEMS = 12
SETTINGS = TrainerSettings(
    embedding_dim=16, hidden_dim=16, max_epochs=12, batch_size=8, learning_rate=0.03, dropout=0.0
)


def quiet(progress: FitProgress) -> None:
    pass


@pytest.fixture(scope="module")
def rows() -> TrainingRows:
    rng = np.random.default_rng(0)
    log = make_log([(u, (s + i) % N_ITEMS, i) for u, s in enumerate(rng.integers(0, N_ITEMS, 80)) for i in range(6)])
    return training_rows(log, WindowRule(max_len=6), log.item_codes + 1, np.ones(len(log), dtype=bool))


def scores_after_each(encoder: ModuleEncoder[Any]) -> FloatArray:
    """Of all items, after each of them alone."""
    _, queries = encoder.encode(np.arange(1, N_ITEMS + 1)[:, None])
    scores: FloatArray = queries @ encoder.item_vectors[1:].T
    return scores


def best_after_each(encoder: ModuleEncoder[Any]) -> list[int]:
    """The item that a list begins with: any but the one that was seen."""
    scores = scores_after_each(encoder)
    np.fill_diagonal(scores, -np.inf)
    best: list[int] = (scores.argmax(axis=1) + 1).tolist()
    return best


@pytest.mark.parametrize("n_negatives", [4096, 6])
@pytest.mark.parametrize("model", NETWORKS)
def test_what_follows_what_is_learned(rows: TrainingRows, model: str, n_negatives: int) -> None:
    settings = SETTINGS.model_copy(update={"model": model, "n_negatives": n_negatives})
    module = build_model(N_ITEMS, settings)
    fit(module, rows, None, settings, quiet)
    assert best_after_each(NETWORKS[model](module)) == [*range(2, N_ITEMS + 1), 1]


@pytest.mark.parametrize("loss", ["bpr", "bce", "gbce"])
def test_every_loss_learns_what_follows_what(rows: TrainingRows, loss: str) -> None:
    settings = SETTINGS.model_copy(update={"loss": loss, "n_negatives": 6, "max_epochs": 40})
    module = build_model(N_ITEMS, settings)
    fit(module, rows, None, settings, quiet)
    assert best_after_each(GRUEncoder(module)) == [*range(2, N_ITEMS + 1), 1]


def test_blanked_out_items_are_targets_all_the_same_and_count_as_seen(
    rows: TrainingRows, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown, seen, losses = [], [], []
    settings = SETTINGS.model_copy(update={"item_dropout": 0.9, "max_epochs": 1, "seen_negatives": False})
    module = build_model(N_ITEMS, settings)
    forward, before = module.forward, Seen.before

    def forwarded(windows: Tensor) -> Tensor:
        shown.append(int((windows > 0).sum()))
        return forward(windows)

    def seen_before(windows: Tensor, place: Tensor) -> Seen:
        seen.append(int((windows > 0).sum()))
        losses.append(int(place.sum()))
        return before(windows, place)

    monkeypatch.setattr(module, "forward", forwarded)
    monkeypatch.setattr(Seen, "before", seen_before)
    fit(module, rows, None, settings, quiet)
    assert sum(losses) == rows.n_targets
    assert sum(seen) >= rows.n_targets
    assert 0 < sum(shown) < 0.2 * sum(seen)


def test_a_share_of_the_items_of_a_window_is_blanked_out_each_time_anew() -> None:
    windows = torch.arange(1, 40_001).reshape(200, 200)
    torch.manual_seed(0)
    some, others = without_some(windows, 0.2), without_some(windows, 0.2)
    assert torch.equal(some[some > 0], windows[some > 0])
    assert abs(float((some == 0).float().mean()) - 0.2) < 0.01
    assert not torch.equal(some, others)
    assert without_some(windows, 0.0) is windows


PAIRS = {"n_negatives": 6, "max_epochs": 40}


@pytest.mark.parametrize(
    "changes",
    [{}, {"n_negatives": 8}, {"loss": "bpr", **PAIRS}, {"loss": "bce", **PAIRS}, {"loss": "gbce", **PAIRS}],
)
def test_what_was_seen_is_learned_to_score_low_only_where_it_is_a_negative(
    rows: TrainingRows, changes: dict[str, Any]
) -> None:
    def rank_of_itself(seen_negatives: bool | None) -> float:
        settings = SETTINGS.model_copy(update={"seen_negatives": seen_negatives, **changes})
        module = build_model(N_ITEMS, settings)
        fit(module, rows, None, settings, quiet)
        scores = scores_after_each(GRUEncoder(module))
        return float((scores > np.diag(scores)[:, None]).sum(axis=1).mean())

    assert rank_of_itself(None) == rank_of_itself(False) < rank_of_itself(True) - 1


def test_validation_looks_away_from_what_was_seen_as_training_does(rows: TrainingRows) -> None:
    module = build_model(N_ITEMS, SETTINGS)
    among_all, among_unseen = mean_loss(module, rows, seen_negatives=True), mean_loss(module, rows)
    assert among_unseen < among_all
    said: list[float | None] = []
    for seen_negatives in (None, True):
        settings = SETTINGS.model_copy(
            update={"max_epochs": 2, "learning_rate": 1e-9, "seen_negatives": seen_negatives}
        )
        fit(build_model(N_ITEMS, settings), rows, rows, settings, lambda at: said.append(at.validation_loss))
    first, *_, last = [loss for loss in said if loss is not None]
    assert (first, last) == (pytest.approx(among_unseen, rel=1e-4), pytest.approx(among_all, rel=1e-4))


def test_batches_hold_every_row_once() -> None:
    lengths = torch.randint(1, 50, (1000,))
    found = batches(lengths, 7, torch.Generator().manual_seed(0))
    assert torch.cat(found).sort().values.equal(torch.arange(1000))
    assert {len(batch) for batch in found} == {7, 1000 % 7}


def test_rows_of_a_batch_are_about_as_long() -> None:
    lengths = torch.arange(1, 65).repeat(20)
    found = batches(lengths, 32, torch.Generator().manual_seed(0))
    n_places = sum(int(lengths[batch].max()) * len(batch) for batch in found)
    assert lengths.sum() <= n_places < 1.1 * lengths.sum()


def test_long_and_short_batches_come_by_turns_and_change_from_one_epoch_to_the_next() -> None:
    lengths, random = torch.arange(320), torch.Generator().manual_seed(0)
    first, second = batches(lengths, 20, random), batches(lengths, 20, random)
    means = [float(lengths[batch].float().mean()) for batch in first]
    assert means != sorted(means)
    assert not all(one.equal(other) for one, other in zip(first, second, strict=True))


def test_rows_are_cut_anew_for_each_pass_and_by_its_number_and_the_seed_alone(rows: TrainingRows) -> None:
    cuts: list[int] = []

    def targets_at(place: int) -> TrainingRows:
        return TrainingRows(rows.inputs, np.where(np.arange(6) == place, rows.targets, 0))

    class Cut(TrainingRows):
        def anew(self, random: np.random.Generator) -> TrainingRows:
            cuts.append(int(random.integers(1_000_000)))
            cut = targets_at(len(cuts) % 3)
            return Cut(cut.inputs, cut.targets)

    def losses(rows: TrainingRows, seed: int = 0) -> list[float]:
        settings = SETTINGS.model_copy(update={"max_epochs": 3, "seed": seed})
        said: list[FitProgress] = []
        fit(build_model(N_ITEMS, settings), rows, None, settings, said.append)
        return [each.loss for each in said]

    cut = Cut(rows.inputs, rows.targets)
    first = losses(cut)
    assert losses(cut) == first
    losses(cut, seed=1)
    assert cuts[:3] == cuts[3:6] != cuts[6:]
    assert len(set(cuts[:3])) == 3
    n_steps, as_in_the_first_pass = len(first) // 3, losses(targets_at(1))
    assert first[:n_steps] == as_in_the_first_pass[:n_steps]
    assert first[n_steps:] != as_in_the_first_pass[n_steps:]


def test_what_lies_behind_the_last_target_of_a_batch_is_not_worked_out(rows: TrainingRows) -> None:
    """Nor is it in validation."""
    short = TrainingRows(rows.inputs, np.where(np.arange(6) < 3, rows.targets, 0))
    module = build_model(N_ITEMS, SETTINGS)
    widths: set[int] = set()
    module.register_forward_hook(lambda _, given, __: widths.add(given[0].shape[1]))
    fit(module, short, short, SETTINGS.model_copy(update={"max_epochs": 1}), quiet)
    assert widths == {3}


def test_the_mean_loss_is_the_same_however_rows_are_padded(rows: TrainingRows) -> None:
    module = build_model(N_ITEMS, SETTINGS)
    wider = TrainingRows(*(np.pad(a, ((0, 0), (0, 4))) for a in (rows.inputs, rows.targets)))
    assert mean_loss(module, wider) == pytest.approx(mean_loss(module, rows))


def test_padding_keeps_the_zero_vector(rows: TrainingRows) -> None:
    module = build_model(N_ITEMS, SETTINGS)
    fit(module, rows, None, SETTINGS, quiet)
    assert not module.item_embeddings.weight[0].any()


@pytest.mark.parametrize("model", NETWORKS)
def test_the_same_seed_gives_the_same_weights_and_another_one_others(rows: TrainingRows, model: str) -> None:
    def weights(seed: int) -> torch.Tensor:
        settings = SETTINGS.model_copy(update={"model": model, "seed": seed, "max_epochs": 2, "dropout": 0.3})
        module = build_model(N_ITEMS, settings)
        fit(module, rows, None, settings, quiet)
        return module.item_embeddings.weight.detach().clone()

    assert weights(1).equal(weights(1))
    assert not weights(1).equal(weights(2))


def test_the_fit_stops_when_validation_gets_no_better_and_keeps_its_best_weights(rows: TrainingRows) -> None:
    backwards = TrainingRows(rows.inputs, np.where(rows.targets > 0, (rows.targets - 3) % N_ITEMS + 1, 0))
    module = build_model(N_ITEMS, SETTINGS)
    seen: list[FitProgress] = []
    best = fit(module, rows, backwards, SETTINGS, seen.append)
    assert seen[-1].epoch == best + SETTINGS.patience < SETTINGS.max_epochs
    loss_after_best = seen[-1].validation_loss  # reported during the epoch that came after it
    assert mean_loss(module, backwards) == pytest.approx(loss_after_best)


def test_progress_counts_every_step(rows: TrainingRows) -> None:
    seen: list[FitProgress] = []
    settings = SETTINGS.model_copy(update={"max_epochs": 2})
    fit(build_model(N_ITEMS, settings), rows, None, settings, seen.append)
    steps_an_epoch = -(-len(rows) // settings.batch_size)
    assert [p.step for p in seen] == list(range(1, 2 * steps_an_epoch + 1))
    assert {p.n_steps for p in seen} == {2 * steps_an_epoch}


def test_refresh_learns_from_where_the_fit_ended(rows: TrainingRows) -> None:
    module = build_model(N_ITEMS, SETTINGS)
    fit(module, rows, None, SETTINGS.model_copy(update={"max_epochs": 2}), quiet)
    before = mean_loss(module, rows)
    refresh(module, rows, SETTINGS, quiet)
    assert mean_loss(module, rows) < before


def test_a_model_that_must_know_the_longest_window_is_told() -> None:
    module = build_model(N_ITEMS, SETTINGS.model_copy(update={"model": "sasrec"}), max_len=7)
    assert module.config.model_dump()["max_len"] == 7


def test_a_loss_that_is_no_number_ends_the_fit(rows: TrainingRows) -> None:
    module = build_model(N_ITEMS, SETTINGS)
    with torch.no_grad():
        module.project.weight.fill_(torch.nan)
    with pytest.raises(TrainingError, match=r"lower trainer\.learning_rate"):
        fit(module, rows, None, SETTINGS, quiet)
