"""`streamrec demo` on a small data set of its own: the whole way, and an end by Ctrl-C."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.processes import until

pytestmark = pytest.mark.timeout(400)

N_USERS, EVENTS_EACH, N_ITEMS = 120, 40, 80


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Users who mostly go from item i to item i + 7; each begins a little later than the one before."""
    choose = random.Random(7)
    events = []
    for user in range(N_USERS):
        item = choose.randrange(N_ITEMS)
        for n in range(EVENTS_EACH):
            item = (item + 7) % N_ITEMS if choose.random() < 0.9 else choose.randrange(N_ITEMS)
            events.append((1000 * n + 400 * user, user, item))
    folder = tmp_path_factory.mktemp("walks")
    rows = "".join(f"u{user},i{item},{time_s},click,\n" for time_s, user, item in events)
    (folder / "events.csv").write_text(f"user_id,item_id,timestamp,event_type,value\n{rows}")
    titles = "".join(f"i{item},Film {item}\n" for item in range(N_ITEMS))
    (folder / "items.csv").write_text(f"item_id,title\n{titles}")
    return folder


@contextmanager
def demo(data: Path, directory: Path, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    """The demo as a process, which writes to `said.txt`; killed on exit if it still runs."""
    command = [sys.executable, "-u", "-m", "streams.cli", "demo", "--data", str(data), *options]
    environment = {**os.environ, "TMPDIR": str(directory)}
    with (directory / "said.txt").open("w") as said:
        process = subprocess.Popen(command, stdout=said, stderr=subprocess.STDOUT, env=environment)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def left_running(directory: Path) -> list[str]:
    """Command lines of the demo's workers and trainers that still run."""
    listed = subprocess.run(["ps", "-ww", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    return [line for line in listed.splitlines() if str(directory) in line]


def test_the_demo_loses_nothing_and_both_models_answer(data: Path, tmp_path: Path) -> None:
    with demo(data, tmp_path, "--rate", "150", "--json", str(tmp_path / "figures.json")) as process:
        code = process.wait(timeout=380)
    said = (tmp_path / "said.txt").read_text()
    assert code == 0, said[-3000:]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert figures["events_in"] == N_USERS * EVENTS_EACH
    assert figures["recommendations_out"] == figures["events_in"] + figures["duplicated"]
    assert (figures["lost"], figures["state_mismatches"], len(figures["model_versions"])) == (0, 0, 2)
    assert figures["hit_rate_at_10"] > 2 * figures["popularity_hit_rate_at_10"]
    assert all(None not in figures["latency_ms"][phase].values() for phase in ("steady", "swap", "takeover"))
    assert "\x1b" not in said
    assert "just watched Film" in said
    assert left_running(tmp_path) == []


def test_ctrl_c_ends_every_process(data: Path, tmp_path: Path) -> None:
    with demo(data, tmp_path) as process:
        until(lambda: "\n3. " in (tmp_path / "said.txt").read_text(), "the workers to start", 120)
        until(lambda: len(left_running(tmp_path)) >= 2, "the workers to run")
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert left_running(tmp_path) == []
    assert list(tmp_path.glob("streamrec-demo-*")) == []
