"""One deployment for each test: topics, group and keys of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings, WorkerSettings
from tests.processes import Deployment
from tests.servers import Valkey

BATCH = WorkerSettings(max_batch=32)
"""Small batches, so that a stream of a few hundred events has a middle."""


@pytest.fixture
def kafka(topics: KafkaSettings) -> KafkaSettings:
    """Topics of this test alone, and a group that soon notices that a worker is gone.

    Apache Kafka allows no session shorter than 6 s.
    """
    session_s = 6.0 if os.environ.get("STREAMREC_TEST_BROKERS") else 2.0
    timing = {"session_timeout_s": session_s, "heartbeat_interval_s": 0.5, "rebalance_timeout_s": session_s}
    return topics.model_copy(update=timing)


@pytest.fixture
def deployment(kafka: KafkaSettings, redis_server: RedisSettings, tmp_path: Path) -> Iterator[Deployment]:
    """On the servers of the run, which live through the test."""
    redis = redis_server.model_copy(update={"key_prefix": f"{kafka.group_id}:"})
    with Deployment(kafka, redis, tmp_path, worker=BATCH) as workers:
        yield workers


@pytest.fixture
def with_valkey(kafka: KafkaSettings, valkey: Valkey, tmp_path: Path) -> Iterator[Deployment]:
    """With a Valkey of its own, which the test may stop, and which soon counts as away."""
    with Deployment(
        kafka, valkey.redis.model_copy(update={"socket_timeout_s": 0.5}), tmp_path, worker=BATCH
    ) as workers:
        yield workers
