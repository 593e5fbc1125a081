"""Batches on real brokers: what fails holds up its own partition, memory stays bounded, and stopping is clean."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest

from encoders.records import Interaction
from streams.settings import KafkaSettings, WorkerSettings
from streams.store import Keys
from tests.exactness import check_exact
from tests.inmemory import users_of
from tests.integration.asking import event
from tests.integration.conftest import BOTH_BROKERS, Deployments
from tests.processes import (
    Deployment,
    RawRecord,
    applied,
    clicks,
    committed,
    publish_interactions,
    publish_raw,
    publishing,
    read_lists,
    read_topic,
    until,
    wait_applied,
)

on_both = pytest.mark.parametrize("broker", BOTH_BROKERS, indirect=True, scope="module")
STUCK = 0
USERS = users_of(STUCK, 4, 10)
LIMIT_BYTES = 20_000
BATCH = WorkerSettings(max_batch=32, max_pending_bytes=LIMIT_BYTES)
STEADY_S = 2.5
"""Long enough for several fetches, commits and retries."""


@pytest.fixture(scope="module")
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    """Small batches, and little that may wait."""
    with deployments.on(broker, worker=BATCH) as shared:
        shared.worker().wait_ready()
        publish_interactions(shared.kafka, clicks(400))
        yield shared


@contextmanager
def in_the_way(deployment: Deployment, partition: int) -> Iterator[None]:
    """A key of another kind: Redis refuses the partition's script before that has written anything.

    Enter while the partition is idle and has counts.
    """
    settings = deployment.settings
    keys = Keys.of(settings.redis.key_prefix, settings.kafka.topics.interactions, partition)
    client: Any = settings.redis.sync_client()
    with closing(client):
        client.rename(keys.catalogues, f"{keys.catalogues}:aside")
        client.set(keys.catalogues, "in the way")
        try:
            yield
        finally:
            client.rename(f"{keys.catalogues}:aside", keys.catalogues)


def of_stuck_partition(n: int, seed: int) -> list[Interaction]:
    """Clicks of users whose partition is the stuck one."""
    return [made.model_copy(update={"user_id": USERS[i % 10]}) for i, made in enumerate(clicks(n, seed=seed))]


def log_ends(kafka: KafkaSettings) -> dict[int, int]:
    return {record.partition: record.offset + 1 for record in read_topic(kafka, kafka.topics.interactions)}


def without_stuck(places: dict[int, int]) -> dict[int, int]:
    return {partition: offset for partition, offset in places.items() if partition != STUCK}


def answered_until(kafka: KafkaSettings) -> dict[int, int]:
    """Offset after the last event that has a list, by partition."""
    found: dict[int, int] = {}
    for made in read_lists(kafka):
        found[made.source_partition] = max(found.get(made.source_partition, 0), made.source_offset + 1)
    return found


def settled(deployment: Deployment) -> dict[int, int]:
    """Wait until all is applied and committed, and say how far that is."""
    ends = log_ends(deployment.kafka)
    until(lambda: applied(deployment.settings) == ends, "everything is applied")
    until(lambda: committed(deployment.kafka) == ends, "everything is committed")
    return ends


def repeated(deployment: Deployment) -> int:
    """Lists that were published more than once, of a state that is exact."""
    return check_exact(deployment.settings).repeated


@on_both
def test_a_batch_that_fails_is_not_passed_by_and_other_partitions_go_on(deployment: Deployment) -> None:
    """A of one partition fails and B of another succeeds: nothing past A is applied, answered or committed."""
    kafka, settings = deployment.kafka, deployment.settings
    worker = deployment.workers[-1]
    before, repeats = settled(deployment), repeated(deployment)
    with in_the_way(deployment, STUCK):
        publish_interactions(kafka, [*of_stuck_partition(300, seed=1), *clicks(400, seed=2)])
        ends = log_ends(kafka)
        until(lambda: without_stuck(applied(settings)) == without_stuck(ends), "the others are applied")
        until(lambda: without_stuck(committed(kafka)) == without_stuck(ends), "the others are committed")
        worker.wait_log("Redis does not take offset")
        time.sleep(STEADY_S)
        assert applied(settings)[STUCK] == committed(kafka)[STUCK] == before[STUCK]
        assert answered_until(kafka)[STUCK] <= before[STUCK] + 5 * BATCH.max_batch  # what waited when it began
    assert repeated(deployment) == repeats
    assert settled(deployment)[STUCK] >= before[STUCK] + 300


def test_what_waits_is_bounded_and_a_partition_that_is_paused_stays_paused(deployment: Deployment) -> None:
    kafka, settings, worker = deployment.kafka, deployment.settings, deployment.workers[-1]
    before, repeats = settled(deployment), repeated(deployment)
    with in_the_way(deployment, STUCK):
        publish_interactions(kafka, of_stuck_partition(3_000, seed=3))
        until(lambda: worker.metric("pending_bytes") > LIMIT_BYTES, "more waits than may")
        time.sleep(STEADY_S)
        waiting = worker.metric("pending_bytes")
        assert waiting < LIMIT_BYTES + 8 * BATCH.max_batch * 4_000  # and what was fetched before the pause
        publish_interactions(kafka, [*of_stuck_partition(500, seed=4), *clicks(200, seed=5)])
        ends = log_ends(kafka)
        until(lambda: without_stuck(applied(settings)) == without_stuck(ends), "the others are read on")
        time.sleep(STEADY_S)
        assert worker.metric("pending_bytes") == waiting
        assert applied(settings)[STUCK] == before[STUCK]
    assert repeated(deployment) == repeats
    assert worker.metric("pending_bytes") == 0


def test_a_rebalance_does_not_wait_for_a_batch_that_is_stuck(deployment: Deployment) -> None:
    kafka, settings, first = deployment.kafka, deployment.settings, deployment.workers[-1]
    before = settled(deployment)
    with in_the_way(deployment, STUCK):
        publish_interactions(kafka, of_stuck_partition(300, seed=6))
        until(lambda: first.metric("pending_bytes") > LIMIT_BYTES, "a batch is stuck")
        second = deployment.worker()
        others = [number for number in range(4) if number != STUCK]

        def shared() -> bool:
            shares = [worker.health().get("partitions", []) for worker in (first, second)]
            return all(shares) and sorted(number for share in shares for number in share) == others

        until(shared, "both have partitions, and nobody the stuck one")
        publish_interactions(kafka, clicks(200, seed=7))
        ends = log_ends(kafka)
        until(lambda: without_stuck(applied(settings)) == without_stuck(ends), "the others are applied")
        assert applied(settings)[STUCK] == committed(kafka)[STUCK] == before[STUCK]
    check_exact(settings)
    assert second.terminate() == 0
    deployment.workers.remove(second)
    second.close()
    first.wait_partitions(range(4))


@on_both
def test_poison_in_the_midst_of_batches_costs_its_neighbours_nothing(deployment: Deployment) -> None:
    kafka, good = deployment.kafka, [event(USERS[number % 10], str(1 + number % 40)) for number in range(200)]
    mixed = []
    for number, made in enumerate(good):
        mixed.append(RawRecord(made.to_json(), made.user_id.encode(), partition=STUCK))
        if number % 3 == 0:
            mixed.append(RawRecord([b"", b"{", b"\xff", b"[" * 2_000][number % 4], b"k", partition=STUCK))
    publish_raw(kafka, kafka.topics.interactions, mixed)
    outcome = check_exact(deployment.settings)
    asked = {made.event_id for made in good}
    assert [made.event_id for made in outcome.lists if made.event_id in asked] == [made.event_id for made in good]
    letters = [record for record in read_topic(kafka, kafka.topics.dead_letters) if record.key == b"k"]
    assert len(letters) == len(mixed) - len(good)


@on_both
def test_a_worker_that_is_stopped_under_load_leaves_nothing_half_done(deployment: Deployment) -> None:
    """What is answered is applied, what is applied is committed, and the next worker repeats nothing."""
    kafka, settings = deployment.kafka, deployment.settings
    worker = deployment.workers[-1]
    start, repeats = sum(settled(deployment).values()), repeated(deployment)
    with publishing(kafka, clicks(50_000, seed=8), rate=1_000):
        wait_applied(settings, start + 300)
        assert worker.terminate() == 0
        stopped_at = applied(settings)
    assert committed(kafka) == stopped_at == applied(settings)
    assert answered_until(kafka) == stopped_at
    assert log_ends(kafka) != stopped_at
    deployment.worker().wait_ready()
    assert repeated(deployment) == repeats


def test_a_worker_that_is_stopped_with_a_stuck_batch_abandons_it_and_commits_the_others(
    deployment: Deployment,
) -> None:
    kafka, settings, worker = deployment.kafka, deployment.settings, deployment.workers[-1]
    before = settled(deployment)
    with in_the_way(deployment, STUCK):
        publish_interactions(kafka, of_stuck_partition(300, seed=9))
        until(lambda: worker.metric("pending_bytes") > LIMIT_BYTES, "a batch is stuck")
        publish_interactions(kafka, clicks(200, seed=10))
        ends = log_ends(kafka)
        until(lambda: without_stuck(applied(settings)) == without_stuck(ends), "the others are applied")
        assert worker.terminate() == 0
        assert "were not durable in time; the next owner does them again" in worker.log
        assert committed(kafka) == applied(settings) == {**ends, STUCK: before[STUCK]}
    deployment.worker().wait_ready()
    check_exact(settings)
    settled(deployment)
