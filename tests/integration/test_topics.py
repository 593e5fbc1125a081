"""Topics on a real broker."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from streams.cli.app import app
from streams.errors import DependencyError
from streams.settings import KafkaSettings
from streams.topics import check_topics, cluster_id, create_topics, open_admin, partition_count, wanted_topics
from tests.servers import RealKafka, unique_names


def test_created_topics_pass_the_check_and_are_not_made_twice(kafka_server: KafkaSettings) -> None:
    kafka = unique_names(kafka_server)
    assert len(check_topics(kafka)) == 7
    assert create_topics(kafka) == [topic.name for topic in wanted_topics(kafka)]
    assert check_topics(kafka) == []
    assert create_topics(kafka) == []


def test_only_what_is_missing_is_made(kafka_server: KafkaSettings) -> None:
    kafka = unique_names(kafka_server)
    with open_admin(kafka) as admin:
        admin.create_topics({kafka.topics.items: {"num_partitions": 2, "replication_factor": 1}})
    assert kafka.topics.items not in create_topics(kafka)
    (problem,) = check_topics(kafka)
    assert f"topic {kafka.topics.items} has cleanup.policy=delete" in problem


def test_partitions_are_counted_and_a_topic_that_is_not_there_is_none(topics: KafkaSettings) -> None:
    assert partition_count(topics, topics.topics.interactions) == topics.partitions
    assert partition_count(topics, topics.topics.model_updates) == 1
    assert partition_count(topics, f"{topics.group_id}-absent") is None


def test_cluster_id_stays_the_same(kafka_server: KafkaSettings) -> None:
    first = cluster_id(kafka_server)
    assert first
    assert cluster_id(kafka_server) == first


def test_other_partition_count_is_found_on_the_broker(topics: KafkaSettings) -> None:
    (problem,) = check_topics(topics.model_copy(update={"partitions": topics.partitions + 1}))
    assert f"set kafka.partitions = {topics.partitions}" in problem


def test_commands_say_what_they_did(
    kafka_server: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    kafka = unique_names(kafka_server)
    sets = [f"kafka.brokers={kafka.brokers}"]
    sets += [f"kafka.topics.{key}={name}" for key, name in kafka.topics.model_dump().items()]
    flags = [word for setting in sets for word in ("--set", setting)]
    checked = CliRunner().invoke(app, ["topics", "check", *flags])
    assert (checked.exit_code, checked.output.count("is missing")) == (1, 7)
    created = CliRunner().invoke(app, ["topics", "create", *flags])
    assert (created.exit_code, created.output.count("created")) == (0, 7)
    assert CliRunner().invoke(app, ["topics", "check", *flags]).exit_code == 0


@pytest.mark.real_kafka
def test_login_is_needed_and_a_wrong_one_is_explained(tmp_path: Path) -> None:
    with RealKafka(tmp_path, sasl=("alice", "right-password")) as server:
        kafka = unique_names(server.kafka)
        assert len(create_topics(kafka)) == 7
        without = KafkaSettings(brokers=server.brokers)
        with pytest.raises(DependencyError, match=r"may expect a login.*kafka\.security_protocol"):
            cluster_id(without)
        login = kafka.model_dump() | {"sasl_password": "wrong-password"}
        with pytest.raises(DependencyError, match=r"check kafka\.sasl_username, kafka\.sasl_password") as caught:
            cluster_id(KafkaSettings.model_validate(login))
        assert "password'" not in str(caught.value)
        assert "wrong-password" not in str(caught.value)


@pytest.mark.real_kafka
def test_topics_survive_a_killed_broker(real_kafka: RealKafka) -> None:
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    before = cluster_id(kafka)
    real_kafka.kill()
    with pytest.raises(DependencyError, match="cannot reach Kafka"):
        check_topics(kafka)
    real_kafka.start()
    assert (check_topics(kafka), cluster_id(kafka)) == ([], before)
