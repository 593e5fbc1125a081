"""Contenders as models that answer: fitted, or having learned every event once.

Shape letters: ``E`` events, ``Q`` queries, ``M`` members, ``D`` length of a member's list.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import BaseModel

from encoders.blend import blend, learned_weights, lists_of, logits_of
from encoders.bundle import RETRIEVERS, BundledEncoder
from encoders.fusion import Lists
from encoders.live_encoder import LiveEncoder
from encoders.protocols import FloatArray, IntArray, LiveRetriever, Retriever
from trainer.errors import DatasetError
from trainer.evaluation.live import EVENTS_AT_ONCE
from trainer.evaluation.metrics import KS
from trainer.evaluation.protocols import Exam, Part, held_out
from trainer.evaluation.queries import Queries
from trainer.evaluation.run import QUERIES_AT_ONCE, FullScores, allowed_lists
from trainer.factors import fit_factors
from trainer.interactions import BoolArray
from trainer.measure import exact
from trainer.quality.contenders import BlendConfig, Contender
from trainer.quality.cost import Cost, Stopwatch
from trainer.quality.fits import fit_encoder
from trainer.report import Report
from trainer.settings import FactorsSettings, TrainerSettings

MOST_WEIGHED = 20_000
"""Queries of the validation part that weights are learned on, evenly spread."""


@dataclass(frozen=True)
class Ready:
    """A model that may be asked."""

    answers: Retriever
    cost: Cost
    """Of making it."""
    encoder: BundledEncoder | None = None
    """Where it is an encoder: for exact ranks, and to see what a step costs."""
    weights: tuple[float, ...] = ()
    """Of a blend's members."""

    @property
    def ranked(self) -> Retriever | FullScores:
        """What `evaluate` asks: an encoder for the scores of all items."""
        return FullScores(self.encoder, self.encoder.item_vectors) if self.encoder else self.answers


@dataclass(frozen=True)
class Workshop:
    """Makes models."""

    folder: Path | None
    """Where fits are kept; None for nowhere."""
    validation_fraction: float
    """As `FileSettings` has it."""
    report: Report
    device: Literal["cpu", "cuda"] = "cpu"
    """Where encoders are fitted."""

    def make(self, contender: Contender, exam: Exam, seed: int, part: Part = "test", live: bool = False) -> Ready:
        """A model that has learned the training part of an exam; one that is asked live, all before the part.

        Args:
            contender: Which.
            exam: What it learns from, and its weights if it is a blend whose weights are to be learned.
            seed: Of the fit, where chance has a part in it.
            part: What it will be asked.
            live: Whether it will be asked live.

        Raises:
            TrainerError: If it cannot be fitted.
        """
        if isinstance(config := contender.config, BlendConfig):
            return self._blend(contender, config, exam, seed, part, live)
        if isinstance(config, TrainerSettings):
            settings = config.model_copy(update={"seed": seed, "device": self.device})
            fit = fit_encoder(exam, settings, self.folder, self.report, f"{exam.name}: training {contender.name}")
            answers = _going_live(fit.encoder, exam, part) if live else exact(fit.encoder)
            return Ready(answers, fit.cost, fit.encoder)
        if isinstance(config, FactorsSettings):
            return self._factorised(contender.name, config, exam, seed, part, live)
        return _learned(config, exam, part if live else None)

    def _factorised(self, name: str, config: FactorsSettings, exam: Exam, seed: int, part: Part, live: bool) -> Ready:
        watch, label = Stopwatch(Cost()), f"{exam.name}: factorising for {name}"
        encoder = fit_factors(
            exam.training,
            len(exam.events.item_ids),
            config,
            seed,
            show=lambda done: self.report.progress(label, done, config.n_iterations),
        )
        cost = watch.spent(config.n_iterations * len(exam.training))
        return Ready(_going_live(encoder, exam, part) if live else exact(encoder), cost, encoder)

    def _blend(self, contender: Contender, config: BlendConfig, exam: Exam, seed: int, part: Part, live: bool) -> Ready:
        members = [self.make(member, exam, seed, part, live) for member in contender.members]
        cost = sum((member.cost for member in members), Cost())
        weights = config.weights
        if weights is None:
            weights, spent = self._learn_weights(contender, config, exam, seed, part)
            cost += spent
        answers = blend([member.answers for member in members], weights, config.fusion, config.depth)
        return Ready(answers, cost, weights=tuple(weights))

    def _learn_weights(
        self, contender: Contender, config: BlendConfig, exam: Exam, seed: int, part: Part
    ) -> tuple[tuple[float, ...], Cost]:
        """Weights that are best on the validation part, for members that have not seen it; and what that cost."""
        within = held_out(exam, self.validation_fraction)
        members = [self.make(member, within, seed, "validation") for member in contender.members]
        queries = within.queries("validation")
        flattered = "; it is asked the same part, which flatters it" if part == "validation" else ""
        self.report.say(f"{exam.name}: learning the weights of {contender.name}{flattered}")
        # Where the exam has a validation part, these are the members that will be asked, and are paid for already.
        watch = Stopwatch(Cost() if within is exam else sum((member.cost for member in members), Cost()))
        lists, targets = _allowed(queries, [member.answers for member in members], config.depth)
        weights = learned_weights(lists, targets, max(KS), config.metric, config.fusion)
        shares = ", ".join(f"{m.name} {w:.2f}" for m, w in zip(contender.members, weights, strict=True))
        self.report.say(f"  {shares}")
        return tuple(weights.tolist()), watch.spent(0)


def _learned(config: BaseModel, exam: Exam, before: Part | None) -> Ready:
    """A retriever that has learned event after event: those before a part, or of the training part."""
    _warm_up(_fresh(config))
    watch, model = Stopwatch(), _fresh(config)
    n_events = _let_learn(model, exam, exam.split.train if before is None else exam.before(before))
    return Ready(model, watch.spent(n_events))


def _going_live(encoder: BundledEncoder, exam: Exam, part: Part) -> LiveEncoder:
    """A fitted encoder that has taken up what came between its training and a part."""
    is_trained = np.zeros(len(encoder.item_vectors), dtype=bool)
    is_trained[exam.numbers[exam.split.train]] = True
    model = LiveEncoder(encoder, is_trained)
    _let_learn(model, exam, exam.before(part))
    return model


def _let_learn(model: LiveRetriever, exam: Exam, which: BoolArray) -> int:
    """Let a model have some of the events, and say how many these are. Shape: ``(E,)``."""
    events = np.flatnonzero(which)
    users, items, times_s = exam.events.user_codes, exam.numbers, exam.events.times_ms / 1000
    for start in range(0, len(events), EVENTS_AT_ONCE):
        some = events[start : start + EVENTS_AT_ONCE]
        model.learn(users[some], items[some], times_s[some])
    return len(events)


def _fresh(config: BaseModel) -> LiveRetriever:
    """A retriever that has learned nothing yet."""
    return next(kind for kind in RETRIEVERS.values() if isinstance(config, kind.Config))(config)


def _warm_up(model: LiveRetriever) -> None:
    """Have its loops compiled, or read from the cache, which is no cost of the model."""
    model.learn(np.array([1, 1]), np.array([1, 2]), np.zeros(2))
    model.retrieve(np.array([[1]]), 1)


def _allowed(queries: Queries, members: Sequence[Retriever], depth: int) -> tuple[Lists, IntArray]:
    """The members' answers with what may not be listed struck out, and the targets, for some of the queries.

    Raises:
        DatasetError: If there are no queries.
    """
    if not len(queries):
        raise DatasetError("the validation part asks nothing, so weights cannot be learned; give the blend `weights`")
    some = np.unique(np.linspace(0, len(queries) - 1, min(len(queries), MOST_WEIGHED)).astype(np.int64))
    answers = [_lists_of(queries, some, member, depth) for member in members]
    return lists_of(answers, logits_of(members)), queries.target_items[some]


def _lists_of(queries: Queries, some: IntArray, member: Retriever, depth: int) -> tuple[IntArray, FloatArray]:
    """Its best items that may be listed, and their scores. Shape: ``(Q,)`` to ``(Q, D)`` each."""
    starts = range(0, len(some), QUERIES_AT_ONCE)
    parts = [
        allowed_lists(queries, some[start : start + QUERIES_AT_ONCE], member, queries.n_items, depth)
        for start in starts
    ]
    items, scores = zip(*parts, strict=True)
    return np.concatenate(items), np.concatenate(scores)
