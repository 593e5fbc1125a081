"""What is looked at before a worker starts: a clear error now instead of a puzzle later."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

import redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError, ResponseError

from streams.errors import DependencyError
from streams.settings import KafkaSettings, RedisSettings
from streams.topics import check_topics, cluster_id, partition_count

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Place:
    """The cluster and topic that a worker is about to work on."""

    cluster: str
    n_partitions: int


def inspect_kafka(kafka: KafkaSettings) -> Place:
    """Find out where the worker would work.

    A topic that is missing stops the start; anything else that `streamrec topics check` would complain
    of is logged.

    Raises:
        DependencyError: If Kafka cannot be used, or a topic is missing.
    """
    cluster = cluster_id(kafka)
    n_partitions = partition_count(kafka, kafka.topics.interactions)
    problems = check_topics(kafka)
    missing = [problem for problem in problems if "is missing" in problem]
    if missing or n_partitions is None:
        raise DependencyError(f"Kafka at {kafka.brokers}: {'; '.join(missing)}")
    for problem in problems:
        if not problem.startswith(f"topic {kafka.topics.interactions} has {n_partitions} partitions"):
            logger.warning("%s", problem)
    return Place(cluster, n_partitions)


def inspect_redis(settings: RedisSettings) -> None:
    """Check that Redis answers, and warn where it may forget.

    Raises:
        DependencyError: If it does not answer or does not let the worker in.
    """
    with redis_errors(settings), closing(settings.sync_client()) as client:
        client.ping()
        _warn_of_forgetting(client, settings)


@contextmanager
def redis_errors(settings: RedisSettings) -> Iterator[None]:
    """Say in an operator's words what is wrong with Redis, where the body uses it.

    Raises:
        DependencyError: If Redis does not answer or does not let us in.
    """
    try:
        yield
    except (AuthenticationError, NoPermissionError) as error:
        raise DependencyError(
            f"Redis at {settings.safe_url} does not let us in: {error}; check redis.username and redis.password"
        ) from error
    except (RedisError, OSError) as error:
        raise DependencyError(
            f"cannot use Redis at {settings.safe_url}: {error}. Start Redis or Valkey (`streamrec stack` starts one on"
            " this machine) or correct redis.url"
        ) from error


def _warn_of_forgetting(client: redis.Redis, settings: RedisSettings) -> None:
    try:
        config: Any = client.config_get("maxmemory-policy", "appendonly")
    except ResponseError:  # hosted services forbid CONFIG
        return
    if config.get("maxmemory-policy", "noeviction") != "noeviction":
        logger.warning(
            "Redis at %s has maxmemory-policy %s and may throw sessions away; set it to noeviction",
            settings.safe_url, config["maxmemory-policy"],
        )  # fmt: skip
    if config.get("appendonly", "yes") != "yes":
        logger.warning(
            "Redis at %s has no append-only file: after its restart the workers rebuild all state from the log",
            settings.safe_url,
        )
