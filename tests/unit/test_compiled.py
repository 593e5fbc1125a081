"""Compiled loops: what they copy, and that no event waits for a compiler."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core.dispatcher import Dispatcher

from encoders.compiled import as_bytes, copy_bytes, read_int, write_int
from index.flat import FlatIndex
from index.ivf import IVFFlatIndex
from streams.pipeline import Rules, Serving, Source, compile_loops, process
from streams.record_batch import record_batches
from streams.serving import warm_up
from streams.session import SessionKey, StoredSession
from tests.inmemory import NOW_MS, click, events, finding, model


@pytest.mark.parametrize(("start", "n"), [(0, 0), (0, 7), (3, 4), (1, 1)])
def test_bytes_are_copied_as_many_as_asked_for(start: int, n: int) -> None:
    into = np.zeros(9, dtype=np.uint8)
    assert copy_bytes(into, 2, as_bytes(b"abcdefg"), start, n) == 2 + n
    assert into.tobytes() == (b"\0\0" + b"abcdefg"[start : start + n]).ljust(9, b"\0")


@pytest.mark.parametrize(("value", "n"), [(0, 1), (255, 1), (65_535, 2), (2**40 + 3, 8), (-1, 8), (-(2**63), 8)])
def test_integers_come_back_as_they_were_written(value: int, n: int) -> None:
    into = np.full(10, 7, dtype=np.uint8)
    assert write_int(into, 1, value, n) == 1 + n
    assert into[1 : 1 + n].tobytes() == value.to_bytes(n, "little", signed=value < 0)
    assert read_int(into, 1, n) == value
    assert into[0] == into[1 + n] == 7


def compiled_signatures() -> dict[str, list[Any]]:
    """What has been compiled so far, by function."""
    ours = [module for name, module in sys.modules.items() if name.startswith(("encoders.", "index.", "streams."))]
    found = {id(value): value for module in ours for value in vars(module).values() if isinstance(value, Dispatcher)}
    return {f"{each.__module__}.{each.__name__}": list(each.signatures) for each in found.values()}


def main() -> None:
    """Compile, answer events, and name what was compiled only then."""
    compile_loops()
    servings = [Serving(model("compiled", index_type=index_type)) for index_type in (FlatIndex, IVFFlatIndex)]
    for serving in servings:
        if serving.model:
            warm_up(serving.model)
    before = compiled_signatures()
    for serving in servings:
        sessions = dict[SessionKey, StoredSession]()
        for start in (0, 5, 10, 60):
            n_users = 1 if start < 10 else 5  # of one row no array says in which order it lies
            given = [
                click(f"u{n % n_users}", str(n % 12), event_id=f"{start}-{n}")
                for n in range(start, start + 5 * n_users * n_users)
            ]
            (outcome,) = process(
                [finding(Source("c", "t", 0), events(given, start), sessions)], serving, Rules(), NOW_MS
            )
            record_batches(outcome.lists, NOW_MS, 1000)
            sessions = {
                key: StoredSession(packed, outcome.seen.get(key, b"")) for key, packed in outcome.sessions.items()
            }
    late = {name: kinds for name, kinds in compiled_signatures().items() if kinds != before.get(name, [])}
    sys.exit(f"compiled while events waited: {late}" if late else 0)


def test_what_is_compiled_before_the_first_event_is_all_that_a_batch_needs() -> None:
    """In a process of its own: in this one other tests have compiled everything already."""
    command = [sys.executable, "-c", "from tests.unit.test_compiled import main; main()"]
    done = subprocess.run(command, cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
