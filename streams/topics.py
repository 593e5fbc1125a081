"""The topics that streamrec lives on: what they must look like, making them, and saying what is wrong with them."""

from __future__ import annotations

import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from streams.errors import DependencyError
from streams.settings import KafkaSettings

if TYPE_CHECKING:
    from kafka.admin import KafkaAdminClient

LEAST_MESSAGE_BYTES = 1_048_588
"""Kafka's default `max.message.bytes`; a topic that takes less would refuse valid records."""
CONNECT_TIMEOUT_S = 3.0
REQUEST_TIMEOUT_MS = 5000


@dataclass(frozen=True)
class WantedTopic:
    """What one topic must look like."""

    name: str
    cleanup_policy: Literal["delete", "compact"]
    partitions: int = 1
    """How many at creation."""
    exact_partitions: bool = False
    """Whether another number is an error."""
    retention_ms: int | None = None
    """How long a record is kept, at creation; None leaves it to the broker."""

    @property
    def config(self) -> dict[str, str]:
        """The topic's settings at creation."""
        config: dict[str, str] = {"cleanup.policy": self.cleanup_policy}
        return config if self.retention_ms is None else config | {"retention.ms": str(self.retention_ms)}


@dataclass(frozen=True)
class FoundTopic:
    """What a topic on the broker looks like; a setting that the broker does not report is absent."""

    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


def wanted_topics(kafka: KafkaSettings) -> list[WantedTopic]:
    """The seven topics under the names of this deployment."""
    names, retention_ms = kafka.topics, round(kafka.retention.total_seconds() * 1000)
    return [
        WantedTopic(names.interactions, "delete", kafka.partitions, exact_partitions=True, retention_ms=retention_ms),
        WantedTopic(names.recommendations, "delete", kafka.partitions),
        WantedTopic(names.items, "compact"),
        WantedTopic(names.users, "compact"),
        WantedTopic(names.model_updates, "compact", exact_partitions=True),
        WantedTopic(names.erasures, "compact"),
        WantedTopic(names.dead_letters, "delete"),
    ]


def find_problems(wanted: list[WantedTopic], found: Mapping[str, FoundTopic]) -> list[str]:
    """What is wrong, one sentence a problem, each with the way out; empty if the topics will do.

    Args:
        wanted: What the topics must look like.
        found: What exists on the broker, by name; other topics are of no interest.
    """
    problems = []
    for topic in wanted:
        if topic.name not in found:
            problems.append(f"topic {topic.name} is missing; create it with `streamrec topics create`")
            continue
        there = found[topic.name]
        if topic.exact_partitions and there.partitions != topic.partitions:
            way_out = (
                "its updates would lose their order; delete it and run `streamrec topics create`"
                if topic.partitions == 1
                else f"set kafka.partitions = {there.partitions}, or name a new topic in kafka.topics"
            )
            problems.append(
                f"topic {topic.name} has {there.partitions} partitions instead of {topic.partitions}; {way_out}"
            )
        policy = there.config.get("cleanup.policy", "delete")
        if policy != topic.cleanup_policy:
            problems.append(
                f"topic {topic.name} has cleanup.policy={policy}; "
                f"alter it to cleanup.policy={topic.cleanup_policy} (kafka-configs.sh --alter)"
            )
        most_bytes = int(there.config.get("max.message.bytes", LEAST_MESSAGE_BYTES))
        if most_bytes < LEAST_MESSAGE_BYTES:
            problems.append(
                f"topic {topic.name} has max.message.bytes={most_bytes} and would refuse valid records; "
                f"alter it to {LEAST_MESSAGE_BYTES} or more (kafka-configs.sh --alter)"
            )
    return problems


def check_topics(kafka: KafkaSettings) -> list[str]:
    """`find_problems` of the topics on the broker.

    Raises:
        DependencyError: If the broker cannot be used.
    """
    wanted = wanted_topics(kafka)
    with open_admin(kafka) as admin:
        return find_problems(wanted, _describe(admin, [topic.name for topic in wanted]))


def create_topics(kafka: KafkaSettings) -> list[str]:
    """Make the topics that are missing and leave the others as they are; `check_topics` judges those.

    Returns:
        The names of the topics that were made.

    Raises:
        DependencyError: If the broker cannot be used or refuses to make a topic.
    """
    from kafka.errors import NoError, TopicAlreadyExistsError, for_code

    missing = {}
    with open_admin(kafka) as admin:
        wanted = wanted_topics(kafka)
        there = _describe(admin, [topic.name for topic in wanted])
        for topic in wanted:
            if topic.name not in there:
                missing[topic.name] = {
                    "num_partitions": topic.partitions,
                    "replication_factor": kafka.replication_factor,
                    "configs": topic.config,
                }
        if not missing:
            return []
        answer = admin.create_topics(missing, raise_errors=False)
        made = []
        for topic in answer["topics"]:
            reason = for_code(topic["error_code"])
            if reason is NoError:
                made.append(topic["name"])
            elif reason is not TopicAlreadyExistsError:  # another process was faster
                raise DependencyError(
                    f"Kafka at {kafka.brokers} refuses to make topic {topic['name']}: "
                    f"{topic['error_message'] or reason.__name__}; check kafka.replication_factor and the user's rights"
                )
        admin.wait_for_topics(list(missing), timeout_ms=REQUEST_TIMEOUT_MS)
    return made


def cluster_id(kafka: KafkaSettings) -> str:
    """The id of the cluster behind the addresses; another broker that was set up anew has another one.

    Raises:
        DependencyError: If the broker cannot be used.
    """
    with open_admin(kafka) as admin:
        return str(admin.describe_cluster()["cluster_id"])


def partition_count(kafka: KafkaSettings, topic: str) -> int | None:
    """How many partitions a topic has; None where there is no such topic.

    Raises:
        DependencyError: If the broker cannot be used.
    """
    with open_admin(kafka) as admin:
        described = _describe(admin, [topic])
    return described[topic].partitions if topic in described else None


@contextmanager
def open_admin(kafka: KafkaSettings, given_by: str = "kafka.brokers") -> Iterator[KafkaAdminClient]:
    """A connected admin client, closed at the end.

    Args:
        kafka: Where.
        given_by: The setting or the option that holds the address, for messages.

    Raises:
        DependencyError: If no broker can be reached or it does not let us in, within seconds.
    """
    from kafka.admin import KafkaAdminClient
    from kafka.errors import KafkaError

    _require_a_listener(kafka.brokers, given_by)
    try:
        admin = KafkaAdminClient(
            **kafka.kafka_python_config(),
            bootstrap_timeout_ms=REQUEST_TIMEOUT_MS,
            request_timeout_ms=REQUEST_TIMEOUT_MS,
        )
    except (KafkaError, OSError) as error:
        _require_a_listener(kafka.brokers, given_by)  # it may have gone away since
        raise DependencyError(
            f"Kafka at {kafka.brokers} takes the connection but does not let us in: {_likely_cause(kafka)} ({error})"
        ) from error
    try:
        yield admin
    except KafkaError as error:
        raise DependencyError(f"Kafka at {kafka.brokers} failed: {error}; look into the broker's log") from error
    finally:
        admin.close()


def _require_a_listener(brokers: str, given_by: str) -> None:
    reasons = []
    for address in brokers.split(","):
        host, _, port = address.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_TIMEOUT_S).close()
        except (OSError, OverflowError) as error:
            reasons.append(f"{address}: {getattr(error, 'strerror', None) or error}")
        else:
            return
    raise DependencyError(
        f"cannot reach Kafka at {'; '.join(reasons)}. Start a broker (`streamrec stack` starts one on this machine)"
        f" or correct {given_by}"
    )


def _likely_cause(kafka: KafkaSettings) -> str:
    """kafka-python reports every failure of this kind as a timeout, so the settings tell what to look at."""
    if kafka.uses_sasl:
        return (
            f"check kafka.sasl_username, kafka.sasl_password and kafka.sasl_mechanism,"
            f" and that this listener expects {kafka.security_protocol}"
        )
    if kafka.uses_tls:
        return "check kafka.ssl_cafile, kafka.ssl_certfile and kafka.ssl_keyfile, and that this listener expects TLS"
    return "this listener may expect a login or TLS; set kafka.security_protocol, and the credentials with it"


def _describe(admin: KafkaAdminClient, names: list[str]) -> dict[str, FoundTopic]:
    from kafka.admin import ConfigResource, ConfigResourceType
    from kafka.errors import NoError, UnknownTopicOrPartitionError, for_code

    partitions = {}
    for topic in admin.describe_topics(names):
        reason = for_code(topic["error_code"])
        if reason is NoError:
            partitions[topic["name"]] = len(topic["partitions"])
        elif reason is not UnknownTopicOrPartitionError:
            raise reason(f"topic {topic['name']}")
    if not partitions:
        return {}
    # No names of settings in the request: Tansu hangs up on a request that has some.
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in partitions]
    configs = admin.describe_configs(resources, config_filter="all")["topic"]
    return {
        name: FoundTopic(count, {key: entry["value"] for key, entry in configs.get(name, {}).items()})
        for name, count in partitions.items()
    }
