"""Data sets from folders, in the layouts that MovieLens and its relatives come in."""

from __future__ import annotations

import csv
import gzip
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from sys import intern
from typing import TYPE_CHECKING, TextIO

import numpy as np
import numpy.typing as npt

from encoders.events import EVENT_TRAITS, EventType
from encoders.records import Interaction, Item, Scalar, UserProfile
from trainer.errors import DatasetError

if TYPE_CHECKING:
    from _csv import Reader as CsvReader

GENRES_100K = (
    *("unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama"),
    *("Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western"),
)
"""The genre flags at the end of each row of `u.item`, in their order."""

COLUMN_NAMES = {
    "userId": "user_id",
    "movieId": "item_id",
    "rating": "value",
    "movie_title": "title",
    "class": "categories",
    "genres": "categories",
    "release_year": "year",
}
"""How the layouts name what streamrec calls otherwise."""

WHOLE_NUMBERS = {"age", "year"}
"""Attributes that are numbers; others stay text, since a zip code such as 05201 is none."""


@dataclass(frozen=True)
class Table:
    """One file of a layout."""

    pattern: str
    """Glob of the file's name; the same name with `.gz` will do too."""
    delimiter: str
    columns: tuple[str, ...] = ()
    """Column names where the file has no header line."""
    encoding: str = "utf-8"
    category_separator: str = "|"

    def find(self, folder: Path) -> Path | None:
        """The file in ``folder``, or None. Of several, the first by name."""
        return min((*folder.glob(self.pattern), *folder.glob(f"{self.pattern}.gz")), default=None)

    @contextmanager
    def cells(self, path: Path) -> Iterator[tuple[list[str], CsvReader]]:
        """Column names, as streamrec calls them, and a reader of the rows' cells.

        Raises:
            DatasetError: If the file is not text of the expected form.
        """
        try:
            with _open_text(path, self.encoding) as file:
                reader = csv.reader(
                    file,
                    delimiter=self.delimiter,
                    quoting=csv.QUOTE_MINIMAL if self.delimiter == "," else csv.QUOTE_NONE,
                )
                header: Sequence[str] = self.columns or next(reader, [])
                yield [COLUMN_NAMES.get(n := cell.split(":")[0], n) for cell in header], reader
        except (UnicodeDecodeError, csv.Error, gzip.BadGzipFile, EOFError) as error:
            raise DatasetError(f"{path} is not {self.encoding} text in columns: {error}") from error

    def rows(self, path: Path) -> Iterator[tuple[int, dict[str, str]]]:
        """Line number and named cells of each row.

        Raises:
            DatasetError: If the file is not text of the expected form.
        """
        with self.cells(path) as (names, reader):
            for cells in reader:
                if cells:
                    yield reader.line_num, dict(zip(names, cells, strict=False))


@dataclass(frozen=True)
class Layout:
    """How one family of data sets lays out its files."""

    name: str
    events: Table
    items: Table
    users: Table

    @property
    def description(self) -> str:
        """For messages: what it is and which file gives it away."""
        return f"{self.name} ({self.events.pattern}, and {self.items.pattern}, {self.users.pattern} if there)"


LAYOUTS = (
    Layout(
        "GroupLens 100K",
        Table("u.data", "\t", ("user_id", "item_id", "value", "timestamp")),
        Table("u.item", "|", ("item_id", "title", "release_date", "video_date", "imdb_url", *GENRES_100K), "latin-1"),
        Table("u.user", "|", ("user_id", "age", "gender", "occupation", "zip_code")),
    ),
    Layout("GroupLens", Table("ratings.csv", ","), Table("movies.csv", ","), Table("users.csv", ",")),
    Layout("streamrec", Table("events.csv", ","), Table("items.csv", ","), Table("users.csv", ",")),
    Layout(
        "RecBole atomic",
        Table("*.inter", "\t"),
        Table("*.item", "\t", category_separator=" "),
        Table("*.user", "\t"),
    ),
)


@dataclass(frozen=True)
class Events:
    """Interactions as columns, in the order of time; rows of equal time stay in the file's order."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    """Empty where an event is of none."""
    event_types: Sequence[EventType]
    timestamps_ms: npt.NDArray[np.int64]
    values: Sequence[float | None]

    def __len__(self) -> int:
        return len(self.user_ids)


@dataclass(frozen=True)
class Dataset:
    """What users did, in the order of time, with what is known of items and users."""

    name: str
    layout: str
    events: Events
    items: Sequence[Item] = ()
    users: Sequence[UserProfile] = ()
    skipped: Counter[str] = field(default_factory=Counter)
    """Rows left out, counted by reason."""

    def row_at(self, share: float) -> int:
        """The first row that is past the given share of the events, in time.

        Example:
            >>> ten = Events(["u"] * 10, ["i"] * 10, [EventType.CLICK] * 10, np.arange(10), [None] * 10)
            >>> Dataset("ten", "streamrec", ten).row_at(0.8)
            8
        """
        if not 0.0 <= share <= 1.0:
            raise ValueError(f"a share of the events lies between 0 and 1, not at {share}")
        return round(share * len(self.events))

    def interactions(self, start: int = 0, end: int | None = None) -> Iterator[Interaction]:
        """The records of rows ``start`` to ``end``. The same row always has the same `event_id`.

        Raises:
            ValidationError: If a row cannot be a record, as with an empty user id.
        """
        events = self.events
        for row in range(len(events))[start:end]:
            yield Interaction(
                event_id=f"{self.name}-{row}",
                user_id=events.user_ids[row],
                item_id=events.item_ids[row] or None,
                event_type=events.event_types[row],
                timestamp_ms=int(events.timestamps_ms[row]),
                value=events.values[row],
            )


def read_dataset(folder: Path) -> Dataset:
    """Read the data set in ``folder``, whose layout is found from the files' names.

    Args:
        folder: Holds the files of one of `LAYOUTS`, each gzipped or not.

    Raises:
        DatasetError: If no layout fits, a file cannot be read as its layout says, or nothing is left.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder} is not a folder; name the folder that holds the data set's files")
    for layout in LAYOUTS:
        if events_path := layout.events.find(folder):
            events, skipped = _read_events(layout.events, events_path)
            items = read_items(layout.items, path) if (path := layout.items.find(folder)) else ()
            users = _read_users(layout.users, path) if (path := layout.users.find(folder)) else ()
            name = events_path.stem if layout.events.pattern.startswith("*") else folder.resolve().name
            return Dataset(name, layout.name, events, items, users, skipped)
    looked_for = "; ".join(layout.description for layout in LAYOUTS)
    there = ", ".join(sorted(path.name for path in folder.iterdir())[:8]) or "nothing"
    raise DatasetError(f"no data set found in {folder}. Looked for: {looked_for}. The folder holds: {there}")


def _open_text(path: Path, encoding: str) -> TextIO:
    if path.suffix == ".gz":
        return gzip.open(path, "rt", encoding=encoding, newline="")
    return path.open(encoding=encoding, newline="")


def _read_events(table: Table, path: Path) -> tuple[Events, Counter[str]]:
    users: list[str] = []
    items: list[str] = []
    kinds: list[EventType] = []
    times: list[int] = []
    values: list[float | None] = []
    skipped: Counter[str] = Counter()
    known = {kind.value: kind for kind in EventType}
    for line, row in table.rows(path):
        kind = known.get(event_type := row.get("event_type", EventType.RATING.value))
        if kind is None:
            skipped[f"event_type {event_type!r} is none of streamrec's"] += 1
            continue
        try:
            user_id, item_id, time_ms = row["user_id"], row["item_id"], round(float(row["timestamp"]) * 1000)
        except KeyError as error:
            raise DatasetError(f"{path} line {line} has no column {error}; it has {', '.join(row)}") from error
        except (ValueError, OverflowError) as error:
            raise DatasetError(
                f"{path} line {line}: timestamp {row['timestamp']!r} is not a number of seconds"
            ) from error
        if missing := "user" if not user_id else "item" if not item_id and EVENT_TRAITS[kind].needs_item else "":
            skipped[f"no {missing} is named"] += 1
            continue
        users.append(intern(user_id))
        items.append(intern(item_id))
        kinds.append(kind)
        times.append(time_ms)
        values.append(_number(row.get("value", "")))
    if not users:
        reasons = "; ".join(f"{n} rows: {reason}" for reason, n in skipped.items()) or "it has no rows"
        raise DatasetError(f"{path} holds no interactions: {reasons}")
    timestamps_ms = np.array(times, dtype=np.int64)
    order = np.argsort(timestamps_ms, kind="stable").tolist()
    events = Events(
        [users[row] for row in order],
        [items[row] for row in order],
        [kinds[row] for row in order],
        timestamps_ms[order],
        [values[row] for row in order],
    )
    return events, skipped


def read_items(table: Table, path: Path) -> list[Item]:
    """What a file of a layout says of items.

    Raises:
        DatasetError: If a row has no item id.
    """
    genres = [name for name in table.columns if name in GENRES_100K]
    items = []
    for line, row in table.rows(path):
        title, year = row.pop("title", ""), row.get("year", "")
        if genres:
            categories = [name for name in genres if row.pop(name, "0") == "1"]
        else:
            categories = [c for c in row.pop("categories", "").split(table.category_separator) if c]
        items.append(
            Item(
                item_id=_required(row, "item_id", path, line),
                title=(f"{title} ({year})" if year and f"({year})" not in title else title) or None,
                categories=[c for c in categories if c != "(no genres listed)"],
                attributes=_attributes(row),
            )
        )
    return items


def _read_users(table: Table, path: Path) -> list[UserProfile]:
    rows = table.rows(path)
    return [UserProfile(user_id=_required(row, "user_id", path, n), attributes=_attributes(row)) for n, row in rows]


def _required(row: dict[str, str], column: str, path: Path, line: int) -> str:
    if value := row.pop(column, ""):
        return value
    raise DatasetError(f"{path} line {line} has no {column}; its columns are {column}, {', '.join(row)}")


def _attributes(row: dict[str, str]) -> dict[str, Scalar]:
    return {k: int(v) if k in WHOLE_NUMBERS and v.isdecimal() else v for k, v in row.items() if v}


def _number(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None
