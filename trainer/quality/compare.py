"""Contenders on a data set: each made for every exam of it, asked, and summed up."""

from __future__ import annotations

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from encoders.bundle import BundledEncoder
from encoders.window import WindowRule
from trainer.errors import ContenderError, DatasetError
from trainer.evaluation.live import evaluate_live, insist_on_arrival
from trainer.evaluation.metrics import category_vectors
from trainer.evaluation.protocols import Exam, Part, held_out
from trainer.evaluation.queries import Crop, Excluded, Queries
from trainer.evaluation.run import Evaluation, evaluate
from trainer.evaluation.sets import EvaluationSet, exams
from trainer.evaluation.summary import Result, summarise
from trainer.interactions import BoolArray
from trainer.quality.contenders import Contender, FileSettings
from trainer.quality.cost import Cost
from trainer.quality.models import Ready, Workshop
from trainer.report import Report

STEPS_TIMED = 500
"""Steps of one encoder whose median is what a step costs."""


@dataclass(frozen=True)
class Entrant:
    """A contender with the seed that it is fitted with."""

    contender: Contender
    seed: int = 0
    name: str = ""
    """What it is called in the result; by default as the contender."""
    excluded: Excluded | None = None
    """What it may not list; by default as the exam says."""

    @property
    def label(self) -> str:
        """What it is called."""
        return self.name or self.contender.name

    def asked_of(self, exam: Exam) -> Exam:
        """The exam, with what it may not list."""
        return replace(exam, excluded=self.excluded or exam.excluded)


def entrants(contenders: Sequence[Contender], seeds: Sequence[int], excluded: Sequence[Excluded] = ()) -> list[Entrant]:
    """Each contender once for each seed, if chance has a part in it, and for each of what may not be listed.

    Of several seeds, or several choices of what may not be listed, the name says which.

    Example:
        >>> from encoders.markov import MarkovConfig
        >>> [each.label for each in entrants([Contender("markov", "markov", MarkovConfig())], [0], ["none", "seen"])]
        ['markov@none', 'markov@seen']
    """
    found = []
    for contender in contenders:
        if contender.is_seeded and len(seeds) > 1:
            found += [Entrant(contender, seed, f"{contender.name}@{seed}") for seed in seeds]
        else:
            found.append(Entrant(contender, seeds[0]))
    if not excluded:
        return found
    if len(excluded) == 1:
        return [replace(one, excluded=excluded[0]) for one in found]
    return [replace(one, name=f"{one.label}@{which}", excluded=which) for one in found for which in excluded]


def compare(
    data: EvaluationSet,
    settings: FileSettings,
    running: Sequence[Entrant],
    workshop: Workshop,
    report: Report,
    part: Part = "test",
    live: bool | None = None,
) -> Result:
    """All figures of some models on a data set.

    Args:
        data: The data set.
        settings: How it is used.
        running: Who is compared.
        workshop: Makes them.
        report: Told how far it is.
        part: What they are asked.
        live: Whether they are asked event by event as these arrive; by default as they say, all the same.

    Returns:
        As `summarise` gives it, and of each model under ``fit`` what making it cost, and what it came to. Models that
        are asked live may learn items that the training part does not have; so that their figures are of the queries
        that others are asked, too, all with those of new items have figures of their own: ``figures_with_new_items``,
        of ``n_queries_with_new_items``. Where every query is of such an item, the figures are of these.

    Raises:
        TrainerError: If a model cannot be made, or the data set cannot be asked so.
    """
    live = _mode(running, live)
    insist_on_enough(data.admitted(WindowRule()) if settings.windows == "served" else data)
    asked, made, names, protocol = [], [], [], ""
    for exam, of_others in _exams(data, settings, part, live):
        queries = _questions(exam, part, live)
        ready = {one.label: workshop.make(one.contender, one.asked_of(exam), one.seed, part, live) for one in running}
        answers = [_ask(one.asked_of(exam), one.label, ready[one.label], part, live, report) for one in running]
        asked.append((_side_by_side(answers), _also_asked(queries, of_others.queries(part))))
        names.append(exam.name)
        made.append({name: (each.cost, each.weights, step_us(each.encoder)) for name, each in ready.items()})
        protocol = _protocol(exam, {one.asked_of(exam).excluded for one in running}, part, live)
    result = _summed_up(data, asked, names, protocol, part, report)
    for name, model in result["models"].items():
        model["fit"] = _fit_figures([each[name] for each in made])
    return result


def _summed_up(
    data: EvaluationSet,
    asked: Sequence[tuple[Evaluation, BoolArray]],
    names: Sequence[str],
    protocol: str,
    part: Part,
    report: Report,
) -> Result:
    """Figures of the queries that others are asked, too, and where there are more, of all; see `compare`.

    Args:
        data: The data set.
        asked: What models answered in each exam, and which of the queries are asked of others, too.
        names: Of the exams.
        protocol: How they were asked, in words.
        part: What they were asked.
        report: Told of exams that ask for new items only.
    """
    of_new = [name for name, (_, is_alike) in zip(names, asked, strict=True) if not is_alike.any()]
    if len(of_new) == len(names):
        report.say(
            f"{data.name}: the training part has none of the items of the {part} part, so figures are of new items"
        )
        asked = [(evaluation, np.ones_like(is_alike)) for evaluation, is_alike in asked]
    elif of_new:
        report.say(f"{', '.join(of_new)}: asked for new items only, so in the figures with new items alone")
    vectors = category_vectors(data.categories) if any(data.categories) else None
    result = summarise(
        [evaluation.where(is_alike) for evaluation, is_alike in asked if is_alike.any()],
        item_vectors=vectors,
        dataset=data.name,
        protocol=protocol,
    )
    if not all(is_alike.all() for _, is_alike in asked):
        with_new = summarise([evaluation for evaluation, _ in asked])
        result["n_queries_with_new_items"] = with_new["n_queries"]
        result["differences_with_new_items"] = with_new["differences"]
        for name, model in with_new["models"].items():
            result["models"][name]["figures_with_new_items"] = model["figures"]
    return result


def insist_on_enough(data: EvaluationSet) -> None:
    """Refuse a data set on which no models can be compared.

    Raises:
        DatasetError: If it has fewer than two users or items.
    """
    for codes, what in ((data.events.user_codes, "user"), (data.events.item_codes, "item")):
        if len(np.unique(codes)) < 2:
            raise DatasetError(f"{data.name} has events of one {what} only; models are compared on at least 2 {what}s")


def _questions(exam: Exam, part: Part, live: bool) -> Queries:
    """What is asked of a part, looked at before models are fitted for it.

    Raises:
        DatasetError: If nothing can be asked.
    """
    if live:
        insist_on_arrival(exam)
    queries = exam.queries(part)
    if not len(queries):
        why = (
            "all items of the part are new, and only who is asked live may learn them"
            if part in exam.of_new_only
            else "nobody in the part has an event before"
        )
        raise DatasetError(f"{exam.name}: nothing can be asked of the {part} part: {why}")
    return queries


def step_us(encoder: BundledEncoder | None) -> float | None:
    """What one more item of one user costs an encoder, in microseconds: the median of some steps."""
    if encoder is None:
        return None
    spent_s, states = [], encoder.initial_states(1)
    n_items = len(encoder.item_vectors) - 1
    for step in range(STEPS_TIMED):
        item = np.array([1 + step % n_items])
        since_s = time.perf_counter()
        after, _ = encoder.step(states, item)
        spent_s.append(time.perf_counter() - since_s)
        states = after if step % 20 else encoder.initial_states(1)  # about as long as sessions are
    return 1e6 * float(np.median(spent_s))


def _mode(running: Sequence[Entrant], live: bool | None) -> bool:
    """Whether models are asked live.

    Raises:
        ContenderError: If it is not said, and they do not agree.
    """
    asked = {one.contender.live for one in running} if live is None else {live}
    if len(asked) > 1:
        names = ", ".join(one.label for one in running if one.contender.live)
        raise ContenderError(f"{names} is to be asked live, the others not; ask all live with --live, or compare apart")
    return asked == {True}


def _exams(data: EvaluationSet, settings: FileSettings, part: Part, live: bool) -> Iterator[tuple[Exam, Exam]]:
    """The exams of a data set as the file says, each with the same as it is held where nobody is asked live."""
    windows = WindowRule() if settings.windows == "served" else None

    def held(drop_unknown: bool) -> Iterator[Exam]:
        for exam in exams(data, windows, drop_unknown, split=settings.split):
            chosen = replace(exam, excluded=settings.excluded or exam.excluded)
            yield held_out(chosen, settings.validation_fraction, drop_unknown) if part == "validation" else chosen

    if live:
        yield from zip(held(drop_unknown=False), held(drop_unknown=True), strict=True)
    else:
        yield from ((exam, exam) for exam in held(drop_unknown=True))


def _ask(exam: Exam, name: str, ready: Ready, part: Part, live: bool, report: Report) -> Evaluation:
    """What a model answered."""
    if live:
        return evaluate_live({name: ready.answers}, exam, report, part, knows_past=True)
    return evaluate({name: ready.ranked}, exam.queries(part), report)


def _side_by_side(evaluations: Sequence[Evaluation]) -> Evaluation:
    """Those of several models that were asked the same as one."""
    answers = {name: each for evaluation in evaluations for name, each in evaluation.answers.items()}
    return replace(evaluations[0], answers=answers)


def _also_asked(queries: Queries, of_others: Queries) -> BoolArray:
    """Which of the queries are asked of others, too, by the place of their event in the data set. Shape: ``(Q,)``."""
    return np.isin(queries.events.offsets[queries.targets], of_others.events.offsets[of_others.targets])


def _protocol(exam: Exam, excluded: Collection[Excluded], part: Part, live: bool) -> str:
    """How models were asked, in words."""
    name = "periods" if exam.name.startswith("period ") else exam.name
    windows = f"newest {exam.windows.max_len}" if isinstance(exam.windows, Crop) else "windows as served"
    listed = {
        "none": "anything",
        "last": "all but the last item",
        "fed": "all but what is fed",
        "seen": "all but what was seen",
    }
    how = "asked before each event as it arrives" if live else "asked"
    what = listed[next(iter(excluded))] if len(excluded) == 1 else "all but what each says"
    return f"{name}, {how} for the {part} part, {windows}, {what} listed"


def _fit_figures(made: Sequence[tuple[Cost, tuple[float, ...], float | None]]) -> dict[str, Any]:
    """What making a model cost over all exams, and what it came to."""
    figures = sum((cost for cost, _, _ in made), Cost()).figures
    steps = [step for _, _, step in made if step is not None]
    weights = [list(weights) for _, weights, _ in made if weights]
    return (
        figures
        | ({"us_per_step": float(np.median(steps))} if steps else {})
        | ({"weights": weights} if weights else {})
    )
