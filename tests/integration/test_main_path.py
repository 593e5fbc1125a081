"""Interactions in, lists out, state in Redis: on the embedded broker and on Apache Kafka."""

from __future__ import annotations

from collections import defaultdict
from itertools import groupby

import pytest

from encoders.records import BundleReference, Recommendation
from streams.inspection import StateReader
from streams.pipeline import Source
from streams.routing import partition_of
from streams.session import SessionKey
from streams.topics import cluster_id
from tests.exactness import Outcome, check_exact
from tests.integration.asking import ask, event, item_ids
from tests.integration.conftest import BOTH_BROKERS
from tests.processes import (
    Deployment,
    WorkerProcess,
    clicks,
    committed,
    publish_interactions,
    read_lists,
    read_topic,
    until,
)

pytestmark = pytest.mark.parametrize("broker", BOTH_BROKERS, indirect=True, scope="module")
EVENTS = clicks(500)
TOP_N = 10


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> BundleReference:
    return deployment.serve()


@pytest.fixture(scope="module")
def outcome(deployment: Deployment, model: BundleReference) -> Outcome:
    """What one worker makes of the first events."""
    deployment.worker().wait_ready()
    publish_interactions(deployment.kafka, EVENTS)
    return check_exact(deployment.settings, model)


def test_every_event_is_answered_exactly_once_and_the_state_is_the_fold_of_the_log(outcome: Outcome) -> None:
    assert outcome.repeated == 0
    assert sorted(made.event_id for made in outcome.lists) == sorted(done.event_id for done in EVENTS)


def test_a_list_carries_the_user_as_key_and_the_schema_as_header(deployment: Deployment, outcome: Outcome) -> None:
    records = read_topic(deployment.kafka, deployment.kafka.topics.recommendations)
    assert len(records) == len(outcome.lists)
    for record in records:
        made = Recommendation.model_validate_json(record.value)
        assert record.key == made.user_id.encode()
        assert list(record.headers) == [("schema", b"1")]
        assert record.partition == partition_of(made.user_id, deployment.kafka.partitions)


def test_a_list_names_its_event_and_where_that_lies_in_the_log(
    deployment: Deployment, outcome: Outcome, model: BundleReference
) -> None:
    cluster, topic = cluster_id(deployment.kafka), deployment.kafka.topics.interactions
    users = {done.event_id: done.user_id for done in EVENTS}
    log = {(r.partition, r.offset): r for r in read_topic(deployment.kafka, topic)}
    for made in outcome.lists:
        place = (made.source_partition, made.source_offset)
        assert f'"event_id":"{made.event_id}"'.encode() in log[place].value
        assert made.user_id == users[made.event_id]
        assert made.recommendation_id == Source(cluster, topic, place[0]).recommendation_id(place[1])
        assert (made.scenario, made.variant, made.model_version) == ("default", "default", model.version)


def test_lists_for_a_user_come_in_the_order_of_the_events(outcome: Outcome) -> None:
    asked, answered = defaultdict(list), defaultdict(list)
    for done in EVENTS:
        asked[done.user_id].append(done.event_id)
    for made in outcome.lists:
        answered[made.user_id].append(made.event_id)
    assert answered == asked


def test_a_full_list_holds_each_item_once_best_first_and_none_that_its_user_has_seen(outcome: Outcome) -> None:
    seen: dict[str, set[str]] = defaultdict(set)
    lists = {made.event_id: made for made in outcome.lists}
    by_model = 0
    for done in EVENTS:
        seen[done.user_id].add(str(done.item_id))
        made = lists[done.event_id]
        assert len(set(item_ids(made))) == len(made.items)
        assert not seen[done.user_id].intersection(item_ids(made))
        for _, group in groupby(made.items, key=lambda item: item.source):
            scores = [item.score for item in group]
            assert scores == sorted(scores, reverse=True)
        by_model += len(item_ids(made, "ann")) == TOP_N
    assert by_model > len(EVENTS) / 2


def test_the_latest_list_in_redis_is_the_newest_one_on_the_topic(deployment: Deployment, outcome: Outcome) -> None:
    reader = StateReader.of(deployment.settings.redis, deployment.kafka)
    newest = {made.user_id: made for made in outcome.lists}
    stored = {key: session for number in reader.partitions() for key, session in reader.sessions(number)}
    assert stored.keys() == {SessionKey("default", user) for user in newest}
    for user, made in newest.items():
        session = stored[SessionKey("default", user)]
        assert session.applied_offset == made.source_offset
        assert session.latest is not None
        assert [item.item_id for item in session.latest.items] == item_ids(made)
        assert [item.source for item in session.latest.items] == [item.source for item in made.items]
        scores = [item.score for item in made.items]  # on the wire with six decimals
        assert [item.score for item in session.latest.items] == pytest.approx(scores, abs=1e-6)
        assert session.latest.model_version == made.model_version
        assert session.latest.generated_at_ms == made.generated_at_ms


def test_what_is_applied_is_committed_to_kafka_too(deployment: Deployment, outcome: Outcome) -> None:
    until(lambda: sum(committed(deployment.kafka).values()) == len(EVENTS), "everything is committed")


def test_web_pages_say_how_the_worker_is(deployment: Deployment, outcome: Outcome, model: BundleReference) -> None:
    (worker,) = deployment.workers
    assert worker.health() == {
        "status": "ok",
        "partitions": [0, 1, 2, 3],
        "model_version": model.version,
        "reload": "active",
        "refused": None,
        "items": 0,
    }
    ready = worker.ready()
    assert ready["ready"]
    assert [c["name"] for c in ready["conditions"] if c["ok"]] == ["broadcast", "assignment", "partitions", "model"]


def test_metrics_hold_every_figure_that_an_operator_needs(
    deployment: Deployment, outcome: Outcome, model: BundleReference
) -> None:
    (worker,) = deployment.workers
    assert worker.metric("events_total") == len(EVENTS)
    assert worker.metric("lists_total") == len(EVENTS)
    assert worker.metric("lists_total", source="ann") > 0
    assert worker.metric("batch_size_sum") == len(EVENTS)
    assert worker.metric("model_info", version=model.version) == 1
    assert worker.metric("reload_state", state="active") == 1
    assert worker.metric("reloads_total", outcome="active") == 1
    exposition = worker.page("/metrics")
    for figure in ("dead_letters_lost_total", "forwarded_total", "duplicates_total", "retention_lost_total"):
        assert f"\nstreamrec_{figure} 0.0" in exposition
    for partition in range(4):
        assert f'\nstreamrec_lag{{partition="{partition}"}} 0.0' in exposition
    for stage in ("decode", "load", "encode", "retrieve", "strategy", "produce", "commit"):
        assert worker.metric("stage_seconds_count", stage=stage) > 0


def test_an_event_that_is_sent_twice_is_answered_twice_and_counted_once(
    deployment: Deployment, outcome: Outcome, model: BundleReference
) -> None:
    (worker,) = deployment.workers
    first = ask(deployment.kafka, "twice", "7", event_id="the-same")
    publish_interactions(deployment.kafka, [event(first.user_id, "7", event_id=first.event_id)])
    until(lambda: len([made for made in read_lists(deployment.kafka) if made.event_id == "the-same"]) == 2, "a repeat")
    check_exact(deployment.settings, model)
    assert worker.metric("duplicates_total") == 1


def test_workers_that_join_share_the_partitions_and_give_them_back_when_they_leave(
    deployment: Deployment, outcome: Outcome, model: BundleReference
) -> None:
    """One that gets none is ready, too: Faust gives four partitions to three workers as 2, 2 and 0."""
    first, joining = deployment.workers[0], [deployment.worker() for _ in range(2)]
    for worker in joining:
        worker.wait_ready()
    until(lambda: all_owned(first, *joining), "each partition has one owner, and the first worker not all")
    publish_interactions(deployment.kafka, clicks(400, seed=1))
    check_exact(deployment.settings, model)
    assert sum(worker.metric("events_total") for worker in joining) > 0
    assert all(worker.ready()["ready"] for worker in deployment.workers)
    assert [worker.terminate() for worker in joining] == [0, 0]
    first.wait_partitions(range(4))
    publish_interactions(deployment.kafka, clicks(200, seed=2))
    after = check_exact(deployment.settings, model)
    assert len({made.recommendation_id for made in after.lists}) == len(EVENTS) + 2 + 400 + 200


def all_owned(first: WorkerProcess, *others: WorkerProcess) -> bool:
    """Whether each partition has one owner, and the first worker does not own them all."""
    shares = [worker.health().get("partitions", []) for worker in (first, *others)]
    return sorted(number for share in shares for number in share) == [0, 1, 2, 3] and len(shares[0]) < 4
