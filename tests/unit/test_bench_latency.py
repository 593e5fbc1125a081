"""What the benchmark of latency counts: every load that it sends, whatever for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from rich.console import Console

from streams.cli.bench import latency
from streams.cli.bench.answers import Tally
from streams.cli.bench.benchmark import lost_events
from streams.cli.bench.latency import Answered
from streams.cli.bench.open_loop import poisson_schedule
from streams.cli.bench.stage import Stage

LOADS = ["throughput", "warming the broker up", "10 % load", "50 % load", "80 % load"]
TIMED = {"p50_ms": 1.0, "p99_ms": 2.0}


class Measured:
    """Answers for what takes servers: every load has 10 events, and one of them loses some."""

    def __init__(self, loses: str) -> None:
        self.loses = loses
        self.loads: list[str] = []

    def _lost(self, name: str) -> int:
        self.loads.append(name)
        return 3 if name == self.loses else 0

    def drain_with_worker(self, *given: object) -> Any:
        return SimpleNamespace(n_events=10, lost=self._lost("throughput"), duplicates=0, events_per_s=1_000.0)

    def answered(self, *given: Any) -> Answered:
        load: Any = range(10)
        return Answered(load, poisson_schedule(0, 1.0, 1.0), dict(TIMED), Tally(10, self._lost(given[-1]), 0), 900)

    async def measure_broker(self, *given: object) -> tuple[dict[str, float], Tally]:
        return dict(TIMED), Tally(10, self._lost("broker"), 0)


class ServerlessStage(Stage):
    """Has a broker that was given, and starts nothing."""

    @contextmanager
    def ground(self, partitions: int = 4) -> Iterator[Any]:
        """Nothing."""
        yield None

    def bundle(self, *given: object) -> Any:
        """None."""
        return None


def run(monkeypatch: pytest.MonkeyPatch, folder: Path, loses: str) -> tuple[dict[str, Any], Measured]:
    measured = Measured(loses)
    monkeypatch.setattr(latency, "drain_with_worker", measured.drain_with_worker)
    monkeypatch.setattr(latency, "_answered", measured.answered)
    monkeypatch.setattr(latency, "_measure_broker", measured.measure_broker)
    return latency.run(ServerlessStage(Console(quiet=True), folder, "127.0.0.1:9092")), measured


@pytest.mark.parametrize("loses", LOADS)
def test_an_event_lost_in_any_load_is_lost(loses: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, measured = run(monkeypatch, tmp_path, loses)
    assert lost_events(figures) == {"lost": 3}
    assert figures["events"] == 10 * len(LOADS)
    assert set(measured.loads) == {*LOADS, "aiokafka alone", "broker"}


def test_an_event_that_the_broker_alone_lost_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost_events(run(monkeypatch, tmp_path, "broker")[0]) == {"broker_lost": 3}


def test_what_takes_no_worker_is_timed_beside_one_load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figures, _ = run(monkeypatch, tmp_path, "nothing")
    assert [key for key in figures if key.startswith(("echo_p", "broker_p"))] == [
        *("echo_p50_ms_at_50", "echo_p99_ms_at_50"),
        *("broker_p50_ms_at_50", "broker_p99_ms_at_50"),
    ]


def test_an_event_that_aiokafka_alone_lost_is_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost_events(run(monkeypatch, tmp_path, "aiokafka alone")[0]) == {"echo_lost": 3}


def test_the_echo_s_lists_are_as_long_as_the_worker_s() -> None:
    started: list[tuple[str, ...]] = []
    topics = SimpleNamespace(interactions="in", recommendations="out")
    kafka = SimpleNamespace(brokers="b:1", topics=topics, fetch_max_wait_ms=10)
    ground: Any = SimpleNamespace(kafka=kafka, python=lambda *words: started.append(words))
    latency.echo(876, ground)
    ((*_, bytes_name, n_bytes, _, _),) = started
    assert (bytes_name, n_bytes) == ("--list-bytes", "876")


def test_what_was_lost_nowhere_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert lost_events(run(monkeypatch, tmp_path, "nothing")[0]) == {}
