"""One deployment for each module: topics, group and keys of its own, on servers that all modules share."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest

from streams.settings import KafkaSettings, RedisSettings, Section
from streams.topics import create_topics
from tests.processes import Deployment
from tests.servers import RealKafka, unique_names

BOTH_BROKERS = ["of the run", pytest.param("real", marks=pytest.mark.real_kafka)]
"""Where the tests of a module run, one after the other: the broker of the run and Apache Kafka."""


class Deployments:
    """Makes deployments on the servers of the run; each has names of its own."""

    def __init__(self, redis: RedisSettings, directory: Path) -> None:
        self._redis = redis
        self._directory = directory
        self._numbers = count(1)

    def on(self, broker: KafkaSettings, **sections: Section) -> Deployment:
        """A deployment with new topics on a broker, see `Deployment`; use it as a context.

        Sessions are as short as Apache Kafka allows. Tansu holds a joining group for half the rebalance timeout.
        """
        timing = {"session_timeout_s": 6.0, "heartbeat_interval_s": 0.5, "rebalance_timeout_s": 2.0}
        kafka = unique_names(broker).model_copy(update=timing)
        create_topics(kafka)
        redis = self._redis.model_copy(update={"key_prefix": f"{kafka.group_id}:"})
        directory = self._directory / f"deployment-{next(self._numbers)}"
        directory.mkdir()
        return Deployment(kafka, redis, directory, **sections)


@pytest.fixture(scope="module")
def deployments(redis_server: RedisSettings, tmp_path_factory: pytest.TempPathFactory) -> Deployments:
    """Makes as many deployments as a module needs."""
    return Deployments(redis_server, tmp_path_factory.mktemp("deployments"))


@pytest.fixture(scope="module")
def broker(request: pytest.FixtureRequest) -> KafkaSettings:
    """The broker of the run; a module that is parametrised with `BOTH_BROKERS` also meets Apache Kafka."""
    if getattr(request, "param", "of the run") == "of the run":
        server: KafkaSettings = request.getfixturevalue("kafka_server")
        return server
    kafka: RealKafka = request.getfixturevalue("real_kafka")
    return kafka.kafka


@pytest.fixture(scope="module")
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    """The deployment that the tests of a module share."""
    with deployments.on(broker) as shared:
        yield shared
