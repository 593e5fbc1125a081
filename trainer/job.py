"""One training run, from the topic to the announcement."""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import quote

import torch

from encoders.bundle import IndexRecord, insist_on_writable, write_bundle
from encoders.records import BundleReference, ModelUpdate
from trainer.checkpoint import Checkpoint
from trainer.dataset import has_rows
from trainer.errors import NothingToTrainError
from trainer.fit import insist_on_device
from trainer.gate import Verdict, final
from trainer.log import Log, bring_up_to_date, log_as_of, read_log
from trainer.making import MAKERS, Clock, Material
from trainer.plan import TrainingPlan
from trainer.pruning import prune_after_training
from trainer.publish import announce, current_update
from trainer.registry import LogInNumbers, ModelReport
from trainer.report import Report
from trainer.split import split_by_time
from trainer.trial import prepare

CHECKPOINTS = "checkpoints"
"""Folder in the archive for the checkpoints of runs, one file for each model of each kind."""


@dataclass(frozen=True)
class TrainingResult:
    """A model that was made, and announced unless the gate rejected it."""

    model: str
    bundle: BundleReference
    update: ModelUpdate | None
    """What was announced; None if the gate rejected the model."""
    verdict: Verdict
    log: LogInNumbers
    """What it was trained on."""
    trained_through: dict[int, int]
    """By partition, the offset after the last interaction of these."""
    metrics: dict[str, float]
    """Of the model and, with `popularity_` before the name, of popularity; empty if nothing could be measured."""
    best_epoch: int
    """0 where nothing was fitted."""
    index: IndexRecord | None
    """None of a model that has no item vectors."""
    seconds: dict[str, float] = field(default_factory=dict)
    """How long each part of the run took."""

    def to_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {
            "model": self.model,
            **self.bundle.model_dump(mode="json"),
            "announced": self.update is not None,
            "previous": self.update.previous.model_dump() if self.update and self.update.previous else None,
            "gate": self.verdict.model_dump(mode="json"),
            "metrics": self.metrics,
            **self.log.model_dump(),
            "trained_through": self.trained_through,
            "best_epoch": self.best_epoch,
            "index": self.index.model_dump(mode="json", exclude={"file"}) if self.index else None,
            "seconds": self.seconds,
        }


def train(plan: TrainingPlan, report: Report) -> TrainingResult:
    """Read, clean, split, fit, measure, let the model see the rest, write the bundle; announce it if the gate says so.

    The figures are those of a model that has seen nothing of the test part and fitted nothing but its
    number of epochs to the validation part. The published model is the same one after `refresh_epochs`
    more over all events, so it knows the newest items and should be no worse; a second fit from scratch
    would double the time. A retriever learns each event once in place of all that. What a model is compared with the
    serving one on, it learns last. With an archive, a fit that was killed is taken up where its last checkpoint is.

    Raises:
        TrainerError: If there is nothing to train on, or a step fails; nothing is announced then.
        BundleError: If the bundle cannot be written.
    """
    torch.set_num_threads(plan.settings.threads)
    insist_on_writable(plan.bundles)  # before the work, not after it
    insist_on_device(plan.settings)
    clock = Clock()
    with _begin(plan, report) as run:
        result = make_bundle(plan, _read(plan, run, report), _serving(plan, run), run, clock, report)
        if result.verdict.outcome != "rejected":
            result = replace(result, update=announce(plan.source, plan.model, result.bundle, result.metrics))
        run.clear()
        clock.lap("publish")
    if plan.settings.keep_bundles != "all":
        prune_after_training(plan.source, plan.bundles, plan.settings.keep_bundles, report)
    return result


def make_bundle(
    plan: TrainingPlan, log: Log, serving: ModelUpdate | None, run: Checkpoint, clock: Clock, report: Report
) -> TrainingResult:
    """The part of `train` between the topics: split, fit, measure, judge, and write the bundle; nothing is announced.

    Args:
        plan: What to do.
        log: What to learn from.
        serving: What serves as the run begins.
        run: The run, which may be one that was interrupted.
        clock: Told what is over.
        report: Told how far it is.

    Raises:
        TrainerError: If there is nothing to train on, or a step fails.
        BundleError: If the bundle cannot be written.
    """
    _insist_on_enough(log, plan)
    split = split_by_time(log.events, plan.settings.validation_fraction, plan.settings.test_fraction)
    trial = prepare(serving, log.events, split, plan.source.interactions, plan.rules, plan.gate)
    clock.lap("replay")
    make = MAKERS[plan.settings.model]
    made = make(Material(plan, log, split, trial), run, clock, report)
    verdict = final(made.verdict, made.figures, serving.metrics if serving else {}, plan.gate, plan.force)
    numbers = LogInNumbers.of(log)
    told = ModelReport(
        verdict=verdict,
        metrics=made.figures,
        log=numbers,
        settings=plan.decisive(),
        best_epoch=made.best_epoch,
        seconds=clock.laps,
    )
    draft = replace(made.draft, report=told.model_dump_json(indent=2).encode())
    reference = write_bundle(plan.bundles, draft, created_at_ms=int(time.time() * 1000))
    return TrainingResult(
        plan.model,
        reference,
        None,
        verdict,
        numbers,
        log.read_through,
        made.figures,
        made.best_epoch,
        made.index,
        clock.laps,
    )


def _serving(plan: TrainingPlan, run: Checkpoint) -> ModelUpdate | None:
    """What serves as the run begins: where it was taken up, what served then, since that decides what is held back."""
    if "serving" not in run.results:
        current = current_update(plan.source, plan.model)
        run.results["serving"] = current.model_dump(mode="json") if current else None
    found = run.results["serving"]
    return ModelUpdate.model_validate(found) if found else None


def _begin(plan: TrainingPlan, report: Report) -> Checkpoint:
    """A run on what there is now; entered, it may be one that was interrupted."""
    every_s, archive = 60 * plan.settings.checkpoint_minutes, plan.archive
    if archive is None:
        return Checkpoint(None, {}, None, every_s, report.say)
    snapshot = bring_up_to_date(archive, plan.source, plan.rules, report)
    path = archive / CHECKPOINTS / f"{quote(plan.model, safe='')}-{plan.settings.model}.safetensors"
    return Checkpoint(path, plan.decisive(), snapshot, every_s, report.say)


def _read(plan: TrainingPlan, run: Checkpoint, report: Report) -> Log:
    """The interactions that a run trains on."""
    if plan.archive is None or run.snapshot is None:
        return read_log(plan.source, plan.rules, report)
    return log_as_of(plan.archive, run.snapshot, plan.rules, report)


def _insist_on_enough(log: Log, plan: TrainingPlan) -> None:
    events, needed, topic = log.events, plan.settings.min_events, plan.source.interactions
    place = f"topic {topic!r} at {plan.source.brokers} has {log.n_records:,} records"
    dropped = f" (left out: {', '.join(f'{n:,} {why}' for why, n in log.dropped.items())})" if log.dropped else ""
    if len(events) < needed:
        raise NothingToTrainError(
            f"nothing to train on: {place}, {len(events):,} of them usable{dropped}, and at least {needed:,} are "
            "needed (trainer.min_events); publish interactions, for example with `streamrec replay`"
        )
    if len(events.item_ids) < 2:
        raise NothingToTrainError(
            f"nothing to train on: {place}, all of one item; there must be events of at least 2 items"
        )
    if not has_rows(events, plan.window_rule):
        raise NothingToTrainError(
            f"nothing to train on: no user in topic {topic!r} has events of two items one after the other, so what "
            "follows what cannot be learned"
        )
