"""What answers where the model cannot, and what may not be listed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from encoders.records import BundleReference, Item, Recommendation
from streams.settings import KafkaSettings, WorkerSettings
from tests.exactness import check_exact
from tests.integration.asking import ask, event, item_ids, wait_for_lists
from tests.integration.conftest import Deployments
from tests.processes import Deployment, RawRecord, WorkerProcess, publish_interactions, publish_raw, until

RULES = WorkerSettings.model_validate({"popularity_refresh": "0.1s"})
MODEL_ITEMS = {str(number) for number in range(1, 41)}
"""What the models of `tests.bundles` know."""


@pytest.fixture(scope="module")
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    with deployments.on(broker, worker=RULES) as shared:
        yield shared


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> WorkerProcess:
    return deployment.worker().wait_ready()


class TestWithoutAModel:
    """In this order: the system is empty, then has counts."""

    def test_an_empty_system_answers_with_an_empty_list(self, deployment: Deployment, worker: WorkerProcess) -> None:
        made = ask(deployment.kafka, "first")
        assert made.items == []
        assert made.model_version is None
        assert worker.metric("lists_total", source="none") == 1

    def test_what_others_did_is_popular_by_weight_in_the_order_of_decayed_counts(self, deployment: Deployment) -> None:
        """A purchase weighs three clicks; a skip nothing; with a half-life of 30 days what is older counts less."""
        month_ms = 30 * 24 * 3_600_000
        done = [
            *(event(f"buyer-{number}", "bought", event_type="purchase") for number in range(3)),
            *(event(f"fan-{number}", "clicked") for number in range(4)),
            *(event(f"skipper-{number}", "skipped", event_type="skip") for number in range(9)),
        ]
        old_ms = done[0].timestamp_ms - 2 * month_ms
        done += [event(f"old-fan-{number}", "old", timestamp_ms=old_ms) for number in range(8)]
        publish_interactions(deployment.kafka, done)
        wait_for_lists(deployment.kafka, done)
        wanted = {"bought": 1, "clicked": 4 / 9, "old": 2 / 9}

        def asked() -> Recommendation | None:  # popularity is worked out now and then, not with each event
            made = ask(deployment.kafka, "newcomer")
            scores = {item.item_id: item.score for item in made.items}
            return made if scores == pytest.approx(wanted, rel=1e-3) else None

        made = until(asked, "all is counted")
        assert item_ids(made, "popularity") == list(wanted)
        assert made.model_version is None

    def test_a_user_is_not_told_of_what_the_user_has_seen(self, deployment: Deployment) -> None:
        assert item_ids(ask(deployment.kafka, "reader", "bought")) == ["clicked", "old"]
        assert item_ids(ask(deployment.kafka, "reader", "old")) == ["clicked"]

    def test_every_partition_adds_to_what_is_popular_and_each_catalogue_has_its_own(
        self, deployment: Deployment
    ) -> None:
        publish_interactions(deployment.kafka, [event(f"viewer-{n}", "clip", catalogue="clips") for n in range(20)])
        until(
            lambda: item_ids(ask(deployment.kafka, "guest", catalogue="clips")) == ["clip"],
            "the other catalogue answers",
        )
        assert "clip" not in item_ids(ask(deployment.kafka, "guest"))


@pytest.fixture(scope="module")
def model(deployment: Deployment, worker: WorkerProcess) -> BundleReference:
    """Announced when the tests without a model are through."""
    reference = deployment.serve()
    until(lambda: worker.health().get("model_version") == reference.version, "the model answers")
    return reference


class TestWithAModel:
    def test_it_answers_who_did_something_that_it_knows(self, deployment: Deployment, model: BundleReference) -> None:
        made = ask(deployment.kafka, "known", "7")
        assert {item.source for item in made.items} == {"ann"}
        assert len(made.items) == 10
        assert made.model_version == model.version

    def test_a_new_user_who_asks_for_a_list_gets_what_is_popular(
        self, deployment: Deployment, model: BundleReference
    ) -> None:
        made = ask(deployment.kafka, "nobody-yet")
        assert {item.source for item in made.items} == {"popularity"}
        assert item_ids(made)[:2] == ["bought", "clicked"]
        assert made.model_version == model.version

    def test_a_user_who_only_did_what_it_does_not_know_gets_what_is_popular(
        self, deployment: Deployment, model: BundleReference
    ) -> None:
        made = ask(deployment.kafka, "avant-garde", "not-in-the-model")
        assert {item.source for item in made.items} == {"popularity"}
        assert item_ids(ask(deployment.kafka, "avant-garde", "7"), "ann")

    def test_a_catalogue_that_is_not_the_models_gets_what_is_popular_there(
        self, deployment: Deployment, model: BundleReference
    ) -> None:
        made = ask(deployment.kafka, "known", "7", catalogue="clips")
        assert [(item.item_id, item.source) for item in made.items] == [("clip", "popularity")]

    def test_what_the_user_has_seen_of_the_model_runs_out_and_popularity_fills_the_list(
        self, deployment: Deployment, model: BundleReference
    ) -> None:
        done = [event("bingewatcher", str(number)) for number in range(1, 36)]
        publish_interactions(deployment.kafka, done)
        made = wait_for_lists(deployment.kafka, done)[-1]
        assert set(item_ids(made, "ann")) == MODEL_ITEMS - {str(number) for number in range(1, 36)}
        assert item_ids(made, "popularity")[:2] == ["bought", "clicked"]


def describe(deployment: Deployment, item_id: str, **fields: object) -> None:
    described = Item.model_validate({"item_id": item_id, "title": f"film {item_id}", **fields})
    record = RawRecord(described.to_json(), described.key)
    publish_raw(deployment.kafka, deployment.kafka.topics.items, [record])


def remove(deployment: Deployment, item_id: str) -> None:
    publish_raw(deployment.kafka, deployment.kafka.topics.items, [RawRecord(None, f"default/{item_id}".encode())])


WAYS_OUT = {
    "unavailable": lambda deployment, item_id: describe(deployment, item_id, available=False),
    "out of stock": lambda deployment, item_id: describe(deployment, item_id, stock=0),
    "removed by a tombstone": remove,
}


@pytest.mark.parametrize("way_out", WAYS_OUT)
@pytest.mark.parametrize("user", ["known", "nobody-yet"], ids=["listed by the model", "listed as popular"])
def test_an_item_disappears_and_comes_back(
    deployment: Deployment, worker: WorkerProcess, model: BundleReference, user: str, way_out: str
) -> None:
    before = item_ids(ask(deployment.kafka, user))
    WAYS_OUT[way_out](deployment, before[0])
    until(lambda: worker.metric("items_unavailable") == 1, "the item is withheld")
    without = item_ids(ask(deployment.kafka, user))
    assert before[0] not in without
    assert without[: len(before) - 1] == before[1:]
    describe(deployment, before[0], stock=3)
    until(lambda: worker.metric("items_unavailable") == 0, "the item is back")
    assert item_ids(ask(deployment.kafka, user)) == before


def test_after_all_that_the_state_is_the_fold_of_the_log(deployment: Deployment, model: BundleReference) -> None:
    check_exact(deployment.settings, model)
