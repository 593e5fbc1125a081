"""Training runs on a real broker, from the topic to the announcement."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
from kafka import KafkaProducer
from typer.testing import CliRunner

from encoders.bundle import ENCODERS, RETRIEVERS, read_bundle
from encoders.records import Interaction, ModelUpdate
from encoders.window import WindowRule
from index.build import load_index
from index.settings import IndexSettings
from streams.cli.app import app
from streams.processes import free_port
from streams.settings import KafkaSettings
from streams.topics import create_topics
from tests.servers import RealKafka, unique_names
from trainer.assess import assess, trained_mask
from trainer.cleaning import CleaningRules
from trainer.errors import NothingToTrainError, ReplayError
from trainer.job import train
from trainer.log import read_log
from trainer.plan import TrainingPlan
from trainer.publish import current_update
from trainer.replay import KafkaSource, open_topic
from trainer.settings import TrainerSettings

NOW_MS = int(time.time() * 1000)
SMALL = TrainerSettings(embedding_dim=8, hidden_dim=8, max_epochs=2)


class Silent:
    """A report that nobody reads."""

    def say(self, text: str) -> None:
        pass

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        pass


def make_plan(kafka: KafkaSettings, directory: Path) -> TrainingPlan:
    names = kafka.topics
    source = KafkaSource(kafka.kafka_python_config(), names.interactions, names.items, names.model_updates)
    return TrainingPlan(source, "gru", directory / "bundles", SMALL, CleaningRules(), timedelta(days=30))


@pytest.fixture
def plan(topics: KafkaSettings, tmp_path: Path) -> TrainingPlan:
    return make_plan(topics, tmp_path)


def clicks(n: int, n_users: int = 10, n_items: int = 50) -> list[Interaction]:
    """Each user goes through the items in a circle."""
    return [
        Interaction(
            event_id=f"e{i}",
            user_id=f"user-{i % n_users}",
            item_id=f"item-{(i % n_users + i // n_users) % n_items}",
            event_type="click",
            timestamp_ms=NOW_MS - 1000 * (n - i),
        )
        for i in range(n)
    ]


def publish(plan: TrainingPlan, interactions: Iterable[Interaction]) -> None:
    producer = KafkaProducer(**plan.source.client_config, linger_ms=20)
    for interaction in interactions:
        producer.send(plan.source.interactions, key=interaction.user_id.encode(), value=interaction.to_json())
    producer.flush()
    producer.close()


def announced(plan: TrainingPlan) -> list[tuple[bytes, ModelUpdate, list[tuple[str, bytes]]]]:
    with open_topic(plan.source, plan.source.model_updates) as records:
        return [(r.key, ModelUpdate.model_validate_json(r.value), list(r.headers)) for r in records]


def test_a_run_announces_a_bundle_that_can_be_read_and_holds_all_events(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    result = train(plan, Silent())
    (key, update, headers), *others = announced(plan)
    assert (key, update, headers, others) == (b"gru", result.update, [("schema", b"1")], [])
    bundle = read_bundle(update.uri, update.manifest_sha256)
    assert bundle.manifest.version == update.version
    assert sorted(bundle.vocabulary.item_ids) == sorted(f"item-{i}" for i in range(39))
    assert sum(bundle.manifest.trained_through[plan.source.interactions].values()) == 300
    assert load_index(bundle.index_path, "flat").n_items == 39
    assert (bundle.manifest.index.kind, bundle.manifest.index.recall) == ("flat", {"recall@10": 1.0})
    assert update.previous is None
    assert {"recall@10", "popularity_recall@10"} <= set(result.metrics)


@pytest.mark.parametrize("model", ENCODERS)
def test_every_encoder_is_trained_by_its_name(plan: TrainingPlan, model: str) -> None:
    publish(plan, clicks(300))
    settings = TrainerSettings.model_validate({"model": model, "embedding_dim": 8, "hidden_dim": 8})
    result = train(replace(plan, settings=settings), Silent())
    bundle = read_bundle(result.update.uri)
    assert bundle.manifest.kind == bundle.encoder.kind == model
    states, _ = bundle.encoder.encode(np.array([[1, 2]]))
    assert states.shape == (1, bundle.encoder.state_size)


@pytest.mark.parametrize("model", RETRIEVERS)
def test_every_retriever_is_trained_by_its_name(plan: TrainingPlan, model: str, tmp_path: Path) -> None:
    publish(plan, clicks(300))
    settings = TrainerSettings.model_validate({"model": model})
    result = train(replace(plan, settings=settings, archive=tmp_path / "archive"), Silent())
    bundle = read_bundle(result.update.uri)
    assert bundle.manifest.kind == bundle.retriever.kind == model
    assert sum(bundle.manifest.trained_through[plan.source.interactions].values()) == 300
    numbers, _ = bundle.retriever.retrieve(np.array([[bundle.vocabulary.item_number("item-20")]]), 5)
    assert (numbers > 0).all()
    assert {"recall@10", "popularity_recall@10"} <= set(result.metrics)
    assert (result.index, result.best_epoch, result.to_json()["index"]) == (None, 0, None)
    report = Silent()
    events = read_log(plan.source, plan.rules, report).events
    assert assess(bundle, events, np.ones(300, dtype=bool), 0.1, report).figures


@pytest.mark.parametrize("kind", ["ivf_flat", "ivf_sq8", "hnsw"])
def test_the_index_that_was_asked_for_is_built_and_tuned(plan: TrainingPlan, kind: str) -> None:
    publish(plan, clicks(300))
    settings = IndexSettings.model_validate({"kind": kind, "k": 5, "target_recall": 0.8})
    said: list[str] = []
    report = Silent()
    report.say = said.append  # type: ignore[method-assign]
    result = train(replace(plan, index=settings), report)
    bundle = read_bundle(result.update.uri)
    record, index = bundle.manifest.index, load_index(bundle.index_path, kind)
    assert record == result.index
    assert (record.kind, record.params) == (index.kind, index.params)
    assert record.recall["recall@5"] >= 0.8
    assert any(line.startswith(f"Index: {kind} (") and "recall@5" in line for line in said)
    unseen = assess(bundle, read_log(plan.source, plan.rules, report).events, np.ones(300, dtype=bool), 0.1, report)
    assert unseen.figures


def test_the_next_run_names_the_bundle_before_it(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    first, second = train(plan, Silent()).update, train(plan, Silent()).update
    assert second.previous is not None
    assert second.previous.model_dump() == first.model_dump(exclude={"model", "metrics", "previous"})
    assert current_update(plan.source, "gru") == second
    assert current_update(plan.source, "another") is None


def test_every_record_is_read_though_a_broker_may_name_too_low_an_end(
    plan: TrainingPlan, monkeypatch: pytest.MonkeyPatch
) -> None:
    # One at a time, so that the named end is reached before the rest of the last batch is handed over.
    monkeypatch.setattr("trainer.replay.MAX_POLL_RECORDS", 1)
    publish(plan, clicks(1_000))
    log = read_log(plan.source, plan.rules, Silent())
    assert (log.n_records, len(log.events), sum(log.read_through.values())) == (1_000, 1_000, 1_000)


@pytest.mark.real_kafka
def test_open_and_aborted_transactions_are_not_learned_from(real_kafka: RealKafka, tmp_path: Path) -> None:
    """Tansu does not tell readers which transactions were aborted, so this needs the real Kafka."""
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    plan = make_plan(kafka, tmp_path)
    publish(plan, clicks(60))
    producer = KafkaProducer(**plan.source.client_config, transactional_id=kafka.group_id, acks="all")
    producer.init_transactions()
    producer.begin_transaction()
    for interaction in clicks(20):
        never = interaction.model_copy(update={"event_id": f"never-{interaction.event_id}"})
        producer.send(plan.source.interactions, key=never.user_id.encode(), value=never.to_json())
    producer.flush()
    assert read_log(plan.source, plan.rules, Silent()).n_records == 60
    producer.abort_transaction()
    publish(plan, [clicks(61)[60].model_copy(update={"event_id": "later"})])
    producer.close()
    log = read_log(plan.source, plan.rules, Silent())
    assert log.n_records == 61
    assert sum(log.read_through.values()) > 61  # what was aborted has offsets, too


def test_an_empty_topic_is_nothing_to_train_on_and_says_how_many_are_needed(plan: TrainingPlan) -> None:
    with pytest.raises(NothingToTrainError, match=r"0 records.*at least 50 are needed"):
        train(plan, Silent())


def test_one_event_too_few_is_refused_and_what_was_left_out_is_named(plan: TrainingPlan) -> None:
    publish(plan, [*clicks(49), clicks(49)[0]])
    with pytest.raises(NothingToTrainError, match=r"49 of them usable \(left out: 1 repeated\)"):
        train(plan, Silent())
    assert announced(plan) == []


def test_a_single_item_is_nothing_to_train_on(plan: TrainingPlan) -> None:
    publish(plan, clicks(60, n_items=1))
    with pytest.raises(NothingToTrainError, match="at least 2 items"):
        train(plan, Silent())


def test_users_of_one_event_are_nothing_to_train_on(plan: TrainingPlan) -> None:
    publish(plan, clicks(60, n_users=60))
    with pytest.raises(NothingToTrainError, match="what follows what cannot be learned"):
        train(plan, Silent())


def test_one_user_is_enough(plan: TrainingPlan) -> None:
    publish(plan, clicks(60, n_users=1, n_items=50))
    assert read_bundle(train(plan, Silent()).update.uri).manifest.n_items == 50


def test_a_user_with_one_item_over_and_over_is_nothing_to_train_on(plan: TrainingPlan) -> None:
    first, *rest = clicks(60, n_users=1, n_items=1)
    publish(plan, [first.model_copy(update={"user_id": "other", "item_id": "else"}), *rest])
    with pytest.raises(NothingToTrainError, match="what follows what cannot be learned"):
        train(plan, Silent())


def test_events_of_one_moment_are_trained_on_without_figures(plan: TrainingPlan) -> None:
    publish(plan, [c.model_copy(update={"timestamp_ms": NOW_MS}) for c in clicks(60)])
    result = train(plan, Silent())
    assert (result.metrics, result.best_epoch) == ({}, 0)


def test_a_topic_that_is_missing_is_named(plan: TrainingPlan) -> None:
    elsewhere = replace(plan, source=replace(plan.source, interactions="no-such-topic"))
    with pytest.raises(ReplayError, match=r"'no-such-topic' does not exist.*streamrec topics create"):
        train(elsewhere, Silent())


def test_a_broker_that_is_not_there_is_named(plan: TrainingPlan) -> None:
    address = f"127.0.0.1:{free_port()}"
    elsewhere = replace(plan, source=replace(plan.source, client_config={"bootstrap_servers": [address]}))
    with pytest.raises(ReplayError, match=address):
        train(elsewhere, Silent())


def test_what_came_after_the_training_is_what_a_bundle_is_assessed_on(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    bundle = read_bundle(train(plan, Silent()).update.uri)
    through = bundle.manifest.trained_through[plan.source.interactions]
    late = [c.model_copy(update={"user_id": f"new-{c.user_id}", "event_id": f"n{c.event_id}"}) for c in clicks(40)]
    publish(plan, late)
    events = read_log(plan.source, plan.rules, Silent()).events
    assessment = assess(bundle, events, trained_mask(events, through), 0.1, Silent())
    assert assessment.unseen
    assert assessment.figures["n_test_events"] == 30  # ten new users, and each one's first event is no question
    assert assessment.figures["recall@10_new_users"] == assessment.figures["recall@10"]


def test_the_command_writes_its_figures(plan: TrainingPlan, topics: KafkaSettings, tmp_path: Path) -> None:
    publish(plan, clicks(300))
    names = topics.topics
    settings = tmp_path / "streamrec.toml"
    settings.write_text(
        f'[kafka]\nbrokers = "{topics.brokers}"\n[kafka.topics]\ninteractions = "{names.interactions}"\n'
        f'items = "{names.items}"\nmodel_updates = "{names.model_updates}"\n'
        "[model.window]\nmax_len = 6\n[trainer]\nembedding_dim = 8\nhidden_dim = 8\n"
    )
    figures, bundles = tmp_path / "figures.json", tmp_path / "elsewhere"
    options = ["--config", str(settings), "--bundles", str(bundles), "--max-epochs", "1", "--json", str(figures)]
    shown = CliRunner().invoke(app, ["train", *options], catch_exceptions=False)
    written = json.loads(figures.read_text())
    assert written["version"] in shown.stdout
    assert written["n_events"] == 300
    assert written["train_s"] > 0
    assert read_bundle(bundles / written["version"]).manifest.window_rule == WindowRule(max_len=6)
    evaluated = CliRunner().invoke(app, ["evaluate", "--config", str(settings)], catch_exceptions=False)
    assert written["version"] in evaluated.stdout
    assert "popularity" in evaluated.stdout
    assert "Replaying" in evaluated.stdout  # there is no archive among the default bundles
    given = ["--config", str(settings), "--archive", str(bundles / "archive")]
    evaluated = CliRunner().invoke(app, ["evaluate", *given], catch_exceptions=False)
    assert "Reading what is new" in evaluated.stdout
    held = CliRunner().invoke(app, ["archive", "info", *given], catch_exceptions=False)
    assert "300 records were read, 300 of them are interactions of 10 users and 39 items" in held.stdout
