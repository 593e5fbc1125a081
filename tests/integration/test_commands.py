"""The commands for people: replay, tail, recommend and state, over a worker that runs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from encoders.records import Recommendation
from streams.inspection import StateReader
from streams.settings import KafkaSettings, RedisSettings
from streams.topics import create_topics
from tests.processes import Deployment, committed, until
from tests.servers import unique_names

FILMS = {"1": "Toy Story (1995)", "50": "Star Wars (1977)", "100": "Fargo (1996)"}
EVENTS = [("ann", "50"), ("bob", "1"), ("ann", "100"), ("bob", "50"), ("ann", "1")]


@pytest.fixture(scope="module")
def deployment(
    kafka_server: KafkaSettings, redis_server: RedisSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Deployment]:
    kafka = unique_names(kafka_server)
    create_topics(kafka)
    redis = redis_server.model_copy(update={"key_prefix": "tests[*]:"})
    with Deployment(kafka, redis, tmp_path_factory.mktemp("commands")) as deployment:
        yield deployment


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("films")
    rows = "".join(f"{user},{film},4,{10 * n}\n" for n, (user, film) in enumerate(EVENTS))
    (folder / "ratings.csv").write_text(f"userId,movieId,rating,timestamp\n{rows}")
    films = "".join(f"{film},{title},Comedy\n" for film, title in FILMS.items())
    (folder / "movies.csv").write_text(f"movieId,title,genres\n{films}")
    return folder


@pytest.fixture(scope="module")
def answered(deployment: Deployment, data: Path) -> Deployment:
    """All events have been replayed and answered."""
    deployment.worker().wait_ready()
    said = streamrec(deployment, "replay", str(data), "--rate", "100").stdout
    assert f"published {len(FILMS)} items" in said
    assert f"published {len(EVENTS)} interactions" in said
    reader = StateReader.of(deployment.settings.redis, deployment.kafka)
    until(
        lambda: sum(reader.applied(partition).offset for partition in reader.partitions()) == len(EVENTS),
        "all events to be applied",
    )
    return deployment


def streamrec(deployment: Deployment, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "streams.cli", *arguments, "--config", str(deployment.config())]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_tail_prints_lists_with_titles(answered: Deployment) -> None:
    done = streamrec(answered, "tail", "--from-start", "--count", str(len(EVENTS)))
    lines = done.stdout.splitlines()
    assert len(lines) == len(EVENTS)
    assert all(line.startswith(("user ann [no model]", "user bob [no model]")) for line in lines)
    assert any("(1977)*" in line or "(1995)*" in line or "(1996)*" in line for line in lines)


def test_tail_of_one_user_prints_the_records_as_they_are(answered: Deployment) -> None:
    done = streamrec(answered, "tail", "--from-start", "--user", "ann", "--count", "3", "--json")
    lists = [Recommendation.model_validate_json(line) for line in done.stdout.splitlines()]
    assert [made.user_id for made in lists] == ["ann"] * 3
    assert [made.source_offset for made in lists] == sorted(made.source_offset for made in lists)


def test_recommend_prints_what_the_newest_event_brought(answered: Deployment) -> None:
    newest = Recommendation.model_validate_json(
        streamrec(answered, "tail", "--from-start", "--user", "bob", "--count", "2", "--json").stdout.splitlines()[-1]
    )
    told = json.loads(streamrec(answered, "recommend", "bob", "--json").stdout)
    assert [item["item_id"] for item in told["items"]] == [item.item_id for item in newest.items]
    assert [item["title"] for item in told["items"]] == [FILMS[item.item_id] for item in newest.items]
    assert "bob" in streamrec(answered, "recommend", "bob").stdout


def test_state_show_lists_the_window_oldest_first(answered: Deployment) -> None:
    said = streamrec(answered, "state", "show", "ann").stdout
    places = [said.index(FILMS[film]) for user, film in EVENTS if user == "ann"]
    assert places == sorted(places)
    assert "window of 3 events" in said


@pytest.mark.parametrize("command", [("recommend", "nobody"), ("state", "show", "nobody")])
def test_an_unknown_user_is_one_clear_line_and_exit_1(answered: Deployment, command: tuple[str, ...]) -> None:
    done = streamrec(answered, *command)
    assert done.returncode == 1
    assert done.stderr.startswith("streamrec: no ")
    assert "'nobody'" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_reset_asks_and_leaves_the_state_alone_without_an_answer(answered: Deployment) -> None:
    reader = StateReader.of(answered.settings.redis, answered.kafka)
    before = reader.partitions()
    done = streamrec(answered, "state", "reset")
    assert done.returncode == 1
    assert "Drop it?" in done.stdout
    assert reader.partitions() == before
    assert reader.session("ann") is not None


def test_after_a_reset_the_running_worker_rebuilds_the_same_sessions_and_answers_nothing_twice(
    answered: Deployment,
) -> None:
    """The worker notices with the next event of a partition, so one is sent to each user."""
    reader = StateReader.of(answered.settings.redis, answered.kafka)
    until(lambda: sum(committed(answered.kafka).values()) == len(EVENTS), "the offsets to be committed")
    windows = {user: reader.session(user).window for user in ("ann", "bob")}
    done = streamrec(answered, "state", "reset", "--yes")
    assert done.returncode == 0
    assert reader.partitions() == []
    assert reader.session("ann") is None
    nudge_data = answered.directory / "nudge"
    nudge_data.mkdir()
    (nudge_data / "ratings.csv").write_text("userId,movieId,rating,timestamp\nann,1,4,60\nbob,50,4,61\n")
    streamrec(answered, "replay", str(nudge_data))
    until(lambda: reader.session("ann") and reader.session("bob"), "the sessions to be rebuilt")
    until(
        lambda: sum(reader.applied(p).offset for p in reader.partitions()) == len(EVENTS) + 2,
        "all events to be applied again",
    )
    assert {user: reader.session(user).window for user in ("ann", "bob")} == windows
    lists = streamrec(answered, "tail", "--from-start", "--count", str(len(EVENTS) + 2), "--json").stdout.splitlines()
    ids = [Recommendation.model_validate_json(line).recommendation_id for line in lists]
    assert len(set(ids)) == len(ids)
