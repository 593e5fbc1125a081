"""Fits of encoders to what an exam lets them learn, kept so that none is done twice.

In the working folder each fit has a file of weights, and while it goes on, a checkpoint. A fit is told from others by
what it learns from, its settings, torch, and the sources that decide its weights.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError

import encoders.neural
import trainer.dataset
import trainer.fit
import trainer.losses
import trainer.negatives
import trainer.pieces
from encoders.bundle import NETWORKS, BundledEncoder
from encoders.neural import SequenceModule
from trainer.checkpoint import Checkpoint, read_tensors, write_tensors
from trainer.dataset import TrainingRows, training_rows
from trainer.errors import NothingToTrainError, TrainingError
from trainer.evaluation.protocols import Exam
from trainer.evaluation.queries import Crop
from trainer.fit import FitProgress, build_model, fit
from trainer.pieces import pieces
from trainer.quality.contenders import FIT_KEYS
from trainer.quality.cost import Cost, Stopwatch
from trainer.report import Report
from trainer.settings import TrainerSettings

CHECKPOINT_EVERY_S = 60.0
"""What a fit that is killed loses at most."""
SOURCES = (encoders.neural, trainer.dataset, trainer.pieces, trainer.fit, trainer.losses, trainer.negatives)
"""Modules that decide the weights, beside that of the model itself."""
_AS_IMPORTED = {
    kind: tuple(Path(str(module.__file__)).read_bytes() for module in (*SOURCES, sys.modules[network.__module__]))
    for kind, network in NETWORKS.items()
}
"""Not as they are when a fit begins: somebody may edit them in a run of hours."""


@dataclass(frozen=True)
class Fit:
    """A fitted encoder."""

    encoder: BundledEncoder
    cost: Cost


def fit_encoder(exam: Exam, settings: TrainerSettings, folder: Path | None, report: Report, label: str) -> Fit:
    """Fit an encoder to the training part of an exam for `max_epochs`; one that was kept is read.

    Args:
        exam: What is learned; its windows say how long a row is.
        settings: How; patience and whatever else concerns no fit is not looked at.
        folder: Where fits are kept; without it, nothing is.
        report: Told how far it is.
        label: What the progress is called.

    Raises:
        NothingToTrainError: If nobody has two events one after the other.
        TrainingError: If the loss or a weight stops being a number.
    """
    torch.set_num_threads(settings.threads)
    settings = settled(settings, exam)
    module = build_model(len(exam.events.item_ids), settings, exam.windows.max_len)
    key = identity(exam, settings)
    path = folder / f"{settings.model}-{key[:16]}.safetensors" if folder else None
    if path and (cost := _read(path, key, module, report)):
        return Fit(NETWORKS[settings.model](module), cost)
    rows = rows_of(exam)
    if not len(rows):
        raise NothingToTrainError(f"{exam.name}: no user has two events to train on, one after the other")
    cost = _fit(module, rows, settings, path and path.with_suffix(".partial"), key, report, label)
    if not all(torch.isfinite(parameter).all() for parameter in module.parameters()):
        raise TrainingError(
            f"{label}: weights became NaN or infinite; lower learning_rate, now {settings.learning_rate}"
        )
    if path:
        _keep(path, key, module, cost, report)
    return Fit(NETWORKS[settings.model](module), cost)


def settled(settings: TrainerSettings, exam: Exam) -> TrainerSettings:
    """Settings that say whether seen items are negatives: if it is not said, as lists may hold them or not."""
    if settings.seen_negatives is not None:
        return settings
    return settings.model_copy(update={"seen_negatives": exam.excluded in ("none", "last")})


def rows_of(exam: Exam) -> TrainingRows:
    """What an encoder learns for an exam: pieces as long as the crop, or windows as they are served."""
    events, numbers, every = exam.training, exam.numbers[exam.split.train], exam.split.train[exam.split.train]
    if isinstance(exam.windows, Crop):
        return pieces(events, exam.windows.max_len, numbers)
    return training_rows(events, exam.windows, numbers, every)


def identity(exam: Exam, settings: TrainerSettings) -> str:
    """A hash of whatever decides the weights."""
    events, windows = exam.training, exam.windows
    how = asdict(windows) if isinstance(windows, Crop) else windows.model_dump(mode="json")
    given = settings.model_dump(mode="json", include={*FIT_KEYS, "model", "seed"})
    content = sha256(json.dumps([given, how, len(events.item_ids), torch.__version__], sort_keys=True).encode())
    for column in (events.user_codes, events.item_codes, events.times_ms, events.type_codes):
        content.update(column.tobytes())
    for source in _AS_IMPORTED[settings.model]:
        content.update(source)
    return content.hexdigest()


def _fit(
    module: SequenceModule,
    rows: TrainingRows,
    settings: TrainerSettings,
    path: Path | None,
    key: str,
    report: Report,
    label: str,
) -> Cost:
    """Fit, or go on where a fit was killed; returns what it cost in all."""
    with Checkpoint(path, {"fit": key}, None, CHECKPOINT_EVERY_S, report.say) as run:
        watch, n_targets = Stopwatch(Cost(**run.results.get("cost", {})).of_earlier), rows.n_targets

        def show(at: FitProgress) -> None:
            spent = watch.spent(round(settings.max_epochs * n_targets * at.step / at.n_steps))
            run.results["cost"] = asdict(replace(spent, n_targets=0))  # kept with the next step
            speed = spent.n_targets / spent.wall_s
            report.progress(label, at.step, at.n_steps, f"epoch {at.epoch}, loss {at.loss:.3f}, {speed:,.0f} targets/s")

        fit(module, rows, None, settings, show, run.part("fit"))
        run.clear()
    return watch.spent(settings.max_epochs * n_targets)


def _keep(path: Path, key: str, module: SequenceModule, cost: Cost, report: Report) -> None:
    """Write the weights. A disk that does not take them is told: the run goes on."""
    try:
        write_tensors(path, module.state_dict(), {"run": key, "cost": asdict(cost)})
    except (OSError, SafetensorError) as error:
        report.say(f"  cannot keep {path}: {error}; this fit will have to be done again")


def _read(path: Path, key: str, module: SequenceModule, report: Report) -> Cost | None:
    """Fill a module with the weights that were kept; None where there are none."""
    try:
        found = read_tensors(path, key)
    except (OSError, SafetensorError, ValueError, KeyError) as error:
        report.say(f"{path} is damaged, so it is fitted again: {error}")
        return None
    if found is None:
        return None
    header, tensors = found
    module.load_state_dict(tensors)
    return Cost(**header["cost"]).of_earlier
