"""One training run, from the topic to the announcement."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import torch

from encoders.bundle import ENCODERS, BundleDraft, IndexRecord, insist_on_writable, write_bundle
from encoders.neural import ModuleEncoder, SequenceModule
from encoders.protocols import FloatArray, IntArray
from encoders.records import BundleReference, ModelUpdate
from encoders.vocabulary import Vocabulary
from encoders.window import WindowRule
from index.build import BuiltIndex, build_index
from index.settings import IndexSettings
from trainer.checkpoint import Checkpoint
from trainer.cleaning import CleaningRules
from trainer.dataset import cut_windows, has_rows, training_rows
from trainer.errors import NothingToTrainError
from trainer.fit import FitProgress, build_model, fit, refresh
from trainer.gate import Verdict, below_popularity, final
from trainer.interactions import BoolArray, Interactions
from trainer.log import Log, bring_up_to_date, log_as_of, read_log
from trainer.measure import learned_numbers, measure, popularity
from trainer.pruning import prune_after_training
from trainer.publish import announce, current_update
from trainer.registry import LogInNumbers, ModelReport
from trainer.replay import KafkaSource
from trainer.report import Report
from trainer.settings import GateSettings, TrainerSettings
from trainer.split import Split, split_by_time
from trainer.trial import Contender, Trial, hold, prepare

CHECKPOINTS = "checkpoints"
"""Folder in the archive for the checkpoints of runs, one file for each model of each kind."""
RECALL_QUERIES = 1_000
"""Windows that the index is tuned with and its recall measured."""


@dataclass(frozen=True)
class TrainingPlan:
    """What to train, from what, and where to put it."""

    source: KafkaSource
    model: str
    bundles: Path
    settings: TrainerSettings
    rules: CleaningRules
    popularity_half_life: timedelta
    index: IndexSettings = field(default_factory=IndexSettings)
    gate: GateSettings = field(default_factory=GateSettings)
    force: bool = False
    """Whether the model is announced whatever the gate says."""
    archive: Path | None = None
    """Where what was read before lies, and checkpoints; without one, the whole topic is read and nothing is kept."""

    @property
    def window_rule(self) -> WindowRule:
        """The rule that windows are cut by."""
        return self.rules.window_rule

    def decisive(self) -> dict[str, Any]:
        """Whatever decides weights and figures beside the interactions, for JSON."""
        return {
            "settings": self.settings.model_dump(
                mode="json", exclude={"archive", "checkpoint_minutes", "keep_bundles"}
            ),
            "gate": self.gate.model_dump(mode="json"),
            "window_rule": self.window_rule.model_dump(mode="json"),
            "catalogue": self.rules.catalogue,
            "max_future_s": self.rules.max_future.total_seconds(),
            "half_life_s": self.popularity_half_life.total_seconds(),
        }


@dataclass(frozen=True)
class TrainingResult:
    """A model that was made, and announced unless the gate rejected it."""

    model: str
    bundle: BundleReference
    update: ModelUpdate | None
    """What was announced; None if the gate rejected the model."""
    verdict: Verdict
    log: Log
    metrics: dict[str, float]
    """Of the model and, with `popularity_` before the name, of popularity; empty if nothing could be measured."""
    best_epoch: int
    index: IndexRecord
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
            **LogInNumbers.of(self.log).model_dump(),
            "trained_through": self.log.read_through,
            "best_epoch": self.best_epoch,
            "index": self.index.model_dump(mode="json", exclude={"file"}),
            "seconds": self.seconds,
        }


def train(plan: TrainingPlan, report: Report) -> TrainingResult:
    """Read, clean, split, fit, measure, let the model see the rest, write the bundle; announce it if the gate says so.

    The figures are those of a model that has seen nothing of the test part and fitted nothing but its
    number of epochs to the validation part. The published model is the same one after `refresh_epochs`
    more over all events, so it knows the newest items and should be no worse; a second fit from scratch
    would double the time. What it is compared with the serving model on, it learns last. With an archive, a run that
    was killed is taken up where its last checkpoint is.

    Raises:
        TrainerError: If there is nothing to train on, or a step fails; nothing is announced then.
        BundleError: If the bundle cannot be written.
    """
    torch.set_num_threads(plan.settings.threads)
    insist_on_writable(plan.bundles)  # before the work, not after it
    clock = _Clock()
    with _begin(plan, report) as run:
        result = _train(plan, _read(plan, run, report), run, clock, report)
    if plan.settings.keep_bundles != "all":
        prune_after_training(plan.source, plan.bundles, plan.settings.keep_bundles, report)
    return result


def _train(plan: TrainingPlan, log: Log, run: Checkpoint, clock: _Clock, report: Report) -> TrainingResult:
    _insist_on_enough(log, plan)
    events = log.events
    if not has_rows(events, plan.window_rule):
        raise NothingToTrainError(
            f"nothing to train on: no user in topic {plan.source.interactions!r} has events of two items one after "
            "the other, so what follows what cannot be learned"
        )
    split = split_by_time(events, plan.settings.validation_fraction, plan.settings.test_fraction)
    trial = prepare(_serving(plan, run), events, split, plan.source.interactions, plan.rules, plan.gate)
    clock.lap("replay")
    module = build_model(len(events.item_ids), plan.settings, plan.window_rule.max_len)
    if "figures" not in run.results:
        run.results["best_epoch"] = _fit(module, plan, events, split, report, run)
        clock.lap("fit")
        encoder, half_life = ENCODERS[plan.settings.model](module), plan.popularity_half_life
        figures = measure(encoder, encoder.item_vectors, events, split, plan.window_rule, half_life, report)
        run.results["figures"] = figures
        clock.lap("evaluate")
    best_epoch, figures = run.results["best_epoch"], run.results["figures"]
    report.say("Learning the newest events as well")
    verdict = _learn_all_and_judge(module, plan, events, trial, run, clock, report)
    verdict = final(verdict, below_popularity(figures, plan.gate.metric), plan.force)
    encoder = ENCODERS[plan.settings.model](module)  # anew: one may hold what it worked out of the weights
    built = _index(encoder, plan, events, split)
    _say_index(built, plan.index, report)
    clock.lap("index")
    draft = _draft(encoder, built, plan, log, figures)
    told = ModelReport(
        verdict=verdict,
        metrics=figures,
        log=LogInNumbers.of(log),
        settings=plan.decisive(),
        best_epoch=best_epoch,
        seconds=clock.laps,
    )
    draft = replace(draft, report=told.model_dump_json(indent=2).encode())
    reference = write_bundle(plan.bundles, draft, created_at_ms=int(time.time() * 1000))
    update = None if verdict.outcome == "rejected" else announce(plan.source, plan.model, reference, figures)
    run.clear()
    clock.lap("publish")
    return TrainingResult(plan.model, reference, update, verdict, log, figures, best_epoch, draft.index, clock.laps)


def _serving(plan: TrainingPlan, run: Checkpoint) -> ModelUpdate | None:
    """What serves as the run begins: where it was taken up, what served then, since that decides what is held back."""
    if "serving" not in run.results:
        current = current_update(plan.source, plan.model)
        run.results["serving"] = current.model_dump(mode="json") if current else None
    found = run.results["serving"]
    return ModelUpdate.model_validate(found) if found else None


def _learn_all_and_judge(
    module: SequenceModule,
    plan: TrainingPlan,
    events: Interactions,
    trial: Trial,
    run: Checkpoint,
    clock: _Clock,
    report: Report,
) -> Verdict:
    """Let a fitted model learn all events; the gate asks it before it learns those that are held back."""
    before, kind = ~trial.held_back, ENCODERS[plan.settings.model]
    if "verdict" not in run.results:
        _refresh(module, plan, events, before, run, "refresh", report)
        clock.lap("refresh")
        encoder = kind(module)
        candidate = Contender.of(encoder, encoder.item_vectors, learned_numbers(events, before))
        verdict = hold(trial, candidate, events, plan.window_rule, plan.gate, report)
        run.results["verdict"] = verdict.model_dump(mode="json")
        clock.lap("gate")
    _refresh(module, plan, events, trial.held_back, run, "newest events", report)
    clock.lap("newest")
    return Verdict.model_validate(run.results["verdict"])


def _refresh(
    module: SequenceModule,
    plan: TrainingPlan,
    events: Interactions,
    is_target: BoolArray,
    run: Checkpoint,
    part: str,
    report: Report,
) -> None:
    rows = training_rows(events, plan.window_rule, _numbers(events), is_target)
    if len(rows):
        state = run.part(part)
        refresh(module, rows, plan.settings, _bar(report, part), state)
        run.keep(state)


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


def _numbers(events: Interactions) -> IntArray:
    """Item number of each event; the vocabulary has the items in the order of their codes."""
    return events.item_codes + 1


def _fit(
    module: SequenceModule,
    plan: TrainingPlan,
    events: Interactions,
    split: Split,
    report: Report,
    run: Checkpoint,
) -> int:
    """Fit on the train part; returns the best epoch, 0 where there was nothing to fit before the refresh."""
    known = split.train | split.validation
    validation = training_rows(events.where(known), plan.window_rule, _numbers(events)[known], split.validation[known])
    rows = training_rows(events.where(split.train), plan.window_rule, _numbers(events)[split.train], _all(split.train))
    if not len(rows):
        return 0
    report.say(f"Training on the oldest {split.train.mean():.0%} of the events, {rows.n_targets:,} next items")
    state = run.part("fit")
    best_epoch = fit(module, rows, validation, plan.settings, _bar(report, "training"), state)
    run.keep(state)  # what comes next may take longer than the time between two checkpoints
    return best_epoch


def _index(encoder: ModuleEncoder[Any], plan: TrainingPlan, events: Interactions, split: Split) -> BuiltIndex:
    wanted = plan.index
    return build_index(
        encoder.item_vectors,
        _sample_queries(encoder, plan, events, split),
        kind=wanted.kind,
        target_recall=wanted.target_recall,
        k=wanted.k,
        seed=plan.settings.seed,
    )


def _say_index(built: BuiltIndex, wanted: IndexSettings, report: Report) -> None:
    params = ", ".join(f"{name} {value}" for name, value in built.index.params.items())
    report.say(
        f"Index: {built.index.kind}{f' ({params})' if params else ''}, recall@{built.k} {built.recall:.3f}, "
        f"built in {built.seconds:.1f} s"
    )
    if built.recall < wanted.target_recall:
        report.say(f"  which is below index.target_recall = {wanted.target_recall}: index.kind = 'auto' reaches it")


def _draft(
    encoder: ModuleEncoder[Any], built: BuiltIndex, plan: TrainingPlan, log: Log, figures: dict[str, float]
) -> BundleDraft:
    events, index = log.events, built.index
    return BundleDraft(
        model=plan.model,
        encoder=encoder,
        vocabulary=Vocabulary.from_ids(events.item_ids, plan.rules.catalogue),
        popularity=popularity(events, _numbers(events), len(events.item_ids), plan.popularity_half_life),
        window_rule=plan.window_rule,
        index=IndexRecord(kind=index.kind, params=index.params, recall={f"recall@{built.k}": built.recall}),
        save_index=index.save,
        metrics=figures,
        trained_through={plan.source.interactions: log.read_through},
        items_offsets=log.items_offsets,
    )


def _sample_queries(encoder: ModuleEncoder[Any], plan: TrainingPlan, events: Interactions, split: Split) -> FloatArray:
    """Query vectors of sessions of the validation and the test part; of all sessions where these are empty."""
    held_out = np.flatnonzero(split.validation | split.test)
    if not len(held_out):
        held_out = np.arange(len(events))
    some = held_out[np.linspace(0, len(held_out) - 1, min(len(held_out), RECALL_QUERIES)).astype(np.int64)]
    windows = cut_windows(events, plan.window_rule).windows(some, _numbers(events), plan.window_rule.max_len)
    return encoder.encode(windows)[1]


def _all(mask: BoolArray) -> BoolArray:
    return np.ones(int(mask.sum()), dtype=bool)


def _bar(report: Report, name: str) -> Callable[[FitProgress], None]:
    def show(at: FitProgress) -> None:
        validation = "" if at.validation_loss is None else f", validation {at.validation_loss:.3f}"
        report.progress(name, at.step, at.n_steps, f"epoch {at.epoch}, loss {at.loss:.3f}{validation}")

    return show


class _Clock:
    """How long each part took."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        now_s = time.monotonic()
        self.laps[name] = round(now_s - self._since_s, 3)
        self._since_s = now_s
