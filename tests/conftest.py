"""Servers for the tests, and what the last lines of a run say about tests that were left out.

`kafka_server` and `redis_server` are the embedded ones unless STREAMREC_TEST_BROKERS and STREAMREC_TEST_REDIS name
others.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings
from streams.stack import EmbeddedStack
from streams.topics import create_topics
from tests.servers import RealKafka, Valkey, kafka_script, unique_names, why_no_real_kafka

PARTITIONS = 4
LEFT_OUT = pytest.StashKey[int]()

# A shell starts what runs in its background deaf to Ctrl-C, and so would be every process that a test starts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedStack]:
    """A broker and a Valkey for the whole run."""
    with EmbeddedStack() as stack:
        yield stack


@pytest.fixture(scope="session")
def kafka_server(request: pytest.FixtureRequest) -> KafkaSettings:
    """The broker of the run."""
    if brokers := os.environ.get("STREAMREC_TEST_BROKERS"):
        return KafkaSettings(brokers=brokers, partitions=PARTITIONS)
    stack: EmbeddedStack = request.getfixturevalue("embedded")
    return stack.kafka.model_copy(update={"partitions": PARTITIONS})


@pytest.fixture(scope="session")
def redis_server(request: pytest.FixtureRequest) -> RedisSettings:
    """The Redis of the run."""
    if url := os.environ.get("STREAMREC_TEST_REDIS"):
        return RedisSettings(url=url)
    stack: EmbeddedStack = request.getfixturevalue("embedded")
    return stack.redis


@pytest.fixture
def topics(kafka_server: KafkaSettings) -> KafkaSettings:
    """The broker of the run with topics and a group of this test alone; the topics exist."""
    kafka = unique_names(kafka_server)
    create_topics(kafka)
    return kafka


@pytest.fixture(scope="session")
def real_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    """A real Apache Kafka for the tests that kill it; each leaves it running. Mark them `real_kafka`."""
    if reason := why_no_real_kafka():
        pytest.fail(f"the real Apache Kafka cannot run: {reason}")
    with RealKafka(tmp_path_factory.mktemp("kafka")) as kafka:
        yield kafka


@pytest.fixture
def valkey(tmp_path: Path) -> Iterator[Valkey]:
    """A Valkey with an append-only file, for this test alone."""
    with Valkey(tmp_path / "valkey") as server:
        yield server


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what needs the real Kafka where there is none; in CI only if its folder is absent."""
    reason = why_no_real_kafka()
    must_run = os.environ.get("CI") and kafka_script().is_file()
    if reason is None or must_run:
        return
    marked = [item for item in items if item.get_closest_marker("real_kafka")]
    for item in marked:
        item.add_marker(pytest.mark.skip(reason=f"needs the real Apache Kafka: {reason}"))
    config.stash[LEFT_OUT] = len(marked)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say what this run has not tested."""
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"left out: {count} tests need the real Apache Kafka ({why_no_real_kafka()})")
