"""The data sets that the field's papers evaluate on: read as columns, with the protocol that each is used with.

Shape letters: ``E`` events, ``N`` items.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import compress, islice
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from encoders.events import EVENT_TRAITS, EventType
from encoders.protocols import IntArray
from encoders.window import WindowRule
from trainer.datasets import LAYOUTS, Table, read_items
from trainer.errors import DatasetError
from trainer.evaluation.protocols import Exam, Labels, global_time, leave_one_out, periods, sessions
from trainer.evaluation.queries import Crop, Excluded, Windows
from trainer.interactions import Interactions

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

DATA_VARIABLE, DEFAULT_DATA = "STREAMREC_DATA", "../shared/data"
"""Where data sets lie: the environment's name for the folder, and the folder without it."""
ROWS_AT_ONCE = 1_024
MOST_SECONDS = 1e15
"""No time is as far off as this, which in milliseconds still is a 64-bit integer."""
SplitBy = Literal["paper", "leave-one-out", "global-time", "global-time-last"]
"""What is learned and what is asked: as the paper of the data set has it, or one of `SPLITS`."""
FloatColumn = npt.NDArray[np.float64]
COLUMNS = ("user_id", "item_id", "timestamp", "event_type", "value")
OTHER_TYPE = EventType.VIEW
"""What an event counts as whose type is none of streamrec's."""


@dataclass(frozen=True)
class EvaluationSet:
    """A data set in the order of arrival, as far as it is known."""

    name: str
    events: Interactions
    """Where there are no times, an event's is its row's number in seconds."""
    labels: Labels
    """The column `value`, in which some sets hold their own split. Shape: ``(E,)``."""
    has_arrival: bool
    """Whether it is known what came before what over all users, and not only for each."""
    categories: Sequence[Sequence[str]]
    """Of item number 1, 2, …; empty where nothing is known of the items."""

    def admitted(self, rule: WindowRule) -> EvaluationSet:
        """The events of types that enter windows: a worker neither learns any other, nor is it meant to foretell it.

        Raises:
            DatasetError: If there are none.
        """
        enters = np.isin(self.events.type_codes, list(rule.codes))
        if not enters.any():
            raise DatasetError(f"{self.name}: no event enters a window; those of {', '.join(rule.event_types)} would")
        return replace(self, events=self.events.where(enters), labels=self.labels[enters])


def set_folder(name: str) -> Path:
    """The folder of a data set under `STREAMREC_DATA`.

    Raises:
        DatasetError: If it is not there.
    """
    data = Path(os.environ.get(DATA_VARIABLE, DEFAULT_DATA))
    if not (data / name).is_dir():
        there = sorted(path.name for path in data.iterdir() if path.is_dir()) if data.is_dir() else []
        others = f"; there is {', '.join(there)}" if there else ""
        raise DatasetError(
            f"there is no data set {name!r} at {data / name}{others}. {DATA_VARIABLE} names the folder of data sets"
        )
    return data / name


def read_set(folder: Path) -> EvaluationSet:
    """Read a data set without an object for each row; a million rows take two to three seconds.

    Rows that name no user or no item are left out.

    Args:
        folder: Holds the files of one of `trainer.datasets.LAYOUTS`, each gzipped or not.

    Raises:
        DatasetError: If no layout fits, or a file cannot be read as its layout says.
    """
    for layout in LAYOUTS:
        if path := layout.events.find(folder):
            events, labels, has_arrival = _read_events(layout.events, path)
            categories = _read_categories(layout.items, layout.items.find(folder), events.item_ids)
            return EvaluationSet(folder.resolve().name, events, labels, has_arrival, categories)
    raise DatasetError(f"no data set found in {folder}; it holds no {' or '.join(x.events.pattern for x in LAYOUTS)}")


def _read_categories(table: Table, path: Path | None, item_ids: Sequence[str]) -> Sequence[Sequence[str]]:
    """Categories of each item, empty without a file."""
    if path is None:
        return []
    known = {item.item_id: item.categories for item in read_items(table, path)}
    return [known.get(item_id, []) for item_id in item_ids]


def _read_events(table: Table, path: Path) -> tuple[Interactions, Labels, bool]:
    users, items, labels = _Codes(), _Codes(), _Codes()
    types = _Types()
    blocks: list[tuple[IntArray, ...]] = []
    times: list[FloatColumn] = []
    with table.cells(path) as (names, reader):
        if missing := {"user_id", "item_id", "timestamp"} - set(names):
            there = f"it has {', '.join(names)}" if any(names) else "it is empty"
            raise DatasetError(f"{path} has no column {', '.join(sorted(missing))}; {there}")
        for columns in _blocks(names, reader, path):
            user_ids, item_ids, timestamps, kinds, values = (columns[name] for name in COLUMNS)
            blocks.append((users.of(user_ids), items.of(item_ids), types.of(kinds), labels.of(values)))
            times.append(_seconds(timestamps, path))
    if not any(len(column) for column in times):
        raise DatasetError(f"{path} holds no interactions")
    user_codes, item_codes, type_codes, label_codes = (np.concatenate(column) for column in zip(*blocks, strict=True))
    times_s = np.concatenate(times)
    has_arrival = not np.isnan(times_s).any()
    if not has_arrival and not np.isnan(times_s).all():
        raise DatasetError(f"{path} has timestamps in some rows and none in others; give all or none")
    times_ms = np.round(times_s * 1000) if has_arrival else 1000 * np.arange(len(times_s))
    order = np.argsort(times_ms, kind="stable")
    events = Interactions(
        list(users),
        list(items),
        user_codes[order],
        item_codes[order],
        times_ms[order].astype(np.int64),
        type_codes[order],
        partitions=np.zeros_like(order),
        offsets=np.arange(len(order)),
    )
    return events, np.array(list(labels))[label_codes[order]], has_arrival


def _blocks(names: list[str], reader: CsvReader, path: Path) -> Iterator[Mapping[str, Sequence[str]]]:
    """Columns of some rows at a time, without those of no user or no item.

    A column that is not there is empty text, but of types, which are then all ratings.
    """
    filled, n_before = filter(None, reader), 0
    while rows := [*islice(filled, ROWS_AT_ONCE)]:
        try:
            cells = dict(zip(names, zip(*rows, strict=True), strict=True))
        except ValueError as error:
            place, row = next((place, row) for place, row in enumerate(rows) if len(row) != len(names))
            raise DatasetError(
                f"{path}: row {n_before + place + 1} below the header has {len(row)} cells where the header has "
                f"{len(names)}: {','.join(row)[:80]!r}"
            ) from error
        n_before += len(rows)
        absent = {"event_type": (EventType.RATING.value,) * len(rows)}  # as in MovieLens's own files
        empty = ("",) * len(rows)
        columns: dict[str, tuple[str, ...]] = {name: cells.get(name, absent.get(name, empty)) for name in COLUMNS}
        if "" in columns["user_id"] or "" in columns["item_id"]:
            named = [bool(user and item) for user, item in zip(columns["user_id"], columns["item_id"], strict=True)]
            columns = {name: tuple(compress(column, named)) for name, column in columns.items()}
        yield columns


class _Codes(dict[str, int]):
    """Numbers texts 0, 1, … in the order in which they come."""

    def __missing__(self, text: str) -> int:
        self[text] = code = len(self)
        return code

    def of(self, texts: Sequence[str]) -> IntArray:
        """The code of each text."""
        return np.fromiter(map(self.__getitem__, texts), np.int64, len(texts))


class _Types(_Codes):
    """Codes of event types, as `EventTraits` has them."""

    def __missing__(self, text: str) -> int:
        known = {kind.value: traits.code for kind, traits in EVENT_TRAITS.items()}
        self[text] = code = known.get(text, known[OTHER_TYPE])
        return code


def _seconds(timestamps: Sequence[str], path: Path) -> FloatColumn:
    """Seconds, NaN where there is nothing."""
    try:
        times_s = np.fromiter((float(text) if text else np.nan for text in timestamps), np.float64, len(timestamps))
    except ValueError as error:
        raise DatasetError(f"{path}: a timestamp is not a number of seconds: {error}") from error
    strange = ~(np.abs(times_s) < MOST_SECONDS)
    if np.count_nonzero(strange) > timestamps.count(""):
        text = next(text for text, is_strange in zip(timestamps, strange.tolist(), strict=True) if text and is_strange)
        raise DatasetError(f"{path}: a timestamp is not a number of seconds: {text!r}")
    return times_s


Usage = Callable[[EvaluationSet, Windows | None, bool], Iterator[Exam]]
"""The exams of a data set, with windows of their own or those that are given, without or with unknown items."""


def exams(
    data: EvaluationSet, windows: Windows | None = None, drop_unknown: bool = True, split: SplitBy = "paper"
) -> Iterator[Exam]:
    """The exams that are held on a data set: one, or one for each period.

    Args:
        data: One of `USAGES`; any other is split by global time if it has times, else by leaving one out.
        windows: How windows are cut; by default as the papers do. A worker's rule also says which events count at all.
        drop_unknown: Whether events of items that the training part does not have are dropped, as in the papers; where
            one is left out of each user, nothing is dropped. A replay in which models learn new items keeps them.
        split: One of `SPLITS`, in place of the paper's.

    Raises:
        DatasetError: If a data set without times is to be split by time, or windows as served find no event to keep.
    """
    if split == "paper":
        usage = USAGES.get(data.name) or SPLITS["global-time" if data.has_arrival else "leave-one-out"]
    else:
        usage = SPLITS[split]
    if isinstance(windows, WindowRule):
        data = data.admitted(windows)
    return (replace(exam, has_arrival=data.has_arrival) for exam in usage(data, windows, drop_unknown))


def _last_items(max_len: int, excluded: Excluded) -> Usage:
    def hold(data: EvaluationSet, windows: Windows | None, drop_unknown: bool) -> Iterator[Exam]:
        yield leave_one_out(data.events, windows or Crop(max_len), excluded)

    return hold


def _sessions(data: EvaluationSet, windows: Windows | None, drop_unknown: bool) -> Iterator[Exam]:
    yield sessions(data.events, data.labels, windows or SESSION_CROP, drop_unknown=drop_unknown)


def _periods(data: EvaluationSet, windows: Windows | None, drop_unknown: bool) -> Iterator[Exam]:
    return periods(data.events, data.labels, windows or SESSION_CROP, drop_unknown=drop_unknown)


def _by_time(every_step: bool) -> Usage:
    def hold(data: EvaluationSet, windows: Windows | None, drop_unknown: bool) -> Iterator[Exam]:
        if not data.has_arrival:
            raise DatasetError(
                f"{data.name} says in which order each user's events came, not when: it cannot be split by time; "
                "leave-one-out needs no times"
            )
        yield global_time(data.events, windows or Crop(200), every_step=every_step, drop_unknown=drop_unknown)

    return hold


SESSION_CROP = Crop(50)
SPLITS: dict[SplitBy, Usage] = {
    "leave-one-out": _last_items(200, "seen"),
    "global-time": _by_time(every_step=True),
    "global-time-last": _by_time(every_step=False),
}
"""What any data set may be split by: each user's last event tests; or the newest tenth of all, each event of it or the
last that each user has in it."""
USAGES: dict[str, Usage] = {
    "sasrec-ml-1m": _last_items(200, "fed"),  # LRURec: what is fed is left out, whatever came before may be listed
    "s3rec-beauty": _last_items(50, "seen"),  # S3-Rec
    "ml-1m": SPLITS["global-time"],
    "diginetica-srgnn": _sessions,
    "serenade-sample": _sessions,
    "diginetica-ader": _periods,
}
"""How the papers use each data set, by its folder's name."""
