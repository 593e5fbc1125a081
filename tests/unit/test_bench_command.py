"""How `streamrec bench` ends."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.cli.bench.benchmark import BENCHMARKS, Figures
from streams.cli.bench.errors import BenchError
from streams.cli.bench.stage import Stage

LOSSES = [
    *(("throughput", key) for key in ("lost", "naive_lost", "take_lost", "quix_lost")),
    *(("latency", key) for key in ("lost", "broker_lost")),
    *(("catalogue", f"{name}_lost") for name in ("ml1m", "diginetica", "100k", "1m")),
    *((name, "lost") for name in ("history", "workers", "reload")),
]


def bench(monkeypatch: pytest.MonkeyPatch, name: str, figures: Figures, *arguments: str | Path) -> tuple[int, str]:
    """Exit code and words of a run of one benchmark that ends in given figures."""
    monkeypatch.setattr(import_module(BENCHMARKS[name].module), "run", lambda stage: figures)
    monkeypatch.setattr("streams.cli.bench.end_as_by_ctrl_c", lambda: None)
    monkeypatch.setattr("streams.cli.bench.memory.available_memory_bytes", lambda: 1e12)
    monkeypatch.setattr(Stage, "servers", lambda stage: {"broker": "a broker", "redis": "a redis"})
    done = CliRunner().invoke(app, ["bench", name, *map(str, arguments)])
    return done.exit_code, done.output


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
