"""Which events a model may learn from and which it is asked: the ways in which the field splits a log.

Shape letters: ``E`` events of the log, ``N`` items.

References:
    Kang & McAuley, "Self-attentive sequential recommendation", ICDM 2018 (leave-one-out).
    Wu et al., "Session-based recommendation with graph neural networks", AAAI 2019 (every prefix of a session).
    Mi et al., "ADER: Adaptively distilled exemplar replay", RecSys 2020 (periods).
    Gusak et al., "Time to split: exploring data splitting strategies for offline evaluation of sequential
    recommenders", RecSys 2025 (global time, last item and every next step).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from encoders.protocols import IntArray
from trainer.errors import DatasetError
from trainer.evaluation.queries import Excluded, Queries, UserOrder, Windows
from trainer.interactions import BoolArray, Interactions
from trainer.split import Split, split_by_time

Part = Literal["validation", "test"]
Labels = npt.NDArray[np.str_]
"""What the data set says of each event, as in `EvaluationSet.labels`. Shape: ``(E,)``."""


@dataclass(frozen=True)
class Exam:
    """A split of a log, and how models are asked about it."""

    name: str
    events: Interactions
    """The log; where a protocol ends sessions early or drops events, what is left of it."""
    split: Split
    windows: Windows
    """How what a model is fed is cut: as the paper does, or as it is served."""
    excluded: Excluded
    """What may not be listed."""
    last_only: bool = False
    """Whether only the last event that a user has in a part is asked for."""
    known_items_only: bool = True
    """Whether only items that the model may have learned may be listed."""
    of_new_only: frozenset[Part] = frozenset()
    """Parts whose events were all dropped, as none was of a known item."""
    has_arrival: bool = True
    """Whether the events of all users stand in the order in which they came, and not only those of each."""

    @property
    def numbers(self) -> IntArray:
        """Item number of each event. Shape: ``(E,)``."""
        return self.events.item_codes + 1

    @property
    def training(self) -> Interactions:
        """The events that a model may be fitted to."""
        return self.events.where(self.split.train)

    def before(self, part: Part) -> BoolArray:
        """The events before a part: those it is not asked about, and may be known. Shape: ``(E,)``."""
        return self.split.train if part == "validation" else self.split.train | self.split.validation

    def queries(self, part: Part = "test") -> Queries:
        """What models are asked about a part. An item that is unknown before the part stays a query, and is missed."""
        is_target = self.split.validation if part == "validation" else self.split.test
        n_items = len(self.events.item_ids)
        item_counts = np.bincount(self.numbers[self.before(part)], minlength=n_items + 1)
        known = item_counts > 0 if self.known_items_only else None
        numbers = self.numbers if known is None else np.where(known[self.numbers], self.numbers, 0)
        if self.last_only:
            is_target = UserOrder.of(self.events.user_codes).is_last(is_target)
        return Queries.of(self.events, numbers, is_target, item_counts, self.windows, self.excluded, known)


def leave_one_out(events: Interactions, windows: Windows, excluded: Excluded = "seen") -> Exam:
    """Each user's last event is test, the one before it validation; users of fewer than three only train.

    Every item of the log may be listed, as in the papers, and what users do later than others test is trained on.
    """
    order = UserOrder.of(events.user_codes)
    n_users = len(events.user_ids)
    n_events = np.bincount(events.user_codes, minlength=n_users)[events.user_codes]
    from_the_end = np.where(n_events < 3, 3, n_events - order.n_before)
    split = Split(from_the_end > 2, from_the_end == 2, from_the_end == 1)
    return Exam("leave-one-out", events, split, windows, excluded, known_items_only=False)


def sessions(
    events: Interactions,
    labels: Labels,
    windows: Windows,
    excluded: Excluded = "none",
    validation_fraction: float = 0.0,
    drop_unknown: bool = True,
) -> Exam:
    """Every event after the first of a test session is asked for, from all that came before it in the session.

    Args:
        events: The log; each session is a user of its own.
        labels: `train`, `valid` and `test`.
        windows: How windows are cut.
        excluded: What may not be listed.
        validation_fraction: Share of the training sessions, those that end last, to validate on where the labels
            have no `valid`.
        drop_unknown: As in `global_time`; the papers drop them.

    Raises:
        DatasetError: If an event has another label, or the labels have no `test`.
    """
    found = set(np.unique(labels).tolist())
    if "test" not in found or found - {"train", "valid", "test"}:
        raise DatasetError(f"sessions are split by the labels train, valid and test; these are {sorted(found)}")
    train, validation, test = (labels == name for name in ("train", "valid", "test"))
    if validation_fraction and not validation.any():
        validation = train & _newest_sessions(events, train, validation_fraction)
        train &= ~validation
    exam = Exam("sessions", events, Split(train, validation, test), windows, excluded)
    return _without_unknown(exam) if drop_unknown else exam


def periods(
    events: Interactions,
    labels: Labels,
    windows: Windows,
    excluded: Excluded = "none",
    drop_unknown: bool = True,
) -> Iterator[Exam]:
    """For each period but the first: train on all before it, test on it. What is reported is the mean of the periods.

    A session that crosses the end of a period is two; every event after the first of a test session is asked for.

    Args:
        events: The log; each session is a user of its own.
        labels: The period of each event, 0, 1, …
        windows: How windows are cut.
        excluded: What may not be listed.
        drop_unknown: As in `global_time`; the paper drops them. A live replay in which models may learn new items
            keeps them.

    Raises:
        DatasetError: If a label is no whole number, or all are the same.
    """
    try:
        period = labels.astype(np.int64)
    except ValueError as error:
        raise DatasetError(f"periods are whole numbers in the column `value`: {error}") from error
    if len(names := np.unique(period)) < 2:
        raise DatasetError(f"a log in periods has at least two of them; this one has {len(names)}")
    width = int(names[-1]) + 1
    pieces, codes = np.unique(events.user_codes * width + period, return_inverse=True)
    user_ids = [f"{events.user_ids[piece // width]}/{piece % width}" for piece in pieces.tolist()]
    cut = replace(events, user_ids=user_ids, user_codes=codes.astype(np.int64))
    for now in names[1:]:
        so_far = period <= now
        test = period[so_far] == now
        split = Split(~test, np.zeros_like(test), test)
        exam = Exam(f"period {now}", cut.where(so_far), split, windows, excluded)
        yield _without_unknown(exam) if drop_unknown else exam


def global_time(
    events: Interactions,
    windows: Windows,
    excluded: Excluded = "seen",
    validation_fraction: float = 0.1,
    test_fraction: float = 0.1,
    every_step: bool = True,
    drop_unknown: bool = True,
) -> Exam:
    """The newest events of all users test, those before them validate: nobody learns from what came later.

    Args:
        events: The log.
        windows: How windows are cut.
        excluded: What may not be listed.
        validation_fraction: Share of the events.
        test_fraction: Share of the events.
        every_step: Whether each event of a part is asked for, from all before it, or only each user's last.
        drop_unknown: Whether events of items that were not known before their part are dropped from inputs and
            targets, as in the paper, or asked for: then only a model that learns them can know them.
    """
    split = split_by_time(events, validation_fraction, test_fraction)
    name = "global-time" if every_step else "global-time-last"
    exam = Exam(name, events, split, windows, excluded, last_only=not every_step)
    return _without_unknown(exam) if drop_unknown else exam


def held_out(exam: Exam, fraction: float, drop_unknown: bool = True) -> Exam:
    """An exam of the training part alone, where there is no validation part: its newest users validate.

    Args:
        exam: One that has a validation part comes back as it is.
        fraction: Share of the users of the training part, those that end last.
        drop_unknown: As in `global_time`.
    """
    train = exam.split.train
    if exam.split.validation.any() or "validation" in exam.of_new_only:
        return exam
    events = exam.events.where(train)
    newest = _newest_sessions(events, np.ones(len(events), dtype=bool), fraction)
    within = replace(exam, events=events, split=Split(~newest, newest, np.zeros_like(newest)))
    return _without_unknown(within) if drop_unknown else within


def _newest_sessions(events: Interactions, train: BoolArray, fraction: float) -> BoolArray:
    """Which events are of the training sessions that end last. Shape: ``(E,)``."""
    ends_ms = np.full(len(events.user_ids), -1)
    np.maximum.at(ends_ms, events.user_codes[train], events.times_ms[train])
    by_end = np.argsort(ends_ms, kind="stable")
    n_trained = np.count_nonzero(ends_ms >= 0)
    is_newest = np.zeros(len(ends_ms), dtype=bool)
    is_newest[by_end[len(by_end) - round(fraction * n_trained) :]] = True
    return is_newest[events.user_codes]


def _without_unknown(exam: Exam) -> Exam:
    """Drop the events of the validation and the test part whose item is not in the parts before."""
    events, split = exam.events, exam.split
    keep, of_new_only = split.train.copy(), set(exam.of_new_only)
    parts: tuple[tuple[Part, BoolArray], ...] = (("validation", split.validation), ("test", split.test))
    for name, part in parts:
        known = np.zeros(len(events.item_ids), dtype=bool)
        known[events.item_codes[keep]] = True
        left = part & known[events.item_codes]
        if part.any() and not left.any():
            of_new_only.add(name)
        keep |= left
    kept = Split(split.train[keep], split.validation[keep], split.test[keep])
    return replace(exam, events=events.where(keep), split=kept, of_new_only=frozenset(of_new_only))
