"""Cells of the table of quality: one model with one seed on one data set, test part, each in a file of its own."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from encoders.bundle import NETWORKS
from trainer.errors import ContenderError
from trainer.evaluation.sets import read_set, set_folder
from trainer.quality.compare import Entrant, compare
from trainer.quality.contenders import CONFIGURATIONS, FIT_KEYS, Contender, FileSettings, read_configuration
from trainer.quality.models import Workshop
from trainer.report import Report

WHOLE = ("protocol", "n_queries", "n_queries_with_new_items", "n_users", "n_items", "n_periods", "level", "n_resamples")
"""What a cell takes over from a result beside its model."""


@dataclass(frozen=True)
class Cell:
    """One model on one data set."""

    data: str
    settings: FileSettings
    contender: Contender
    seed: int

    @property
    def name(self) -> str:
        """What its file is called, without the suffix."""
        return f"{self.data}--{self.contender.name}--{self.seed}"

    @property
    def configuration(self) -> dict[str, Any]:
        """Whatever decides its figures but data and seed, for JSON."""
        return {**self.settings.model_dump(mode="json", exclude={"seeds"}), **self.contender.configuration}

    @property
    def fits(self) -> frozenset[str]:
        """What names the fits of encoders that it needs: two cells that share one would do it twice, run at once."""
        encoders = [each for each in (self.contender, *self.contender.members) if each.model in NETWORKS]
        keys = {"model", *FIT_KEYS}
        settings = [each.config.model_dump(mode="json", include=keys) for each in encoders]
        return frozenset(json.dumps([self.data, self.seed, each], sort_keys=True) for each in settings)


def all_cells(folder: Path = CONFIGURATIONS) -> list[Cell]:
    """The cells of all configurations of a folder: of each model one for each seed, if chance has a part in it.

    Raises:
        ContenderError: If a configuration is wrong.
    """
    found = []
    for path in sorted(folder.glob("*.toml")):
        configuration = read_configuration(path)
        settings = configuration.settings
        for contender in configuration.tables.values():
            seeds = settings.seeds if contender.is_seeded else settings.seeds[:1]
            found += [Cell(path.stem, settings, contender, seed) for seed in seeds]
    return found


def chosen(cells: Sequence[Cell], words: Iterable[str], seeds: Iterable[int] = ()) -> list[Cell]:
    """The cells of the named data sets, models and seeds; of all, where none is named.

    Raises:
        ContenderError: If a word is neither, or the models are not on the data sets, or not with the seeds.
    """
    data, models = {cell.data for cell in cells}, {cell.contender.name for cell in cells}
    words = set(words)
    if strange := sorted(words - data - models):
        raise ContenderError(
            f"there is no data set or model {strange[0]!r}; there are {', '.join(sorted(data))} and "
            f"{', '.join(sorted(models))}"
        )
    found = [
        cell
        for cell in cells
        if cell.data in (words & data or data) and cell.contender.name in (words & models or models)
    ]
    if not found:
        raise ContenderError(f"no cell is of {' and '.join(sorted(words))}")
    if not (wanted := set(seeds)):
        return found
    if strange_seeds := sorted(wanted - (there := {cell.seed for cell in found})):
        raise ContenderError(f"no cell has seed {strange_seeds[0]}; there are {', '.join(map(str, sorted(there)))}")
    return [cell for cell in found if cell.seed in wanted]


def run_cell(cell: Cell, working: Path | None, report: Report) -> dict[str, Any]:
    """Fit and ask a model, and give all its figures, for JSON.

    Args:
        cell: Which.
        working: Where fits are kept.
        report: Told how far it is.

    Raises:
        TrainerError: If the data set is missing, or the model cannot be made.
    """
    data = read_set(set_folder(cell.data))
    workshop = Workshop(working, cell.settings.validation_fraction, report)
    result = compare(data, cell.settings, [Entrant(cell.contender, cell.seed)], workshop, report)
    (model,) = result["models"].values()
    return {
        "data": cell.data,
        "model": cell.contender.name,
        "seed": cell.seed,
        "configuration": cell.configuration,
        **{name: result[name] for name in WHOLE if name in result},
        **model,
    }


def write_cell(folder: Path, cell: Cell, figures: Mapping[str, Any]) -> Path:
    """Write a cell's file; it is there whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{cell.name}.json"
    scratch = path.with_suffix(".writing")
    try:
        scratch.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n")
        return scratch.replace(path)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise ContenderError(f"cannot write {path}: {error.strerror}") from error


def read_cell(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """What a cell's file holds; None if there is none, or one of another configuration.

    Raises:
        ContenderError: If the file is damaged.
    """
    path = folder / f"{cell.name}.json"
    if not path.exists():
        return None
    try:
        content: dict[str, Any] = json.loads(path.read_text())
        return content if content["configuration"] == cell.configuration else None
    except (ValueError, KeyError, TypeError) as error:
        raise ContenderError(
            f"{path} is damaged: {error}; remove it, and `make quality` runs the cell again"
        ) from error


def left_s(
    todo: Sequence[Cell], took_s: Mapping[Cell, float], spent_s: Mapping[Cell, float] | None = None
) -> float | None:
    """How long cells will take: each as long as its model took with other seeds on that data set.

    Args:
        todo: Those that are not over.
        took_s: How long others took.
        spent_s: How long some of them have been running.

    Returns:
        None where a model was not timed yet: fits take from seconds to an hour.
    """
    total = 0.0
    for cell in todo:
        like = [s for done, s in took_s.items() if (done.data, done.contender.name) == (cell.data, cell.contender.name)]
        if not like:
            return None
        total += max(0.0, sum(like) / len(like) - (spent_s or {}).get(cell, 0.0))
    return total
