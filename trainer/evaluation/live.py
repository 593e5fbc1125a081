"""Live replay: the events of a part in the order of their arrival, each asked for before the model has it.

Shape letters: ``E`` events of the log, ``B`` events at once, ``Q`` queries, ``k`` length of a list.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from encoders.protocols import IntArray, LiveRetriever, Retriever
from trainer.errors import DatasetError
from trainer.evaluation.metrics import KS
from trainer.evaluation.protocols import Exam, Part
from trainer.evaluation.queries import Queries
from trainer.evaluation.run import Answers, Evaluation, Watch, allowed_lists, progress_bar, rank_listed, ranks_in, timed
from trainer.report import Report

EVENTS_AT_ONCE = 65_536
"""Events of the past that a model is given at once."""
SHOW_EVERY = 100


def evaluate_live(
    models: Mapping[str, Retriever | LiveRetriever],
    exam: Exam,
    report: Report,
    part: Part = "test",
    k: int = max(KS),
    knows_past: bool = False,
) -> Evaluation:
    """Ask each model for every event of a part as it arrives, and then let it learn the event, if it learns.

    Events between two queries are given at once, which is the same by the contract of `LiveRetriever`. An answer may
    depend on the very event before it, so a model that learns is asked for one event at a time.

    Args:
        models: By name; those that learn are changed.
        exam: What is asked. Where only known items may be listed, an item is known from when it arrives.
        report: Told how far it is.
        part: The part that is replayed.
        k: Length of the lists, where ranks end.
        knows_past: Whether the models have learned what was before the part; if not, they are given it first.

    Raises:
        DatasetError: If it is not known in which order the events of all users arrived.
    """
    insist_on_arrival(exam)
    queries = replace(exam, known_items_only=False).queries(part)
    is_new = exam.split.validation if part == "validation" else exam.split.test
    answers = {}
    for name, model in models.items():
        replay = _Replay(exam, queries, model)
        if not knows_past:
            replay.learn_all(np.flatnonzero(exam.before(part)))
        answers[name] = replay.run(np.flatnonzero(is_new), k, report, f"replaying to {name}")
    return Evaluation(queries.users, queries.item_counts, answers)


def insist_on_arrival(exam: Exam) -> None:
    """Refuse an exam that cannot be replayed.

    Raises:
        DatasetError: If it is not known in which order the events of all users arrived.
    """
    if not exam.has_arrival:
        raise DatasetError("a live replay needs to know whose event came first; this data set holds no such order")


class _Replay:
    """One model's way through the events of a part."""

    def __init__(self, exam: Exam, queries: Queries, model: Retriever | LiveRetriever) -> None:
        self._known = queries.item_counts > 0
        self._queries = replace(queries, candidates=self._known if exam.known_items_only else None)
        self._watch = Watch()
        self._retriever = timed(model, self._watch)
        self._learner = model if isinstance(model, LiveRetriever) else None
        self._users, self._items = exam.events.user_codes, exam.numbers
        self._times_s = exam.events.times_ms / 1000
        self.learning_seconds = 0.0

    def learn_all(self, events: IntArray) -> None:
        """Let the model have events, given by their positions, oldest first."""
        self._known[self._items[events]] = True
        if self._learner is None:
            return
        since_s = time.perf_counter()
        for start in range(0, len(events), EVENTS_AT_ONCE):
            some = events[start : start + EVENTS_AT_ONCE]
            self._learner.learn(self._users[some], self._items[some], self._times_s[some])
        self.learning_seconds += time.perf_counter() - since_s

    def run(self, events: IntArray, k: int, report: Report, label: str) -> Answers:
        """Ask and learn in turn; time spent on what was before does not count."""
        queries, n_items = self._queries, self._queries.n_items
        show = progress_bar(report, label, len(queries))
        changes = queries.candidates is not None and not self._known[self._items[events]].all()
        if self._learner is None and not changes:
            # An answer is the same whenever it is asked for, so all may be asked for at once.
            return rank_listed(queries, self._retriever, n_items, k, show)
        self.learning_seconds = 0.0
        lists = np.zeros((len(queries), k), dtype=np.int64)
        # After a query its own event is learned, and what came before the next query.
        places = np.searchsorted(events, queries.targets)
        until = np.append(places[1:], len(events))
        self.learn_all(events[: places[0] if len(places) else len(events)])
        for query in range(len(queries)):
            lists[query], _ = allowed_lists(queries, np.array([query]), self._retriever, n_items, k)
            self.learn_all(events[places[query] : until[query]])
            if query % SHOW_EVERY == 0:
                show(query)
        show(len(queries))
        return Answers(ranks_in(lists, queries.target_items), lists, self._watch.seconds, self.learning_seconds)
