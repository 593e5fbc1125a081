"""What the gate asks a new model: the newest events, beside the model that serves, neither having learned from them.

The serving model has learned everything up to its own training. So that the new one is not judged by what it was kept
from, it learns everything before these events first, is asked, and learns them then; see `docs/adr/0015-the-gate.md`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from encoders.bundle import Bundle, Manifest, bundle_path, read_bundle, read_manifest
from encoders.errors import BundleError
from encoders.protocols import IntArray, Retriever
from encoders.records import ModelUpdate
from encoders.window import WindowRule
from trainer.assess import item_numbers, retriever_of, trained_mask
from trainer.cleaning import CleaningRules
from trainer.evaluate import answer, ask
from trainer.evaluation.metrics import Values, rank_metrics
from trainer.evaluation.run import progress_bar
from trainer.gate import Verdict, compare, decide, without_comparison
from trainer.interactions import BoolArray, Interactions
from trainer.measure import TOP_K
from trainer.report import Report
from trainer.settings import GateSettings
from trainer.split import Split


@dataclass(frozen=True)
class Party:
    """A model that can be asked."""

    retriever: Retriever
    numbers: IntArray
    """Its number for the item of each event, 0 where it does not know the item. Shape: ``(n_events,)``."""
    n_items: int

    @classmethod
    def of(cls, bundle: Bundle, events: Interactions) -> Self:
        """What serves, as a worker that has just read its bundle answers.

        An encoder's items are searched exactly, so that a model is not judged by how its index was tuned.
        """
        return cls(retriever_of(bundle, exact=True), item_numbers(bundle, events), bundle.vocabulary.n_items)


@dataclass(frozen=True)
class Trial:
    """A comparison that is to come, or why there will be none."""

    serving: ModelUpdate | None
    """What served when the run began."""
    held_back: BoolArray
    """What the new model may learn only after it was asked; nothing where there will be no comparison.
    Shape: ``(n_events,)``."""
    obstacle: str = ""
    """Why the two models cannot be compared; empty where they can."""

    @property
    def version(self) -> str | None:
        """Of the serving model."""
        return self.serving.version if self.serving else None


def prepare(
    serving: ModelUpdate | None,
    events: Interactions,
    split: Split,
    topic: str,
    rules: CleaningRules,
    settings: GateSettings,
) -> Trial:
    """Choose the events of the test part that the serving model has not learned from, if they are enough.

    Args:
        serving: What serves; its manifest is read.
        events: The log.
        split: Its parts.
        topic: Of the interactions, under which a manifest says how far it was trained.
        rules: Of the new model.
        settings: How much is enough.
    """
    nothing = np.zeros(len(events), dtype=bool)
    if serving is None:
        return Trial(None, nothing, "no model serves yet")
    if not settings.enabled:
        return Trial(serving, nothing, "the gate is off (gate.enabled)")
    try:
        manifest = read_manifest(bundle_path(serving.uri), serving.manifest_sha256)
    except BundleError as error:
        return Trial(serving, nothing, _unreadable(serving, error))
    if obstacle := _of_another_kind(manifest, rules):
        return Trial(serving, nothing, obstacle)
    unseen = split.test & ~trained_mask(events, manifest.trained_through.get(topic, {}))
    questions = ask(events, rules.window_rule, events.item_codes + 1, unseen)
    n_users = len(np.unique(questions.users))
    if len(questions) < settings.min_queries or n_users < settings.min_users:
        few = (
            f"{serving.version} serves, and there is too little in the newest part of the log that it has not learned: "
            f"{len(questions):,} next events of {n_users:,} users, where gate.min_queries is {settings.min_queries:,} "
            f"and gate.min_users {settings.min_users:,}"
        )
        return Trial(serving, nothing, few)
    return Trial(serving, unseen)


def hold(
    trial: Trial, candidate: Party, events: Interactions, rule: WindowRule, settings: GateSettings, report: Report
) -> Verdict:
    """Ask the new model and the serving one the same events, and let the gate decide.

    Args:
        trial: As it was prepared on the same events.
        candidate: The new model, which has learned what the trial does not hold back and nothing else.
        events: The log.
        rule: How windows are cut, for both.
        settings: What is compared, and what may be lost.
        report: Told how far it is.
    """
    if trial.obstacle or trial.serving is None:
        return without_comparison(trial.obstacle, trial.version, settings)
    try:
        bundle = read_bundle(trial.serving.uri, trial.serving.manifest_sha256)
    except BundleError as error:
        return without_comparison(_unreadable(trial.serving, error), trial.version, settings)
    ours, users = _values("the new model", candidate, trial, events, rule, settings, report)
    serving = Party.of(bundle, events)
    theirs, _ = _values(trial.serving.version, serving, trial, events, rule, settings, report)
    return decide(compare(ours, theirs, users, settings), trial.serving.version, settings)


def _values(
    name: str,
    party: Party,
    trial: Trial,
    events: Interactions,
    rule: WindowRule,
    settings: GateSettings,
    report: Report,
) -> tuple[Values, IntArray]:
    """A model's value for each query, and whom each is about. Which events are asked does not depend on the model."""
    questions = ask(events, rule, party.numbers, trial.held_back)
    show = progress_bar(report, f"gate, asking {name}", len(questions))
    answers = answer(questions, party.retriever, party.n_items, TOP_K, show)
    return rank_metrics(answers.ranks, [TOP_K])[settings.metric], questions.users


def _of_another_kind(manifest: Manifest, rules: CleaningRules) -> str:
    """Why a serving model cannot be asked the questions of a new one, or an empty string."""
    ours, theirs = rules.window_rule, manifest.window_rule
    if manifest.catalogue != rules.catalogue:
        return f"{manifest.version} serves catalogue {manifest.catalogue!r}, the new model is of {rules.catalogue!r}"
    if theirs != ours:
        return (
            f"{manifest.version} was trained under another window rule, {theirs.model_dump_json()}, than is set now, "
            f"{ours.model_dump_json()}"
        )
    return ""


def _unreadable(serving: ModelUpdate, error: BundleError) -> str:
    return f"{serving.version} serves, but cannot be read, so a worker that starts could not load it either: {error}"
