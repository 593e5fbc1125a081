"""Fits that are kept: none is done twice, and one that was killed goes on."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.window import WindowRule
from tests.logs import make_log
from tests.rankers import Silent, Telling
from trainer.errors import NothingToTrainError, TrainingError
from trainer.evaluation.protocols import Exam, leave_one_out
from trainer.evaluation.queries import Crop, Excluded
from trainer.quality import fits
from trainer.quality.fits import fit_encoder, identity, rows_of, settled
from trainer.settings import TrainerSettings

SETTINGS = TrainerSettings(embedding_dim=4, hidden_dim=4, max_epochs=3, batch_size=4)
LOG = make_log([(u, (u + i) % 7, i) for i in range(8) for u in range(12)])
EXAM = leave_one_out(LOG, Crop(4))


class Dying(Telling):
    """A report that dies at a step."""

    def __init__(self, dies_at: int) -> None:
        super().__init__()
        self._dies_at = dies_at

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        super().progress(label, done, total, note)
        if done == self._dies_at:
            raise KeyboardInterrupt


def vectors(exam: Exam, folder: Path | None, settings: TrainerSettings = SETTINGS) -> np.ndarray:
    return fit_encoder(exam, settings, folder, Telling(), "fit").encoder.item_vectors


def test_a_fit_that_was_kept_is_read_with_its_cost(tmp_path: Path) -> None:
    first, again = fit_encoder(EXAM, SETTINGS, tmp_path, Silent(), "fit"), Silent()
    second = fit_encoder(EXAM, SETTINGS, tmp_path, again, "fit")
    assert np.array_equal(first.encoder.item_vectors, second.encoder.item_vectors)
    assert first.cost.earlier_s == 0 < first.cost.wall_s
    assert second.cost == first.cost.of_earlier
    assert second.cost.earlier_s == first.cost.wall_s
    assert first.cost.n_targets == 3 * 12 * 5  # six events train, the first of which is no target
    assert again.told == []


def test_a_fit_of_another_seed_is_another(tmp_path: Path) -> None:
    other = SETTINGS.model_copy(update={"seed": 1})
    assert not np.array_equal(vectors(EXAM, tmp_path), vectors(EXAM, tmp_path, other))


@pytest.mark.parametrize(
    ("excluded", "are_negatives"), [("none", True), ("last", True), ("fed", False), ("seen", False)]
)
def test_what_was_seen_is_a_negative_where_lists_may_hold_it(excluded: Excluded, are_negatives: bool) -> None:
    exam = replace(EXAM, excluded=excluded)
    assert settled(SETTINGS, exam).seen_negatives is are_negatives
    for said in (True, False):
        given = SETTINGS.model_copy(update={"seen_negatives": said})
        assert settled(given, exam) == given


def test_a_fit_to_other_negatives_is_another(tmp_path: Path) -> None:
    all_of_them = SETTINGS.model_copy(update={"seen_negatives": True})
    assert identity(EXAM, settled(SETTINGS, EXAM)) != identity(EXAM, settled(all_of_them, EXAM))
    assert not np.array_equal(vectors(EXAM, tmp_path), vectors(EXAM, tmp_path, all_of_them))
    assert np.array_equal(vectors(replace(EXAM, excluded="none"), tmp_path), vectors(EXAM, tmp_path, all_of_them))


def test_a_fit_that_was_killed_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fits, "CHECKPOINT_EVERY_S", 0.0)
    with pytest.raises(KeyboardInterrupt):
        fit_encoder(EXAM, SETTINGS, tmp_path, Dying(dies_at=5), "fit")
    report = Telling()
    taken_up = fit_encoder(EXAM, SETTINGS, tmp_path, report, "fit")
    assert [done for _, done, _ in report.told] == list(range(6, 19))
    assert "Taking up the run that was interrupted" in report.said[0]
    assert np.array_equal(taken_up.encoder.item_vectors, vectors(EXAM, None))
    assert not list(tmp_path.glob("*.partial"))


def test_a_fit_that_is_damaged_is_said_and_done_again(tmp_path: Path) -> None:
    whole = vectors(EXAM, tmp_path)
    (path,) = tmp_path.glob("*.safetensors")
    path.write_bytes(path.read_bytes()[:-1] + b"!")
    report = Telling()
    assert np.array_equal(fit_encoder(EXAM, SETTINGS, tmp_path, report, "fit").encoder.item_vectors, whole)
    assert "is damaged, so it is fitted again" in report.said[0]


@pytest.mark.parametrize(
    "other",
    [
        replace(EXAM, windows=Crop(5)),
        replace(EXAM, windows=WindowRule(max_len=4)),
        replace(EXAM, events=replace(LOG, item_codes=LOG.item_codes[::-1].copy())),
    ],
    ids=["length", "rule", "events"],
)
def test_what_decides_weights_is_in_the_identity(other: Exam) -> None:
    assert identity(other, SETTINGS) != identity(EXAM, SETTINGS)


def test_what_is_only_asked_is_not_in_the_identity() -> None:
    assert identity(replace(EXAM, excluded="none"), SETTINGS) == identity(EXAM, SETTINGS)


def test_rows_are_pieces_of_the_crops_length_or_windows_as_they_are_served() -> None:
    """Six events of each user train: five pairs, in pieces of four and one, or in windows that begin at half again."""
    assert rows_of(EXAM).inputs[:2].tolist() == [[1, 0, 0, 0], [2, 3, 4, 5]]
    served = rows_of(replace(EXAM, windows=WindowRule(max_len=4)))
    assert served.inputs[:2].tolist() == [[1, 2, 3, 4], [3, 4, 5, 6]]


def test_nobody_with_two_events_is_said() -> None:
    exam = leave_one_out(make_log([(u, i, i) for u in (0, 1) for i in range(3)]), Crop(4))
    with pytest.raises(NothingToTrainError, match="leave-one-out: no user has two events"):
        fit_encoder(exam, SETTINGS, None, Silent(), "fit")


def test_a_rate_that_makes_weights_infinite_is_said_and_nothing_is_kept(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="lower"):
        fit_encoder(EXAM, SETTINGS.model_copy(update={"learning_rate": 1e38}), tmp_path, Silent(), "fit")
    assert not list(tmp_path.glob("*.safetensors"))
