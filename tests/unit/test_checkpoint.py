"""A run that was killed and is taken up ends with the weights of one that nobody disturbed, bit for bit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from encoders.bundle import NETWORKS
from encoders.window import WindowRule
from tests.archives import RecordLog, append, no_file_larger_than
from tests.logs import make_log
from trainer.checkpoint import TAKEN_UP_WITHIN_S, Checkpoint
from trainer.dataset import TrainingRows, training_rows
from trainer.fit import FitProgress, build_model, fit, refresh
from trainer.log import Snapshot
from trainer.pieces import pieces
from trainer.settings import TrainerSettings

N_ITEMS, N_STEPS_AN_EPOCH = 12, 10
RUN = {"settings": "these"}
EVERY_STEP, NEVER = 0.0, 1e9


class KilledError(Exception):
    pass


def settings_of(model: str) -> TrainerSettings:
    """With chance everywhere: dropout, and negatives that are drawn."""
    given = {
        "model": model,
        "embedding_dim": 8,
        "hidden_dim": 8,
        "dropout": 0.3,
        "item_dropout": 0.1,
        "batch_size": 8,
        "n_negatives": 5,
    }
    return TrainerSettings.model_validate({**given, "max_epochs": 3, "patience": 2, "refresh_epochs": 2})


@pytest.fixture(scope="module")
def rows() -> TrainingRows:
    rng = np.random.default_rng(0)
    starts = rng.integers(0, N_ITEMS, 8 * N_STEPS_AN_EPOCH)
    log = make_log([(u, (s + i) % N_ITEMS, i) for u, s in enumerate(starts) for i in range(6)])
    return training_rows(log, WindowRule(max_len=6), log.item_codes + 1, np.ones(len(log), dtype=bool))


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    log = RecordLog()
    return Snapshot(commit=append(tmp_path / "archive", [], log.ends), items_offsets={0: 0}, now_ms=1)


class Machine:
    """Where a run goes on until it is killed; its clock counts the steps."""

    def __init__(self, path: Path | None, snapshot: Snapshot, rows: TrainingRows, settings: TrainerSettings) -> None:
        self.path, self.snapshot, self.rows, self.settings = path, snapshot, rows, settings
        self.said: list[str] = []
        self.steps: list[tuple[int, int]] = []

    def run(self, every_s: float = EVERY_STEP, die: Callable[[int], bool] = lambda n: False) -> dict[str, Tensor]:
        """Fit and refresh as `trainer.job` does; dies after the n-th step where it is told to."""
        self.steps = []

        def report(at: FitProgress) -> None:
            self.steps.append((at.epoch, at.step))
            if die(len(self.steps)):
                raise KilledError

        def clock() -> float:
            return float(len(self.steps))

        with Checkpoint(self.path, RUN, self.snapshot, every_s, self.said.append, clock) as checkpoint:
            module = build_model(N_ITEMS, self.settings)
            if "best_epoch" not in checkpoint.results:
                state = checkpoint.part("fit")
                checkpoint.results["best_epoch"] = fit(module, self.rows, self.rows, self.settings, report, state)
                checkpoint.keep(state)
            refresh(module, self.rows, self.settings, report, checkpoint.part("refresh"))
            checkpoint.clear()
        weights = {name: value.clone() for name, value in module.state_dict().items()}
        return {**weights, "best_epoch": torch.tensor(checkpoint.results["best_epoch"])}


def same(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(value.equal(others[name]) for name, value in some.items())


@pytest.mark.parametrize("model", NETWORKS)
@pytest.mark.parametrize("every_s", [EVERY_STEP, 4.0])
def test_a_run_that_was_killed_ends_as_one_that_was_not(
    model: str, every_s: float, rows: TrainingRows, snapshot: Snapshot, tmp_path: Path
) -> None:
    """Within an epoch, at the end of one, in the refresh; and once more after it was taken up."""
    undisturbed = Machine(None, snapshot, rows, settings_of(model)).run()
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of(model))
    for n in (7, 10, 13, 9, 4, 3, 1):
        np.random.seed(n)
        torch.manual_seed(n)  # whatever a new process begins with
        with pytest.raises(KilledError):
            machine.run(every_s, die=lambda n_steps, n=n: n_steps == n)
    assert machine.path.exists()
    assert same(machine.run(every_s), undisturbed)
    assert not machine.path.exists()


def test_a_run_that_was_killed_goes_on_with_histories_cut_as_they_were(snapshot: Snapshot, tmp_path: Path) -> None:
    log = make_log([(u, (u + i) % N_ITEMS, i) for u in range(8 * N_STEPS_AN_EPOCH) for i in range(3 + u % 7)])
    rows = pieces(log, 4, log.item_codes + 1)
    undisturbed = Machine(None, snapshot, rows, settings_of("gru")).run()
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of("gru"))
    for n in (7, 13, 9):
        with pytest.raises(KilledError):
            machine.run(EVERY_STEP, die=lambda n_steps, n=n: n_steps == n)
    assert same(machine.run(EVERY_STEP), undisturbed)


def test_one_interval_is_lost_at_most(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of("gru"))
    with pytest.raises(KilledError):
        machine.run(every_s=4.0, die=lambda n: n == 15)
    machine.run(every_s=4.0)
    assert 15 - 4 <= machine.steps[0][1] - 1 <= 15
    assert machine.said == [
        f"Taking up the run that was interrupted, in its fit: epoch 2, step {machine.steps[0][1] - 1}"
    ]


def test_a_fit_that_is_over_is_not_fitted_again(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of("gru"))
    with pytest.raises(KilledError):
        machine.run(NEVER, die=lambda n: n == 3 * N_STEPS_AN_EPOCH + 2)  # the second of the refresh
    machine.run(NEVER)
    assert machine.steps[0] == (1, 2)
    assert len(machine.steps) == 2 * N_STEPS_AN_EPOCH - 1


def test_the_first_part_keeps_nothing_before_its_time(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of("gru"))
    with pytest.raises(KilledError):
        machine.run(every_s=30.0, die=lambda n: n == 20)
    assert not machine.path.exists()


def killed(path: Path, rows: TrainingRows, snapshot: Snapshot) -> None:
    with pytest.raises(KilledError):
        Machine(path, snapshot, rows, settings_of("gru")).run(die=lambda n: n == 5)
    assert path.exists()


def taken_up(path: Path, run: dict[str, Any], snapshot: Snapshot) -> bool:
    said: list[str] = []
    with Checkpoint(path, run, snapshot, 1.0, said.append):
        return bool(said)


def test_only_the_same_run_is_taken_up(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    path, log = tmp_path / "c.safetensors", RecordLog()
    killed(path, rows, snapshot)
    elsewhere = append(tmp_path / "other", [], log.ends)
    assert taken_up(path, RUN, snapshot)
    assert not taken_up(path, {"settings": "others"}, snapshot)
    assert not taken_up(path, RUN, snapshot.model_copy(update={"commit": elsewhere}))


def test_a_run_is_taken_up_for_a_day(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    path, end_ms = tmp_path / "c.safetensors", snapshot.now_ms + 1000 * TAKEN_UP_WITHIN_S
    killed(path, rows, snapshot)
    assert taken_up(path, RUN, snapshot.model_copy(update={"now_ms": end_ms}))
    assert not taken_up(path, RUN, snapshot.model_copy(update={"now_ms": end_ms + 1}))


def test_a_run_that_is_taken_up_trains_on_what_it_began_with(
    rows: TrainingRows, snapshot: Snapshot, tmp_path: Path
) -> None:
    path, log, said = tmp_path / "c.safetensors", RecordLog(), list[str]()
    killed(path, rows, snapshot)
    later = append(tmp_path / "archive", [log.record(b"{", 0)], log.ends)
    now = Snapshot(commit=later, items_offsets={0: 9}, now_ms=7)
    with Checkpoint(path, RUN, now, 1.0, said.append) as checkpoint:
        assert checkpoint.snapshot == snapshot
    assert said[0].endswith("the 1 records that came since are for the next run")


def test_a_run_that_still_goes_on_is_not_taken_up(rows: TrainingRows, snapshot: Snapshot, tmp_path: Path) -> None:
    path, said = tmp_path / "c.safetensors", list[str]()
    killed(path, rows, snapshot)
    with Checkpoint(path, RUN, snapshot, 1.0, lambda text: None):
        with Checkpoint(path, RUN, snapshot, 1.0, said.append) as second:
            assert not second.part("fit").saved
            second.clear()
        assert "cannot be taken up: process" in said[0]
    assert path.exists()


@pytest.mark.parametrize("damage", ["empty", "foreign", "short", "flipped"])
def test_a_damaged_checkpoint_is_told_and_the_run_begins_anew(
    rows: TrainingRows, snapshot: Snapshot, tmp_path: Path, damage: str
) -> None:
    path = tmp_path / "c.safetensors"
    killed(path, rows, snapshot)
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[len(whole) // 2] ^= 1
    path.write_bytes(
        {"empty": b"", "foreign": b"not safetensors", "short": whole[:-9], "flipped": bytes(flipped)}[damage]
    )
    told: list[str] = []
    with Checkpoint(path, RUN, snapshot, 0.0, told.append) as run:
        assert (run.part("fit").saved, run.results) == (None, {})
    assert "is damaged, so this run begins anew" in told[0]


def test_a_disk_that_takes_no_checkpoint_is_told_once_and_the_run_goes_on(
    rows: TrainingRows, snapshot: Snapshot, tmp_path: Path
) -> None:
    undisturbed = Machine(None, snapshot, rows, settings_of("gru")).run()
    machine = Machine(tmp_path / "c.safetensors", snapshot, rows, settings_of("gru"))
    with no_file_larger_than(4_096):
        assert same(machine.run(), undisturbed)
    assert len(machine.said) == 1
    assert "if this run is killed, it must begin anew" in machine.said[0]
    assert not list(tmp_path.glob("*.writing"))
