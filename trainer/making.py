"""How a model is made: fitted, factorised, or given every event once; measured and judged by the gate on the way.

Either way a model first learns the oldest events and is measured on the newest, and what it is compared with the
serving model on it learns last.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from encoders.bundle import NETWORKS, RETRIEVERS, BundledEncoder, EncoderDraft, IndexRecord, RetrieverDraft
from encoders.factors import FactorsEncoder
from encoders.neural import SequenceModule
from encoders.protocols import IntArray, Retriever
from encoders.vocabulary import Vocabulary
from index.build import BuiltIndex, build_index
from index.settings import IndexSettings
from trainer.checkpoint import Checkpoint
from trainer.dataset import training_rows
from trainer.factors import fit_factors
from trainer.fit import FitProgress, build_model, fit, refresh
from trainer.gate import Verdict
from trainer.interactions import BoolArray, Interactions
from trainer.learning import Lessons, new_retriever
from trainer.log import Log
from trainer.measure import exact, learned_numbers, measure, popularity
from trainer.plan import TrainingPlan
from trainer.report import Report
from trainer.split import Split
from trainer.trial import Party, Trial, hold
from trainer.tuning import latest_windows


class Clock:
    """How long each part of a run took."""

    def __init__(self) -> None:
        self._since_s = time.monotonic()
        self.laps: dict[str, float] = {}

    def lap(self, name: str) -> None:
        """The part of that name is over."""
        now_s = time.monotonic()
        self.laps[name] = round(now_s - self._since_s, 3)
        self._since_s = now_s


@dataclass(frozen=True)
class Material:
    """What a model is made from."""

    plan: TrainingPlan
    log: Log
    split: Split
    trial: Trial
    """What the gate will ask it."""


@dataclass(frozen=True)
class Made:
    """A model that is ready to be written."""

    draft: EncoderDraft | RetrieverDraft
    figures: dict[str, float]
    """As `trainer.measure.measure` gives them."""
    verdict: Verdict
    best_epoch: int = 0
    """0 where nothing was fitted."""
    index: IndexRecord | None = None
    """None of a model that has no item vectors."""


def make_network(material: Material, run: Checkpoint, clock: Clock, report: Report) -> Made:
    """Fit a sequence encoder by gradient descent, and build the index over its items.

    Args:
        material: What from.
        run: The run, which may be one that was interrupted.
        clock: Told what is over.
        report: Told how far it is.
    """
    plan, events, split = material.plan, material.log.events, material.split
    kind = NETWORKS[plan.settings.model]
    module = build_model(len(events.item_ids), plan.settings, plan.window_rule.max_len)
    if "figures" not in run.results:
        run.results["best_epoch"] = _fit(module, plan, events, split, report, run)
        clock.lap("fit")
        run.results["figures"] = _measure(exact(kind(module)), split.train, material, report)
        clock.lap("evaluate")
    best_epoch, figures = run.results["best_epoch"], run.results["figures"]
    report.say("Learning the newest events as well")
    verdict = _learn_all_and_judge(module, material, run, clock, report)
    encoder = kind(module)  # anew: one may hold what it worked out of the weights
    return _with_index(encoder, material, figures, verdict, best_epoch, clock, report)


def make_factors(material: Material, run: Checkpoint, clock: Clock, report: Report) -> Made:
    """Factorise who chose what, and build the index over the items; the arguments are those of `make_network`.

    That takes seconds, so it is done anew for each of what the model may have learned, and nothing is kept of it to be
    taken up. It needs no validation part, and learns that, too.
    """
    test, held_back = material.split.test, material.trial.held_back
    figures = _measure(exact(_factorised(~test, "oldest events", material, report)), ~test, material, report)
    clock.lap("evaluate")
    verdict = _judge(exact(_factorised(~held_back, "newest events as well", material, report)), material, report)
    clock.lap("gate")
    encoder = _factorised(np.ones_like(test), "all events", material, report)
    clock.lap("fit")
    return _with_index(encoder, material, figures, verdict, 0, clock, report)


def make_retriever(material: Material, run: Checkpoint, clock: Clock, report: Report) -> Made:
    """Let a retriever learn every event; the arguments are those of `make_network`.

    That takes seconds, so nothing is kept of it to be taken up. It does not learn while it is asked, so the figures are
    those of a worker that has just read the bundle, and of a model that is as old as the test part is long. It needs no
    validation part, and learns that, too.
    """
    plan, events, test, held_back = material.plan, material.log.events, material.split.test, material.trial.held_back
    rule, retriever = plan.window_rule, new_retriever(plan.settings)
    lessons = Lessons.of(events, rule)
    report.say(f"Learning the oldest {1 - test.mean():.0%} of the events")
    lessons.teach(retriever, ~test, "learning", report)
    clock.lap("learn")
    figures = _measure(retriever, ~test, material, report)
    clock.lap("evaluate")
    report.say("Learning the newest events as well")
    lessons.teach(retriever, test & ~held_back, "all events", report)
    clock.lap("refresh")
    verdict = _judge(retriever, material, report)
    clock.lap("gate")
    lessons.teach(retriever, held_back, "newest events", report)
    clock.lap("newest")
    return Made(RetrieverDraft(retriever=retriever, **_origin(plan, material.log, figures)), figures, verdict)


def _factorised(which: BoolArray, label: str, material: Material, report: Report) -> BundledEncoder:
    """An encoder that has learned some of the events. Shape: ``(n_events,)``."""
    events, settings = material.log.events, material.plan.settings
    return fit_factors(
        events.where(which),
        len(events.item_ids),
        settings.mf,
        settings.seed,
        settings.threads,
        lambda done: report.progress(label, done, settings.mf.n_iterations),
    )


def _with_index(
    encoder: BundledEncoder,
    material: Material,
    figures: dict[str, float],
    verdict: Verdict,
    best_epoch: int,
    clock: Clock,
    report: Report,
) -> Made:
    """The draft of an encoder that has learned all events, and the index over its items."""
    plan, log = material.plan, material.log
    built = _index(encoder, plan, log.events, material.split)
    _say_index(built, plan.index, report)
    clock.lap("index")
    index = built.index
    record = IndexRecord(kind=index.kind, params=index.params, recall={f"recall@{built.k}": built.recall})
    draft = EncoderDraft(encoder=encoder, index=record, save_index=index.save, **_origin(plan, log, figures))
    return Made(draft, figures, verdict, best_epoch, record)


def _learn_all_and_judge(
    module: SequenceModule, material: Material, run: Checkpoint, clock: Clock, report: Report
) -> Verdict:
    """Let a fitted model learn all events; the gate asks it before it learns those that are held back."""
    plan, events, trial = material.plan, material.log.events, material.trial
    before, kind = ~trial.held_back, NETWORKS[plan.settings.model]
    if "verdict" not in run.results:
        _refresh(module, plan, events, before, run, "refresh", report)
        clock.lap("refresh")
        verdict = _judge(exact(kind(module)), material, report)
        run.results["verdict"] = verdict.model_dump(mode="json")
        clock.lap("gate")
    _refresh(module, plan, events, trial.held_back, run, "newest events", report)
    clock.lap("newest")
    return Verdict.model_validate(run.results["verdict"])


def _measure(retriever: Retriever, learned: BoolArray, material: Material, report: Report) -> dict[str, float]:
    """Figures on the test part of a model that has learned what a mask is true for."""
    plan, half_life = material.plan, material.plan.popularity_half_life
    return measure(retriever, learned, material.log.events, material.split.test, plan.window_rule, half_life, report)


def _judge(retriever: Retriever, material: Material, report: Report) -> Verdict:
    """What the gate says of a model that has learned all that is not held back."""
    plan, events, trial = material.plan, material.log.events, material.trial
    candidate = Party(retriever, learned_numbers(events, ~trial.held_back), len(events.item_ids))
    return hold(trial, candidate, events, plan.window_rule, plan.gate, report)


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


def _fit(
    module: SequenceModule,
    plan: TrainingPlan,
    events: Interactions,
    split: Split,
    report: Report,
    run: Checkpoint,
) -> int:
    """Fit on the train part; returns the best epoch, 0 where there was nothing to fit before the refresh."""
    validation = training_rows(events, plan.window_rule, _numbers(events), split.validation, among=~split.test)
    rows = training_rows(events, plan.window_rule, _numbers(events), split.train, among=split.train)
    if not len(rows):
        return 0
    report.say(f"Training on the oldest {split.train.mean():.0%} of the events, {rows.n_targets:,} next items")
    state = run.part("fit")
    best_epoch = fit(module, rows, validation, plan.settings, _bar(report, "training"), state)
    run.keep(state)  # what comes next may take longer than the time between two checkpoints
    return best_epoch


def _index(encoder: BundledEncoder, plan: TrainingPlan, events: Interactions, split: Split) -> BuiltIndex:
    wanted = plan.index
    return build_index(
        encoder.item_vectors,
        encoder.encode(latest_windows(events, plan.window_rule, _numbers(events), split))[1],
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


def _origin(plan: TrainingPlan, log: Log, figures: dict[str, float]) -> dict[str, Any]:
    """What every bundle says, by the names of `BundleDraft`."""
    events = log.events
    return {
        "model": plan.model,
        "vocabulary": Vocabulary.from_ids(events.item_ids, plan.rules.catalogue),
        "popularity": popularity(events, plan.popularity_half_life),
        "window_rule": plan.window_rule,
        "metrics": figures,
        "trained_through": {plan.source.interactions: log.read_through},
        "items_offsets": log.items_offsets,
    }


def _numbers(events: Interactions) -> IntArray:
    """Item number of each event; the vocabulary has the items in the order of their codes."""
    return events.item_codes + 1


def _bar(report: Report, name: str) -> Callable[[FitProgress], None]:
    def show(at: FitProgress) -> None:
        validation = "" if at.validation_loss is None else f", validation {at.validation_loss:.3f}"
        report.progress(name, at.step, at.n_steps, f"epoch {at.epoch}, loss {at.loss:.3f}{validation}")

    return show


MAKERS: Mapping[str, Callable[[Material, Checkpoint, Clock, Report], Made]] = {
    **dict.fromkeys(NETWORKS, make_network),
    **dict.fromkeys(RETRIEVERS, make_retriever),
    FactorsEncoder.kind: make_factors,
}
"""How each model is made."""
