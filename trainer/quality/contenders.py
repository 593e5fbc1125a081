"""Models by name: which are compared on a data set, and how each is set. One TOML file for each data set.

Each table is a model, and what it is called::

    excluded = "none"           # of the file, before the tables: see `Configuration`

    [sasrec]                    # `model` is the table's name where it is not given
    max_epochs = 16             # the keys of `TrainerSettings` that concern a fit

    [session-knn]
    lists_last_item = true      # the keys of `SessionKNNConfig`

    [session-knn-live]
    model = "session-knn"
    live = true                 # asked before each event, and then it learns the event

    [both]
    model = "blend"
    members = ["sasrec", "session-knn"]
    fusion = "probability"      # and weights = [0.7, 0.3]; without them they are learned on validation
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from encoders.blend import Metric
from encoders.bundle import ENCODERS, NETWORKS
from encoders.fusion import Fusion
from encoders.markov import MarkovConfig
from encoders.popularity import PopularityConfig
from encoders.session_knn import SessionKNNConfig
from trainer.errors import ContenderError
from trainer.evaluation.queries import Excluded
from trainer.evaluation.sets import SplitBy
from trainer.settings import FactorsSettings, TrainerSettings

ConfigT = TypeVar("ConfigT", bound=BaseModel)
CONFIGURATIONS = Path(__file__).parent / "configurations"
"""Those that `make quality` runs, a file for each data set, by its folder's name."""
FIT_KEYS = frozenset(
    {"embedding_dim", "hidden_dim", "n_layers", "n_heads", "dropout", "item_dropout", "max_epochs", "batch_size"}
    | {
        "learning_rate",
        "weight_decay",
        "adam_beta2",
        "loss",
        "n_negatives",
        "seen_negatives",
        "negatives_power",
        "gbce_calibration",
    }
    | {"threads"}
)
"""Keys of `TrainerSettings` that decide a fit here: the exam splits the data, and a fit goes on for `max_epochs`."""


class PlainPopularityConfig(PopularityConfig):
    """How popularity is counted: as papers do, without decay, if nothing else is said."""

    half_life_s: float | None = Field(default=None, gt=0)
    """As there. Some data sets hold no times."""


class BlendConfig(BaseModel):
    """Several models as one."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    members: tuple[str, ...] = Field(min_length=2)
    """Names of other tables, or of models as they are without one."""
    weights: tuple[float, ...] | None = None
    """How much each member counts; without them, learned on validation."""
    fusion: Fusion = "reciprocal_rank"
    depth: int = Field(default=100, ge=1)
    """How many items each member is asked for."""
    metric: Metric = "mrr"
    """What weights are learned for, at 20."""

    @model_validator(mode="after")
    def _a_weight_for_each(self) -> Self:
        if self.weights is not None:
            if len(self.weights) != len(self.members):
                raise ValueError(f"there are {len(self.members)} members and {len(self.weights)} weights")
            if not all(0 <= weight < inf for weight in self.weights) or not any(self.weights):
                raise ValueError(f"weights are finite, not negative, and not all 0; these are {list(self.weights)}")
        return self


CONFIGS: dict[str, type[BaseModel]] = {
    "popularity": PlainPopularityConfig,
    "markov": MarkovConfig,
    "session-knn": SessionKNNConfig,
    "mf": FactorsSettings,
    **dict.fromkeys(NETWORKS, TrainerSettings),
    "blend": BlendConfig,
}
"""What each model is set by."""


@dataclass(frozen=True)
class Contender:
    """A model that is compared."""

    name: str
    model: str
    """One of `CONFIGS`."""
    config: BaseModel
    live: bool = False
    """Whether it is asked before each event as it arrives, and learns the event if it can."""
    members: tuple[Contender, ...] = ()
    """Of a blend."""

    @property
    def is_seeded(self) -> bool:
        """Whether chance has a part in it."""
        return self.model in ENCODERS or any(member.is_seeded for member in self.members)

    @property
    def configuration(self) -> dict[str, Any]:
        """Whatever decides its answers but data and seed, for JSON."""
        chosen = self.config.model_dump(mode="json", include=set(FIT_KEYS) if self.model in NETWORKS else None)
        members = {"members": {member.name: member.configuration for member in self.members}} if self.members else {}
        return {"model": self.model, "live": self.live, **chosen, **members}


class FileSettings(BaseModel):
    """What a file says before its tables, of all its models."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    split: SplitBy = "paper"
    """What is learned, and what is asked."""
    windows: Literal["paper", "served"] = "paper"
    """What models are fed: the crop of the data set's paper, or windows as workers keep them, who pass over events of
    types that enter none."""
    excluded: Excluded | None = None
    """What may not be listed; None for the paper's choice."""
    validation_fraction: float = Field(default=0.1, gt=0, lt=0.5)
    """Share of the training users, those that end last, to validate on where the data set says nothing of it."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """What `make quality` fits each model that depends on chance with."""


@dataclass(frozen=True)
class Configuration:
    """The models of one data set."""

    settings: FileSettings = field(default_factory=FileSettings)
    tables: Mapping[str, Contender] = field(default_factory=dict)
    source: str = "the defaults"
    """Where it stands, for messages."""

    def pick(self, names: Sequence[str]) -> list[Contender]:
        """The named ones: tables, or models as they are without one.

        Raises:
            ContenderError: If a name is neither.
        """
        return [_find(name, self, self.source) for name in names]


def committed(data: str) -> Path | None:
    """The file that `make quality` has for a data set, if it has one."""
    path = CONFIGURATIONS / f"{data}.toml"
    return path if path.is_file() else None


def read_configuration(path: Path) -> Configuration:
    """Read the models of a data set.

    Raises:
        ContenderError: If the file is no TOML, or a table or a key of it is unknown or wrong.
    """
    content = read_toml(path)
    tables = {name: table for name, table in content.items() if isinstance(table, dict)}
    settings = checked(
        FileSettings, {k: v for k, v in content.items() if k not in tables}, f"{path}, before the tables"
    )
    found = {name: _contender(name, table, f"{path}, [{name}]") for name, table in tables.items()}
    configuration = Configuration(settings, found, str(path))
    return Configuration(settings, {name: _complete(each, configuration) for name, each in found.items()}, str(path))


def read_toml(path: Path) -> dict[str, Any]:
    """What a file of settings says.

    Raises:
        ContenderError: If it cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text())
    except OSError as error:
        raise ContenderError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ContenderError(f"{path} is not TOML: {error}") from error


def _contender(name: str, table: Mapping[str, Any], place: str) -> Contender:
    """What a table says; the members of a blend are still to be found."""
    given = dict(table)
    model, live = given.pop("model", name), given.pop("live", False)
    if model not in CONFIGS:
        raise ContenderError(f"{place}: there is no model {model!r}; `model` is one of {', '.join(CONFIGS)}")
    if not isinstance(live, bool):
        raise ContenderError(f"{place}: live is true or false, not {live!r}")
    if model in NETWORKS:
        _insist_on_known(given, FIT_KEYS, place)
        given["model"] = model
    return Contender(name, model, checked(CONFIGS[model], given, place), live)


def _complete(contender: Contender, configuration: Configuration) -> Contender:
    """A blend with its members."""
    if not isinstance(contender.config, BlendConfig):
        return contender
    place = f"{configuration.source}, [{contender.name}], members"
    members = tuple(_find(name, configuration, place) for name in contender.config.members)
    if wrong := [member.name for member in members if member.model == "blend"]:
        raise ContenderError(f"{place}: a member of a blend is no blend itself, as {wrong[0]} is")
    return Contender(contender.name, contender.model, contender.config, contender.live, members)


def _find(name: str, configuration: Configuration, place: str) -> Contender:
    """The table of that name, or the model as it is without one."""
    if name in configuration.tables:
        return configuration.tables[name]
    if name == "blend":
        raise ContenderError(
            f'{place}: a blend needs a table that says of what it is one, such as [both] with model = "blend" and '
            'members = ["gru", "markov"]'
        )
    if name not in CONFIGS:
        there = dict.fromkeys([*configuration.tables, *CONFIGS])
        raise ContenderError(
            f"{place}: there is no model {name!r}; there are {', '.join(n for n in there if n != 'blend')}"
        )
    return _contender(name, {}, place)


def checked(kind: type[ConfigT], given: Mapping[str, Any], place: str) -> ConfigT:
    """The given keys as a configuration.

    Args:
        kind: Of which.
        given: Keys and values.
        place: Where they stand, for messages.

    Raises:
        ContenderError: If a key is unknown or a value is wrong.
    """
    _insist_on_known(given, kind.model_fields, place)
    try:
        return kind.model_validate(given)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}".removeprefix(": ") for e in error.errors())
        raise ContenderError(f"{place}: {wrong}") from None


def _insist_on_known(given: Mapping[str, Any], known: Any, place: str) -> None:
    if unknown := [key for key in given if key not in known]:
        raise ContenderError(f"{place}: there is no key {unknown[0]!r}; there are {', '.join(sorted(known))}")
