"""How `streamrec bench` ends."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.bench.benchmark import BENCHMARKS, Figures
from streams.cli.bench.errors import BenchError
from streams.cli.bench.stage import Stage

WORKERS = import_module(BENCHMARKS["workers"].module)
LOSSES = [
    *(("throughput", key) for key in ("lost", "naive_lost", "take_lost", "quix_lost")),
    *(("latency", key) for key in ("lost", "broker_lost")),
    *(("catalogue", f"{name}_lost") for name in ("ml1m", "diginetica", "100k", "1m")),
    *((name, "lost") for name in ("history", "workers", "reload")),
]


def bench(monkeypatch: pytest.MonkeyPatch, name: str, figures: Figures, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and words of a run of one benchmark that ends in given figures."""
    monkeypatch.setattr(import_module(BENCHMARKS[name].module), "run", lambda stage: figures)
    done = invoke(monkeypatch, name, *arguments)
    return done.exit_code, done.output


def invoke(monkeypatch: pytest.MonkeyPatch, name: str, *arguments: str | Path) -> Result:
    """Run one benchmark, on no servers."""
    monkeypatch.setattr("streams.cli.bench.end_as_by_ctrl_c", lambda: None)
    monkeypatch.setattr("streams.cli.bench.memory.available_memory_bytes", lambda: 1e12)
    monkeypatch.setattr(Stage, "servers", lambda stage: {"broker": "a broker", "redis": "a redis"})
    return CliRunner().invoke(app, ["bench", name, *map(str, arguments)])


def test_every_benchmark_can_lose_events() -> None:
    assert {name for name, _ in LOSSES} == set(BENCHMARKS)


@pytest.mark.parametrize(("name", "key"), LOSSES)
def test_a_benchmark_that_lost_an_event_fails(name: str, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, words = bench(monkeypatch, name, {"events": 10, key: 1})
    assert code == 1
    assert f"NOT WELL: {name} lost events: {key} 1" in words


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmark_that_lost_none_is_well(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert bench(monkeypatch, name, {"events": 10, "lost": 0})[0] == 0


def test_memory_is_asked_for_before_the_first_of_the_benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[Stage] = []
    monkeypatch.setattr(import_module(BENCHMARKS["throughput"].module), "run", ran.append)
    monkeypatch.setattr("streams.cli.bench.memory.available_memory_bytes", lambda: 3e9)
    monkeypatch.setattr("streams.cli.bench.end_as_by_ctrl_c", lambda: None)
    done = CliRunner().invoke(app, ["bench", "throughput", "reload"])
    assert isinstance(done.exception, BenchError)
    assert "reload takes about 5.0 GB of memory and 3.0 GB are available" in str(done.exception)
    assert not ran


@pytest.mark.parametrize(
    ("option", "place", "file"), [("--output", ".", "workers.json"), ("--json", "all.json", "all.json")]
)
def test_figures_of_quick_never_take_the_place_of_others(
    option: str, place: str, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = (option, tmp_path / place)
    assert bench(monkeypatch, "workers", {"events": 10, "lost": 0}, *given)[0] == 0
    real = (tmp_path / file).read_text()
    monkeypatch.setattr(WORKERS, "run", lambda stage: pytest.fail("it was measured"))
    done = invoke(monkeypatch, "workers", "--quick", *given)
    assert isinstance(done.exception, BenchError)
    assert f"{option} {given[1]}: {file} would be overwritten with figures of --quick" in str(done.exception)
    assert (tmp_path / file).read_text() == real


def test_figures_of_quick_say_so_and_give_way_to_any(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for arguments, quick in ((["--quick"], True), (["--quick"], True), ([], False)):
        assert bench(monkeypatch, "workers", {"lost": 0}, *arguments, "--output", tmp_path)[0] == 0
        assert json.loads((tmp_path / "workers.json").read_text())["quick"] is quick


def test_figures_of_a_given_kafka_have_a_file_of_their_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, n_events in (((), 10), (("--brokers", "127.0.0.1:9092"), 20)):
        assert bench(monkeypatch, "latency", {"events": n_events, "lost": 0}, *more, "--output", tmp_path)[0] == 0
    found = {path.name: json.loads(path.read_text())["latency"]["events"] for path in tmp_path.iterdir()}
    assert found == {"latency.json": 10, "latency-kafka.json": 20}


def test_an_unknown_benchmark_is_wrong_usage() -> None:
    done = CliRunner().invoke(app, ["bench", "latency", "trouput"])
    assert done.exit_code == 2
    assert "there is no benchmark trouput" in " ".join(done.output.replace("│", " ").split())


@pytest.mark.parametrize("log", [None, "worker.log"])
def test_a_folder_stays_only_where_there_are_logs_in_it(
    log: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(stage: Stage) -> Figures:
        ground = stage.directory / "ground-1"
        ground.mkdir()
        if log:
            (ground / log).write_text("last words")
        raise BenchError("it broke")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(WORKERS, "run", fails)
    done = invoke(monkeypatch, "workers")
    assert str(done.exception) == "it broke"
    assert ("logs are kept in" in done.output) is bool(log)
    assert [path.name for path in tmp_path.rglob("*.log")] == ([log] if log else [])
    assert any(tmp_path.iterdir()) is bool(log)
