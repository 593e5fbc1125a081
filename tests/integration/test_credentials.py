"""A Kafka that asks for a login and a Valkey that asks for a password."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from encoders.records import BundleReference
from streams.cli.config import Settings
from streams.settings import KafkaSettings, RedisSettings
from streams.topics import wanted_topics
from tests.exactness import check_exact
from tests.integration.asking import ask
from tests.integration.commands import CommandLine
from tests.processes import WORKER, Deployment, clicks, publish_interactions, until
from tests.servers import RealKafka, Valkey, unique_names

pytestmark = pytest.mark.real_kafka
KAFKA_PASSWORD, REDIS_PASSWORD = f"kafka-{secrets.token_hex(8)}", f"redis-{secrets.token_hex(8)}"
WRONG_PASSWORD = f"wrong-{secrets.token_hex(8)}"
DEBUG_WORKER = (*WORKER, "--loglevel", "debug")


@pytest.fixture(scope="module")
def guarded_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealKafka]:
    with RealKafka(tmp_path_factory.mktemp("guarded-kafka"), sasl=("alice", KAFKA_PASSWORD)) as server:
        yield server


@pytest.fixture(scope="module")
def guarded_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Valkey]:
    with Valkey(tmp_path_factory.mktemp("guarded-valkey"), REDIS_PASSWORD) as server:
        yield server


@pytest.fixture(scope="module")
def said() -> list[str]:
    """Everything that any process of this module has printed."""
    return []


class Eavesdropper(CommandLine):
    """Remembers what its commands print."""

    def __init__(self, settings: Settings, directory: Path, said: list[str]) -> None:
        super().__init__(settings, directory)
        self._said = said

    def run(self, *arguments: str | Path) -> Any:
        done = super().run(*arguments)
        self._said += [done.stdout, done.stderr]
        return done


@pytest.fixture(scope="module")
def deployment(
    guarded_kafka: RealKafka, guarded_valkey: Valkey, said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    """With the right credentials; the topics are made by the command."""
    directory = tmp_path_factory.mktemp("guarded")
    kafka = unique_names(guarded_kafka.kafka)
    with Deployment(kafka, guarded_valkey.redis, directory) as guarded:
        made = Eavesdropper(guarded.settings, directory, said).output("topics", "create")
        assert made.count("created") == len(wanted_topics(kafka))
        yield guarded


@pytest.fixture(scope="module")
def streamrec(deployment: Deployment, said: list[str]) -> Eavesdropper:
    return Eavesdropper(deployment.settings, deployment.directory, said)


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> BundleReference:
    """Served by a worker that tells all it can, after it has answered some events."""
    model = deployment.serve()
    deployment.worker(DEBUG_WORKER).wait_ready()
    publish_interactions(deployment.kafka, clicks(200))
    check_exact(deployment.settings, model)
    return model


class TestWithTheRightCredentials:
    def test_the_stream_works(self, deployment: Deployment, model: BundleReference) -> None:
        assert ask(deployment.kafka, "user-1", "7").model_version == model.version

    def test_topics_check_works(self, streamrec: Eavesdropper, model: BundleReference) -> None:
        assert "are as they should be" in streamrec.output("topics", "check")

    def test_tail_works(self, streamrec: Eavesdropper, model: BundleReference) -> None:
        assert len(streamrec.output("tail", "--from-start", "--count", "20").splitlines()) == 20

    def test_recommend_and_state_show_work(self, streamrec: Eavesdropper, model: BundleReference) -> None:
        assert f"by {model.version}" in streamrec.output("recommend", "user-1")
        assert "window of " in streamrec.output("state", "show", "user-1")

    def test_train_works(self, deployment: Deployment, streamrec: Eavesdropper, model: BundleReference) -> None:
        streamrec.output("train", "--max-epochs", "1", "--json", deployment.directory / "train.json")
        version = json.loads((deployment.directory / "train.json").read_text())["version"]
        until(lambda: deployment.workers[0].health().get("model_version") == version, "the worker serves it")


def changed(settings: Settings, **changes: Any) -> Settings:
    """The settings with other values in the sections `kafka` and `redis`."""
    kafka, redis = (getattr(settings, name).model_dump() | changes.get(name, {}) for name in ("kafka", "redis"))
    return settings.model_copy(
        update={"kafka": KafkaSettings.model_validate(kafka), "redis": RedisSettings.model_validate(redis)}
    )


NO_LOGIN = {"security_protocol": "PLAINTEXT", "sasl_username": None, "sasl_password": None}


class Case(NamedTuple):
    """What is wrong with a section of the settings, what the error must name, and who is to meet it."""

    section: str
    changes: dict[str, Any]
    setting: str
    commands: tuple[str, ...]


CASES = {
    "no login": Case("kafka", NO_LOGIN, "kafka.security_protocol", ("worker", "topics create")),
    "a wrong login": Case(
        "kafka",
        {"sasl_password": WRONG_PASSWORD},
        "kafka.sasl_password",
        ("worker", "topics check", "tail", "train", "evaluate"),
    ),
    "another mechanism": Case("kafka", {"sasl_mechanism": "SCRAM-SHA-256"}, "kafka.sasl_mechanism", ("worker",)),
    "no password": Case("redis", {"password": None}, "redis.password", ("worker", "recommend user-1")),
    "a wrong password": Case(
        "redis",
        {"password": WRONG_PASSWORD},
        "redis.password",
        ("worker", "recommend user-1", "state show user-1", "state reset --yes"),
    ),
}
OUTSIDERS = [(name, command) for name, case in CASES.items() for command in case.commands]


@pytest.fixture(scope="module")
def errors(
    deployment: Deployment, said: list[str], tmp_path_factory: pytest.TempPathFactory
) -> dict[tuple[str, str], str]:
    """What each of them says; some at a time, since most of it is waiting for a broker that does not answer."""

    def error(outsider: tuple[str, str]) -> str:
        name, command = outsider
        settings = changed(deployment.settings, **{CASES[name].section: CASES[name].changes})
        return Eavesdropper(settings, tmp_path_factory.mktemp("outsider"), said).refusal(*command.split())

    with ThreadPoolExecutor(4) as pool:
        return dict(zip(OUTSIDERS, pool.map(error, OUTSIDERS), strict=True))


@pytest.mark.parametrize("outsider", OUTSIDERS, ids=": ".join)
def test_without_them_the_error_names_the_address_and_the_setting(
    deployment: Deployment, errors: dict[tuple[str, str], str], outsider: tuple[str, str]
) -> None:
    case = CASES[outsider[0]]
    address = deployment.kafka.brokers if case.section == "kafka" else deployment.settings.redis.url.split("/")[2]
    assert address in errors[outsider]
    assert case.setting in errors[outsider]


@pytest.mark.parametrize("json_flag", [(), ("--json",)], ids=["as text", "as JSON"])
def test_config_shows_that_there_are_passwords_but_not_which(
    streamrec: Eavesdropper, json_flag: tuple[str, ...]
) -> None:
    printed = streamrec.output("config", "--show", *json_flag)
    assert printed.count("***") == 2


def test_a_bad_setting_is_told_without_the_password_beside_it(
    deployment: Deployment, said: list[str], tmp_path: Path
) -> None:
    """Nor does an error of a section, or a password of the wrong type, show it."""
    streamrec = Eavesdropper(deployment.settings, tmp_path, said)
    for setting in (
        f"redis.url=http://:{REDIS_PASSWORD}@localhost",
        f"redis.url=redis://:{REDIS_PASSWORD}@localhost",
        f'kafka.sasl_password=["{KAFKA_PASSWORD}"]',
        "kafka.security_protocol=SASL",
        "kafka.security_protocol=PLAINTEXT",
        f"kafka.sasl_pasword={KAFKA_PASSWORD}",
    ):
        done = streamrec.run("config", "--set", setting)
        assert done.returncode == 2, setting
        assert "Traceback" not in done.stderr


def test_no_output_of_any_process_shows_a_password(
    deployment: Deployment, model: BundleReference, streamrec: Eavesdropper, said: list[str]
) -> None:
    """The last test of this module: not even a worker at debug level prints one."""
    (worker,) = deployment.workers
    assert worker.terminate() == 0
    assert "[DEBUG]" in worker.log
    assert len(said) > 20
    output = "\n".join([*said, worker.log])
    for password in (KAFKA_PASSWORD, REDIS_PASSWORD, WRONG_PASSWORD):
        assert password not in output
