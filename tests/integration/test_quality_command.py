"""`streamrec quality` as a process: cells are run, kept, and not run again."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.processes import until
from tests.servers import REPOSITORY

pytestmark = pytest.mark.timeout(300)


def start(data: Path, output: Path, *arguments: str) -> subprocess.Popen[str]:
    page, fits = output / "models.md", output / "fits"
    options = ["--output", str(output), "--page", str(page), "--fits", str(fits)]
    return subprocess.Popen(
        [sys.executable, "-m", "streams.cli", "quality", *arguments, *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=REPOSITORY,
        env={**os.environ, "STREAMREC_DATA": str(data), "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        start_new_session=True,
    )


def quality(data: Path, output: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    process = start(data, output, *arguments)
    out, err = process.communicate()
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Thirty sessions under the name of a set that is known."""
    shop = tmp_path / "data" / "serenade-sample"
    shop.mkdir(parents=True)
    rows = "".join(
        f"s{session},i{(session + step) % 8},{10 * session + step},view,{'train' if session < 24 else 'test'}\n"
        for session in range(30)
        for step in range(4)
    )
    (shop / "events.csv").write_text(f"user_id,item_id,timestamp,event_type,value\n{rows}")
    return tmp_path / "data"


def test_a_cell_is_run_once_and_drawn(data: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    output.mkdir()
    (output / "models.md").write_text((REPOSITORY / "docs" / "models.md").read_text())
    first = quality(data, output, "serenade-sample", "markov")
    assert first.returncode == 0, first.stdout + first.stderr
    assert "1 of 1 cells to run" in first.stdout
    content = json.loads((output / "serenade-sample--markov--0.json").read_text())
    assert content["figures"]["recall@5"]["mean"] == 1
    assert content["environment"]["python"]
    assert "| `markov` | 1.0000 [1.0000, 1.0000] |" in (output / "models.md").read_text()
    assert "0 of 1 cells to run" in quality(data, output, "serenade-sample", "markov").stdout


def test_cells_are_run_side_by_side(data: Path, tmp_path: Path) -> None:
    done = quality(
        data, tmp_path, "serenade-sample", "markov", "gru", "--jobs", "3", "--summary", f"{tmp_path}/run.json"
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads((tmp_path / "run.json").read_text())
    names = ["serenade-sample--markov--0", *(f"serenade-sample--gru--{seed}" for seed in range(3))]
    assert summary["cells"] == names
    assert summary["jobs"] == 3
    assert summary["failed"] == summary["fitted_before"] == []
    for name in names:
        content = json.loads((tmp_path / f"{name}.json").read_text())
        assert content["fit"]["wall_s"] < summary["wall_s"]
        # Lines of cells that are run at once say whose they are.
        lines = [line for line in done.stdout.splitlines() if line.startswith(f"{name}: ")]
        assert any("evaluating" in line for line in lines), done.stdout
    # A run that finds everything there says nothing new of the time; one that finds a fit says that it did.
    again = quality(data, tmp_path, "serenade-sample", "gru", "--seed", "1", "--summary", f"{tmp_path}/run.json")
    assert "nothing was run, so" in again.stdout
    assert json.loads((tmp_path / "run.json").read_text()) == summary
    quality(data, tmp_path, "serenade-sample", "gru", "--seed", "1", "--again", "--summary", f"{tmp_path}/run.json")
    assert json.loads((tmp_path / "run.json").read_text())["fitted_before"] == ["serenade-sample--gru--1"]


@pytest.mark.parametrize("option", ["--summary", "--output"])
def test_where_figures_cannot_be_written_is_said_before_the_work(option: str, data: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    nowhere = tmp_path / "file" / "below"
    if option == "--output":
        done = quality(data, nowhere, "serenade-sample", "popularity")
    else:
        done = quality(data, tmp_path, "serenade-sample", "popularity", option, str(nowhere))
    assert done.returncode == 1
    assert done.stderr.startswith(f"streamrec: {option} ")
    assert "1 of 1: " not in done.stdout


def test_a_cell_that_is_killed_is_named_with_what_killed_it(data: Path, tmp_path: Path) -> None:
    process = start(data, tmp_path, "serenade-sample", "gru", "--seed", "0")
    assert process.stdout is not None
    while "training gru" not in process.stdout.readline():
        assert process.poll() is None
    (cell,) = (int(pid) for pid in children_of(process.pid) if b"spawn_main" in command_of(pid))
    os.kill(cell, signal.SIGKILL)
    out, _ = process.communicate()
    assert process.returncode == 1
    assert "serenade-sample--gru--0 was ended by SIGKILL; perhaps there is too little memory" in out
    assert "NOT RUN: serenade-sample--gru--0" in out


def test_a_data_set_that_is_not_there_is_said_once_and_its_cells_are_left_out(data: Path, tmp_path: Path) -> None:
    done = quality(data, tmp_path, "serenade-sample", "s3rec-beauty", "popularity")
    assert done.returncode == 1
    assert done.stdout.count("there is no data set 's3rec-beauty'") == 1
    assert "NOT RUN: s3rec-beauty--popularity--0" in done.stdout
    assert (tmp_path / "serenade-sample--popularity--0.json").exists()


def test_a_word_that_names_nothing_is_refused_in_one_line(data: Path, tmp_path: Path) -> None:
    done = quality(data, tmp_path, "films")
    assert done.returncode == 1
    assert done.stderr.startswith("streamrec: there is no data set or model 'films'; there are")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGKILL])
def test_a_run_that_is_ended_takes_the_cell_that_it_was_at_with_it(
    ending: signal.Signals, data: Path, tmp_path: Path
) -> None:
    process = start(data, tmp_path, "serenade-sample", "popularity")
    assert process.stdout is not None
    while "1 of 1: serenade-sample--popularity--0" not in process.stdout.readline():
        assert process.poll() is None
    process.send_signal(ending)
    process.communicate()
    assert process.returncode in (130, -signal.SIGKILL)
    until(lambda: not is_anybody_left(process.pid), "all processes of the run have ended")


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


def command_of(pid: str) -> bytes:
    return Path(f"/proc/{pid}/cmdline").read_bytes()


def is_anybody_left(session: int) -> bool:
    try:
        os.killpg(session, 0)
    except ProcessLookupError:
        return False
    return True
