"""The commands beside a running worker, in the order in which a newcomer would meet them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random

import pytest

from encoders.records import Interaction, Recommendation
from streams.inspection import StateReader
from streams.settings import KafkaSettings
from streams.topics import open_admin
from tests.exactness import check_exact
from tests.integration.asking import ask
from tests.integration.commands import CommandLine
from tests.integration.conftest import Deployments
from tests.processes import START_MS, Deployment, WorkerProcess, read_lists, read_topic, until

N_USERS, N_ITEMS, N_EVENTS = 12, 30, 240
FAN = "3"
"""A user of the data set."""


@pytest.fixture(scope="module")
def streamrec(deployment: Deployment) -> CommandLine:
    return CommandLine(deployment.settings, deployment.directory)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in the layout of the newer MovieLens data sets."""
    folder, random = tmp_path_factory.mktemp("data"), Random(0)
    movies = [f'{number},"Film No. {number}, The (1999)",Drama|Noir' for number in range(1, N_ITEMS + 1)]
    ratings = [
        f"{1 + number % N_USERS},{1 + random.randrange(N_ITEMS)},4.5,{START_MS // 1000 + 60 * number}"
        for number in range(N_EVENTS)
    ]
    (folder / "movies.csv").write_text("\n".join(["movieId,title,genres", *movies]))
    (folder / "ratings.csv").write_text("\n".join(["userId,movieId,rating,timestamp", *ratings]))
    return folder


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> WorkerProcess:
    return deployment.worker().wait_ready()


@pytest.fixture(scope="module")
def replayed(deployment: Deployment, worker: WorkerProcess, streamrec: CommandLine, data: Path) -> str:
    """What `streamrec replay` says; the worker has answered all of it."""
    said = streamrec.output("replay", data)
    check_exact(deployment.settings)
    return said


def test_topics_check_is_content_with_what_topics_create_made(deployment: Deployment, streamrec: CommandLine) -> None:
    created = streamrec.output("topics", "create")
    assert created.count("exists ") == 7
    assert f"the topics on {deployment.kafka.brokers} are as they should be" in streamrec.output("topics", "check")


def test_topics_check_finds_everything_that_is_wrong(
    deployments: Deployments, broker: KafkaSettings, tmp_path: Path
) -> None:
    with deployments.on(broker) as shared:
        kafka = shared.kafka
        wrong = {
            kafka.topics.interactions: {"num_partitions": 3},
            kafka.topics.items: {"configs": {"cleanup.policy": "delete"}},
            kafka.topics.model_updates: {"num_partitions": 2, "configs": {"cleanup.policy": "compact"}},
        }
        with open_admin(kafka) as admin:
            admin.delete_topics([*wrong, kafka.topics.users])
        until(lambda: CommandLine(shared.settings, tmp_path).refusal("topics", "check").count("missing") == 4, "gone")
        with open_admin(kafka) as admin:
            admin.create_topics(
                {name: {"replication_factor": 1, "num_partitions": 1, **w} for name, w in wrong.items()}
            )
        problems = CommandLine(shared.settings, tmp_path).refusal("topics", "check").splitlines()
    assert sorted(problem.split(";")[0] for problem in problems) == sorted(
        [
            f"topic {kafka.topics.interactions} has 3 partitions instead of 4",
            f"topic {kafka.topics.items} has cleanup.policy=delete",
            f"topic {kafka.topics.model_updates} has 2 partitions instead of 1",
            f"topic {kafka.topics.users} is missing",
        ]
    )
    assert all("; " in problem for problem in problems), "each says what to do"


def test_replay_publishes_a_folder_and_says_how_much(deployment: Deployment, replayed: str) -> None:
    assert f"published {N_ITEMS} items" in replayed
    assert f"published {N_EVENTS} interactions" in replayed
    log = read_topic(deployment.kafka, deployment.kafka.topics.interactions)
    events = [Interaction.model_validate_json(record.value) for record in log]
    assert len({event.event_id for event in events}) == N_EVENTS
    assert {event.user_id for event in events} == {str(number) for number in range(1, N_USERS + 1)}


def test_tail_prints_lists_with_titles(deployment: Deployment, streamrec: CommandLine, replayed: str) -> None:
    ask(deployment.kafka, FAN)
    count = len(read_lists(deployment.kafka))
    lines = streamrec.output("tail", "--from-start", "--count", str(count)).splitlines()
    assert len(lines) == count
    assert all(line.startswith("user ") for line in lines)
    newest = next(line for line in reversed(lines) if line.startswith(f"user {FAN} "))
    assert re.match(rf"user {FAN} \[no model\] 1\. Film No\. \d+, The \(1999\)\*  2\. Film No\. ", newest)
    for_one = streamrec.output("tail", "--from-start", "--count", "3", "--user", FAN).splitlines()
    assert all(line.startswith(f"user {FAN} [no model] ") for line in for_one)


def test_tail_as_json_prints_the_records_as_they_are(
    deployment: Deployment, streamrec: CommandLine, replayed: str
) -> None:
    lines = streamrec.output("tail", "--from-start", "--json", "--count", str(N_EVENTS)).splitlines()
    published = {made.recommendation_id: made for made in read_lists(deployment.kafka)}
    printed = [Recommendation.model_validate_json(line) for line in lines]
    assert len(printed) == N_EVENTS
    assert all(published[made.recommendation_id] == made for made in printed)


def test_tail_prints_what_comes_and_nothing_older(
    deployment: Deployment, streamrec: CommandLine, replayed: str
) -> None:
    process = streamrec.start("tail", "--count", "1")

    def over() -> bool:
        ask(deployment.kafka, "live")
        return process.poll() is not None

    until(over, "tail has printed a list")
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert out.startswith("user live [no model] 1. Film No. ")


def test_recommend_prints_the_newest_list(deployment: Deployment, streamrec: CommandLine, replayed: str) -> None:
    made = ask(deployment.kafka, FAN)
    printed = json.loads(streamrec.output("recommend", FAN, "--json"))
    assert printed["user_id"] == FAN
    assert printed["generated_at_ms"] == made.generated_at_ms
    assert [item["item_id"] for item in printed["items"]] == [item.item_id for item in made.items]
    assert printed["items"][0]["title"] == f"Film No. {made.items[0].item_id}, The (1999)"
    text = streamrec.output("recommend", FAN)
    assert f"user {FAN}, made " in text
    assert f"1. Film No. {made.items[0].item_id}, The (1999)" in text


def test_state_show_prints_the_session(streamrec: CommandLine, replayed: str) -> None:
    text = streamrec.output("state", "show", FAN)
    assert f"user {FAN}, catalogue default, partition" in text
    assert "window of " in text
    assert "rating     Film No. " in text
    assert "latest list, by no model:" in text


@pytest.mark.parametrize("command", [("recommend",), ("state", "show")], ids=" ".join)
def test_a_user_that_nothing_is_known_of_is_an_error(
    deployment: Deployment, streamrec: CommandLine, replayed: str, command: tuple[str, ...]
) -> None:
    error = streamrec.refusal(*command, "nobody")
    assert "'nobody'" in error
    assert deployment.settings.redis.url in error


def test_state_reset_drops_nothing_without_consent(
    deployment: Deployment, streamrec: CommandLine, replayed: str
) -> None:
    """With no terminal to ask on, that is a no."""
    assert streamrec.run("state", "reset").returncode == 1
    check_exact(deployment.settings)


def test_state_reset_under_a_running_worker_is_followed_by_a_rebuilt_state_and_no_list_again(
    deployment: Deployment, worker: WorkerProcess, streamrec: CommandLine, replayed: str
) -> None:
    ask(deployment.kafka, "live")
    until(lambda: worker.metric("lag") == 0, "the worker has applied everything")
    before = len(read_lists(deployment.kafka))
    said = streamrec.output("state", "reset", "--yes")
    assert f"state of topic '{deployment.kafka.topics.interactions}'" in said
    for user in map(str, range(1, N_USERS + 1)):  # events make the worker notice, in every partition
        ask(deployment.kafka, user)
    outcome = check_exact(deployment.settings)
    assert len(outcome.lists) == before + N_USERS + outcome.repeated
    assert StateReader.of(deployment.settings.redis, deployment.kafka).partitions() == [0, 1, 2, 3]


def test_train_announces_a_model_that_the_worker_loads(
    deployment: Deployment, worker: WorkerProcess, streamrec: CommandLine, replayed: str, tmp_path: Path
) -> None:
    said = streamrec.output("train", "--max-epochs", "1", "--json", tmp_path / "train.json")
    version = json.loads((tmp_path / "train.json").read_text())["version"]
    assert version in said
    until(lambda: worker.health().get("model_version") == version, "the worker serves it")
    made = ask(deployment.kafka, FAN)
    assert (made.model_version, made.items[0].source) == (version, "ann")
    assert f"by {version}" in streamrec.output("recommend", FAN)
    assert f"encoder state of gru@{version}" in streamrec.output("state", "show", FAN)


def test_config_prints_every_setting_with_its_origin(deployment: Deployment, streamrec: CommandLine) -> None:
    printed = json.loads(streamrec.output("config", "--show", "--json"))
    assert printed["kafka.brokers"] == {"value": deployment.kafka.brokers, "origin": f"file {streamrec.config}"}
    assert "settings are valid" in streamrec.output("config")
