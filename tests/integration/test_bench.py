"""`streamrec bench` with tiny numbers, on servers of its own and on given ones."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from kafka.admin import KafkaAdminClient

from streams.settings import KafkaSettings, RedisSettings
from tests.servers import REPOSITORY


def bench(*arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "streams.cli", "bench", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
        cwd=REPOSITORY,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "120", **environment},
    )


def test_throughput_is_measured_and_written_with_where_it_comes_from(tmp_path: Path) -> None:
    done = bench("throughput", "--quick", "--json", tmp_path / "all.json", "--output", tmp_path / "each")
    assert done.returncode == 0, done.stdout + done.stderr
    results = json.loads((tmp_path / "all.json").read_text())
    assert results.pop("quick") is True
    assert set(results) == {"environment", "throughput"}
    alone = json.loads((tmp_path / "each" / "throughput.json").read_text())
    assert (alone["quick"], alone["throughput"]) == (True, results["throughput"])
    figures, environment = results["throughput"], results["environment"]
    assert (figures["lost"], figures["duplicates"], figures["events"]) == (0, 0, 4_000)
    assert figures["events_per_s"] > 0
    assert 0 < figures["cpu_us_per_event"] < 10_000
    assert figures["share_of_limit_min"] == figures["share_of_limit"] == figures["share_of_limit_max"] > 0
    assert figures["limit_us_search"] == min(figures["limit_us_search_own"], figures["limit_us_search_faiss"])
    assert figures["stage_us_encode"] >= 0  # four batches in all: there may be none in the measured interval
    assert environment["cores"] >= 1
    assert environment["broker"].startswith("tansu")
    libraries = {f"version_{name}" for name in ("torch", "faiss_cpu", "numba")}
    assert {"date", "commit", "cpu", "python", *libraries} <= set(environment)
    assert all(not isinstance(value, dict | list) for each in results.values() for value in each.values())
    assert "events_per_s" in done.stdout


def test_given_servers_are_left_as_they_were(
    kafka_server: KafkaSettings, redis_server: RedisSettings, tmp_path: Path
) -> None:
    before = _left_behind(kafka_server, redis_server)
    given = ("--brokers", kafka_server.brokers, "--redis", redis_server.url)
    done = bench("throughput", "--quick", *given, "--json", tmp_path / "all.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads((tmp_path / "all.json").read_text())["throughput"]["lost"] == 0
    assert _left_behind(kafka_server, redis_server) == before


def test_a_broker_that_is_not_there_is_one_clear_error(tmp_path: Path) -> None:
    done = bench("throughput", "--quick", "--brokers", "127.0.0.1:1", TMPDIR=str(tmp_path))
    assert done.returncode == 1
    assert "cannot reach Kafka at 127.0.0.1:1" in done.stderr
    assert "or correct --brokers" in done.stderr
    assert "kafka.brokers" not in done.stderr
    assert "Traceback" not in done.stderr
    assert "logs are kept" not in done.stdout
    assert not list(tmp_path.glob("streamrec-bench-*"))


def test_a_redis_that_is_not_there_is_one_clear_error() -> None:
    done = bench("throughput", "--quick", "--redis", "redis://127.0.0.1:1/0")
    assert done.returncode == 1
    assert "cannot use Redis at redis://127.0.0.1:1/0" in done.stderr
    assert done.stderr.rstrip().endswith("or correct --redis")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("option", "value", "words"),
    [
        ("--brokers", "nonsense", "an address is HOST:PORT"),
        ("--redis", "nonsense", "an address is a URL such as redis://"),
        ("--json", ".", "cannot be written there: Is a directory"),
        ("--output", "Makefile", "cannot be written there: File exists"),
    ],
)
def test_what_cannot_be_used_is_told_before_the_work(option: str, value: str, words: str) -> None:
    done = bench("throughput", option, value)
    assert done.returncode == 1
    assert done.stderr.startswith(f"streamrec: {option} {value}: ")
    assert words in done.stderr
    assert done.stdout == ""


def _left_behind(kafka: KafkaSettings, redis: RedisSettings) -> tuple[set[str], int]:
    """Topics of benchmarks, and how many keys there are of them."""
    admin = KafkaAdminClient(**kafka.kafka_python_config())
    try:
        topics = {name for name in admin.list_topics() if name.startswith("bench-")}
    finally:
        admin.close()
    client = redis.sync_client()
    try:
        return topics, sum(1 for _ in client.scan_iter(match="bench-*"))
    finally:
        client.close()
