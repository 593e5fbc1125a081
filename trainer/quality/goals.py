"""What models are to reach on a data set, and what was published for it: read from `goals.toml`."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

GOALS = Path(__file__).with_name("goals.toml")

Figures = Mapping[str, float]
"""Values by figure, as in ``ndcg@10``."""


class Goal(BaseModel):
    """What at least one model is to reach."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    live: bool = False
    model: str | None = None
    """Which kind of model; None for any."""
    figures: dict[str, float]
    aim: dict[str, float] = Field(default_factory=dict)
    """What would be better still."""

    def is_met(self, figures: Figures) -> bool:
        """Whether a model with these figures reaches all of it."""
        return all(figures[name] >= value for name, value in self.figures.items())

    def is_aim_met(self, figures: Figures) -> bool:
        """Whether it reaches all of the aim, too."""
        return all(figures[name] >= value for name, value in self.aim.items())


class Published(BaseModel):
    """What a paper reports for the same split."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str
    name: str
    model: str | None = None
    """The kind of our models that is to come near it."""
    figures: dict[str, float]

    def is_met(self, figures: Figures, tolerance: float) -> bool:
        """Whether a model lands within a share of it, or above."""
        return all(figures[name] >= (1 - tolerance) * value for name, value in self.figures.items())


class Goals(BaseModel):
    """All of them."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    tolerance: float
    goal: tuple[Goal, ...]
    published: tuple[Published, ...]

    def of(self, data: str, live: bool) -> tuple[list[Goal], list[Published]]:
        """Those of a data set; what is published is of models that are not live."""
        goals = [goal for goal in self.goal if (goal.data, goal.live) == (data, live)]
        return goals, [] if live else [each for each in self.published if each.data == data]


def read_goals(path: Path = GOALS) -> Goals:
    """Read the goals."""
    return Goals.model_validate(tomllib.loads(path.read_text()))
