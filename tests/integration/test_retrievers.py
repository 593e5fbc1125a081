"""Models that learn as they serve: trained by name, announced, answering, learning, and swapped with encoders."""

from __future__ import annotations

from datetime import timedelta
from itertools import count
from typing import NamedTuple

import numpy as np
import pytest

from encoders.bundle import RETRIEVERS, RetrieverBundle, read_bundle
from encoders.records import ModelUpdate
from streams.settings import KafkaSettings
from tests.bundles import RULE, announced, write_model
from tests.exactness import check_exact
from tests.integration.asking import ask, event, item_ids, wait_for_lists
from tests.integration.conftest import Deployments
from tests.processes import (
    Deployment,
    WorkerProcess,
    announce,
    clicks,
    publish_interactions,
    publishing,
    until,
)
from trainer.cleaning import CleaningRules
from trainer.job import train
from trainer.plan import TrainingPlan
from trainer.replay import KafkaSource
from trainer.settings import TrainerSettings

HISTORY = clicks(600)
TOP_N = 10
_users = count()


class Silent:
    """A report that nobody reads."""

    def say(self, text: str) -> None:
        pass

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        pass


def trained(deployment: Deployment, kind: str) -> ModelUpdate:
    """Train a model of a kind on what the topic holds, which announces it."""
    kafka = deployment.kafka
    names = kafka.topics
    source = KafkaSource(kafka.kafka_python_config(), names.interactions, names.items, names.model_updates)
    settings = TrainerSettings.model_validate({"model": kind})
    rules = CleaningRules(RULE)
    plan = TrainingPlan(source, "gru", deployment.settings.model.bundles, settings, rules, timedelta(days=30))
    result = train(plan, Silent())
    assert result.metrics["n_test_events"] > 0
    assert result.index is None
    return result.update


def library_answer(update: ModelUpdate, item: str) -> list[str]:
    """What the bundle's retriever answers to a window of one item, best first, without that item."""
    bundle = read_bundle(update.uri, update.manifest_sha256)
    assert isinstance(bundle, RetrieverBundle)
    window = np.array([[bundle.vocabulary.item_number(item)]])
    numbers, _ = bundle.retriever.retrieve(window, bundle.vocabulary.n_items)
    return [bundle.vocabulary.item_id(n) for n in numbers[0].tolist() if n and n != window[0, 0]]


def asked(deployment: Deployment, item: str) -> list[str]:
    """What the model lists for a new user who clicks an item."""
    return item_ids(ask(deployment.kafka, f"new-{next(_users)}", item), "ann")


def serves(worker: WorkerProcess, version: str) -> None:
    until(lambda: worker.health().get("model_version") == version, f"{version} answers")


class Served(NamedTuple):
    """What one kind of model did in turn."""

    update: ModelUpdate
    learned_of_backlog: float
    first: list[str]
    target: str
    """What many users click after the item, and no list held at first."""
    learned: float
    second: list[str]
    restarted: list[str]


ITEM = "7"


@pytest.fixture(scope="module", params=RETRIEVERS)
def served(request: pytest.FixtureRequest, deployment: Deployment) -> Served:
    """A model, trained and announced, before and after it has seen what many users do, and after a restart."""
    kafka = deployment.kafka
    if not deployment.workers:
        publish_interactions(kafka, HISTORY)
    for worker in deployment.workers:
        worker.close()
    update = trained(deployment, request.param)
    worker = deployment.worker().wait_ready()
    serves(worker, update.version)
    first = asked(deployment, ITEM)
    backlog = worker.metric("learned_total") - 1
    target = next(item for item in map(str, range(1, 61)) if item not in (*first, ITEM))
    watched = [event(f"many-{next(_users)}", item) for _ in range(25) for item in (ITEM, target)]
    for place in range(1, len(watched), 2):  # the same user's two
        watched[place] = watched[place].model_copy(update={"user_id": watched[place - 1].user_id})
    publish_interactions(kafka, watched)
    wait_for_lists(kafka, watched)
    learned = worker.metric("learned_total") - 1 - backlog
    second = asked(deployment, ITEM)
    assert worker.terminate() == 0
    serves(deployment.worker().wait_ready(), update.version)
    return Served(update, backlog, first, target, learned, second, asked(deployment, ITEM))


class TestServedAndLearning:
    def test_a_served_list_is_the_librarys_answer(self, served: Served) -> None:
        expected = library_answer(served.update, ITEM)[:TOP_N]
        assert served.first == expected
        assert len(expected) == TOP_N

    def test_what_it_was_trained_on_is_not_learned_again(self, served: Served) -> None:
        assert served.learned_of_backlog == 0

    def test_what_many_users_do_is_learned_and_changes_the_next_list(self, served: Served) -> None:
        assert served.learned == 50
        assert served.target not in served.first
        assert served.target in served.second

    def test_a_worker_that_starts_begins_with_what_is_in_the_bundle(self, served: Served) -> None:
        assert served.restarted == served.first


def test_encoders_and_retrievers_are_swapped_in_mid_stream_and_no_event_is_lost(
    deployments: Deployments, broker: KafkaSettings
) -> None:
    """Two full turns, events flowing: every event has one list, and every session is as the log says."""
    with deployments.on(broker) as own:
        publish_interactions(own.kafka, HISTORY)
        retriever = trained(own, "session-knn")
        encoder = announced(write_model(own.settings.model.bundles))
        worker = own.worker().wait_ready()
        with publishing(own.kafka, clicks(50_000, seed=1), rate=100):
            for update in (encoder, retriever, encoder, retriever):
                announce(own.kafka, update)
                serves(worker, update.version)
                before = worker.metric("events_total")
                until(lambda: worker.metric("events_total") >= before + 30, "events flow")  # noqa: B023
        outcome = check_exact(own.settings, encoder, retriever)
        by_model = {made.model_version for made in outcome.lists if item_ids(made, "ann")}
        assert by_model == {encoder.version, retriever.version}
        assert outcome.repeated == 0
        assert "Traceback" not in worker.log
