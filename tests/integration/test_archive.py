"""Training with an archive: each record is read once, and kept whatever becomes of the topic."""

from __future__ import annotations

import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from kafka import TopicPartition

from encoders.bundle import read_bundle
from encoders.records import Interaction
from streams.settings import KafkaSettings
from streams.topics import create_topics, open_admin
from tests.integration.test_train import SMALL, Silent, clicks, make_plan, publish
from tests.servers import REPOSITORY, RealKafka, unique_names
from trainer.archive import read_manifest, read_rows
from trainer.cleaning import CleaningRules
from trainer.errors import ArchiveError
from trainer.interactions import Interactions
from trainer.job import train
from trainer.log import bring_up_to_date, read_log
from trainer.plan import TrainingPlan
from trainer.replay import KafkaSource


class Listener(Silent):
    """Remembers what was said and how many records were read, and ends the run where it is told to."""

    def __init__(self, die_at_step: int = 0) -> None:
        self.said: list[str] = []
        self.n_read = 0
        self._die_at_step = die_at_step

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        if label == "replay":
            self.n_read = done
        elif self._die_at_step and done >= self._die_at_step:
            raise KeyboardInterrupt


@pytest.fixture
def plan(topics: KafkaSettings, tmp_path: Path) -> TrainingPlan:
    return replace(make_plan(topics, tmp_path), archive=tmp_path / "archive")


def read(plan: TrainingPlan) -> tuple[Interactions, int]:
    """The interactions, and how many records were read for them."""
    listener = Listener()
    return read_log(plan.source, plan.rules, listener, plan.archive).events, listener.n_read


def later(n: int) -> list[Interaction]:
    return [click.model_copy(update={"event_id": f"later-{click.event_id}"}) for click in clicks(n)]


def places(events: Interactions) -> set[tuple[int, int]]:
    return set(zip(events.partitions.tolist(), events.offsets.tolist(), strict=True))


def test_a_second_run_reads_only_what_is_new_and_learns_from_all(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    first, second = Listener(), Listener()
    assert train(plan, first).log.n_records == first.n_read == 300
    publish(plan, later(40))
    result = train(plan, second)
    assert (second.n_read, result.log.n_records, result.log.n_events) == (40, 340, 340)
    assert sum(read_bundle(result.update.uri).manifest.trained_through[plan.source.interactions].values()) == 340


def test_where_nothing_is_new_nothing_is_read(plan: TrainingPlan) -> None:
    """Though a broker may name an end that lies before what was read."""
    publish(plan, clicks(300))
    before, _ = read(plan)
    after, n_read = read(plan)
    assert n_read == 0
    assert places(after) == places(before)


def test_an_archive_gives_what_a_replay_gives(plan: TrainingPlan) -> None:
    publish(plan, [*clicks(200), *clicks(20)])  # the last ones a second time
    archived, _ = read(plan)
    replayed, _ = read(replace(plan, archive=None))
    for events in (archived, replayed):
        assert len(events) == 200
    assert places(archived) == places(replayed)


@pytest.mark.real_kafka
def test_what_retention_removes_is_still_learned_from(real_kafka: RealKafka, tmp_path: Path) -> None:
    """On Apache Kafka: the embedded broker removes no records."""
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    plan = replace(make_plan(kafka, tmp_path), archive=tmp_path / "archive")
    publish(plan, clicks(300))
    before, _ = read(plan)
    remove(kafka)
    publish(plan, later(10))
    listener = Listener()
    assert (train(plan, listener).log.n_events, listener.n_read) == (310, 10)
    archived, n_read = read(plan)
    assert n_read == 0
    assert places(before) < places(archived)
    assert len(archived) == 310


@pytest.mark.real_kafka
def test_what_retention_removes_unread_is_counted_and_said(real_kafka: RealKafka, tmp_path: Path) -> None:
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    plan = replace(make_plan(kafka, tmp_path), archive=tmp_path / "archive")
    publish(plan, clicks(100))
    read(plan)
    publish(plan, later(30))
    remove(kafka)
    listener = Listener()
    assert len(read_log(plan.source, plan.rules, listener, plan.archive).events) == 100
    assert any("30 records had been removed from the topic before they were read" in line for line in listener.said)
    assert plan.archive
    assert sum(read_manifest(plan.archive).lost.values()) == 30


def remove(kafka: KafkaSettings) -> None:
    """All records of the interactions so far, as retention would."""
    with open_admin(kafka) as admin:
        partitions = [TopicPartition(kafka.topics.interactions, number) for number in range(kafka.partitions)]
        admin.delete_records(dict.fromkeys(partitions, -1))


def test_a_topic_that_was_made_anew_is_refused_with_the_ways_out(topics: KafkaSettings, plan: TrainingPlan) -> None:
    publish(plan, clicks(60))
    read(plan)
    with open_admin(topics) as admin:
        admin.delete_topics([topics.topics.interactions])
    create_topics(topics)
    publish(plan, clicks(80))
    with pytest.raises(ArchiveError, match=r"was deleted and made anew.*--archive.*--no-archive"):
        read(plan)
    assert len(read(replace(plan, archive=None))[0]) == 80


def main(brokers: str, topic: str, items: str, archive: str) -> None:
    """Read into an archive, and be killed while some of it is written and not committed."""
    from trainer import log, replay

    class Fatal(Silent):
        def progress(self, label: str, done: int, total: int, note: str = "") -> None:
            if done >= 500:
                signal.raise_signal(signal.SIGKILL)

    replay.MAX_POLL_RECORDS, log.COMMIT_EVERY_RECORDS = 100, 300
    source = KafkaSource({"bootstrap_servers": [brokers]}, topic, items)
    bring_up_to_date(Path(archive), source, CleaningRules(), Fatal())


def test_a_trainer_that_is_killed_while_it_reads_goes_on_behind_its_last_commit(
    topics: KafkaSettings, plan: TrainingPlan
) -> None:
    publish(plan, clicks(1_000))
    arguments = [topics.brokers, topics.topics.interactions, topics.topics.items, str(plan.archive)]
    code = "import sys; from tests.integration.test_archive import main; main(*sys.argv[1:])"
    killed = subprocess.run([sys.executable, "-c", code, *arguments], cwd=REPOSITORY, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert plan.archive
    manifest = read_manifest(plan.archive)
    assert 300 <= manifest.n_rows < 500
    assert (plan.archive / "rows.users").stat().st_size >= 500 * 4  # written, but not committed
    events, n_read = read(plan)
    assert n_read == 1_000 - manifest.n_rows
    assert len(events) == len(places(events)) == 1_000
    assert len(read_rows(plan.archive, read_manifest(plan.archive))) == 1_000


def test_a_run_that_was_interrupted_is_taken_up_and_announces_what_it_would_have(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    plan = replace(plan, settings=SMALL.model_copy(update={"checkpoint_minutes": 1e-9, "batch_size": 8}))
    undisturbed = read_bundle(train(plan, Listener()).update.uri)
    with pytest.raises(KeyboardInterrupt):
        train(plan, Listener(die_at_step=3))
    publish(plan, later(40))
    listener = Listener()
    result = train(plan, listener)
    assert any("the 40 records that came since are for the next run" in line for line in listener.said)
    assert result.log.n_records == 300
    bundle = read_bundle(result.update.uri)
    np.testing.assert_array_equal(bundle.encoder.item_vectors, undisturbed.encoder.item_vectors)
    assert bundle.manifest.metrics == undisturbed.manifest.metrics
    assert train(plan, Listener()).log.n_records == 340
