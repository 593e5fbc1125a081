"""One deployment for each test: topics, group and keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings
from tests.processes import Deployment


@pytest.fixture
def deployment(topics: KafkaSettings, redis_server: RedisSettings, tmp_path: Path) -> Iterator[Deployment]:
    """On the servers of the run, which live through the test."""
    redis = redis_server.model_copy(update={"key_prefix": f"{topics.group_id}:"})
    kafka = topics.model_copy(
        update={"session_timeout_s": 2.0, "heartbeat_interval_s": 0.5, "rebalance_timeout_s": 2.0}
    )
    with Deployment(kafka, redis, tmp_path) as workers:
        yield workers
