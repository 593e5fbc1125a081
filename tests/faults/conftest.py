"""One deployment for each test: topics, group and keys of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings
from tests.faults.timing import BATCH, soon_noticed
from tests.integration.conftest import broker as broker
from tests.integration.conftest import deployments as deployments
from tests.processes import Deployment
from tests.servers import Valkey


@pytest.fixture
def kafka(topics: KafkaSettings) -> KafkaSettings:
    """Topics of this test alone, and a group that soon notices that a worker is gone."""
    return soon_noticed(topics)


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
