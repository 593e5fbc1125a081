"""Models of ratings by name, as a file says how each is set.

Each table is a model, and what it is called::

    [mf-ratings]                # `model` is the table's name where it is not given
    embedding_dim = 80

    [small]
    model = "mf-ratings"
    embedding_dim = 10
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from trainer.errors import ContenderError
from trainer.quality.contenders import checked, read_toml
from trainer.ratings.model import BiasesConfig, MeanConfig, RatingConfig, RatingFactorsConfig

CONFIGS: dict[str, type[RatingConfig]] = {
    "mean": MeanConfig,
    "biases": BiasesConfig,
    "mf-ratings": RatingFactorsConfig,
}
"""What each model is set by, the simplest first."""


def pick_rating_models(names: Sequence[str], path: Path | None = None) -> dict[str, RatingConfig]:
    """The named ones: tables of the file, or models as they are without one.

    Raises:
        ContenderError: If a name is neither, or the file cannot be read or says what does not exist.
    """
    content = read_toml(path) if path else {}
    if loose := [key for key, value in content.items() if not isinstance(value, dict)]:
        raise ContenderError(f"{path}: {loose[0]!r} stands in no table, which says of which model it is")
    tables: dict[str, RatingConfig] = {
        name: _configured(name, table, f"{path}, [{name}]") for name, table in content.items()
    }
    there = {**{name: kind() for name, kind in CONFIGS.items()}, **tables}
    if strange := [name for name in names if name not in there]:
        raise ContenderError(f"there is no model {strange[0]!r} of ratings; there are {', '.join(there)}")
    return {name: there[name] for name in names}


def _configured(name: str, table: dict[str, Any], place: str) -> RatingConfig:
    given = dict(table)
    model = given.pop("model", name)
    if model not in CONFIGS:
        raise ContenderError(f"{place}: there is no model {model!r} of ratings; `model` is one of {', '.join(CONFIGS)}")
    return checked(CONFIGS[model], given, place)
