"""Producers that put records elsewhere than our own do: with another partitioner, and without keys."""

from __future__ import annotations

import zlib
from collections import Counter, defaultdict
from typing import NamedTuple

import pytest

from encoders.records import BundleReference, Interaction
from streams.routing import partition_of
from tests.exactness import Outcome, check_exact
from tests.processes import (
    Deployment,
    RawRecord,
    clicks,
    publish_raw,
    read_topic,
    wait_applied,
)

OTHERWISE = clicks(300, seed=1)
"""Keyed, but with librdkafka's default partitioner: CRC-32 of the key."""
KEYLESS = clicks(300, seed=2, users=20)
"""Without keys: every record in the next partition."""
N_PARTITIONS = 4


class Ran(NamedTuple):
    outcome: Outcome
    misplaced: int
    """Records that were published outside their user's partition."""


def crc32_partition(key: bytes) -> int:
    return zlib.crc32(key) % N_PARTITIONS


def placed(events: list[Interaction], *, keyed: bool) -> list[RawRecord]:
    """The events as such a producer writes them."""
    records = []
    for number, event in enumerate(events):
        key = event.user_id.encode()
        partition = crc32_partition(key) if keyed else number % N_PARTITIONS
        records.append(RawRecord(event.to_json(), key if keyed else None, partition, [("made-by", b"another")]))
    return records


@pytest.fixture(scope="module")
def model(deployment: Deployment) -> BundleReference:
    return deployment.serve()


@pytest.fixture(scope="module")
def ran(deployment: Deployment, model: BundleReference) -> Ran:
    """What a worker makes of both."""
    deployment.worker().wait_ready()
    records = placed(OTHERWISE, keyed=True) + placed(KEYLESS, keyed=False)
    publish_raw(deployment.kafka, deployment.kafka.topics.interactions, records)
    pairs = zip(OTHERWISE + KEYLESS, records, strict=True)
    misplaced = sum(partition_of(event.user_id, N_PARTITIONS) != record.partition for event, record in pairs)
    assert misplaced > 200
    wait_applied(deployment.settings, len(records) + misplaced)
    return Ran(check_exact(deployment.settings, model), misplaced)


def test_every_event_is_answered_once_and_the_state_is_the_fold_of_the_log(ran: Ran) -> None:
    """Nothing is lost, nothing counted twice: the fold compares sessions, popularity and counters."""
    answered = Counter(made.event_id for made in ran.outcome.lists)
    assert answered == Counter(event.event_id for event in OTHERWISE + KEYLESS)


def test_each_misplaced_record_is_forwarded_once_as_it_came(deployment: Deployment, ran: Ran) -> None:
    (worker,) = deployment.workers
    assert worker.metric("forwarded_total") == ran.misplaced
    assert worker.metric("events_total") == len(OTHERWISE) + len(KEYLESS)
    assert worker.metric("duplicates_total") == 0
    users = {event.to_json(): event.user_id for event in OTHERWISE + KEYLESS}
    at_home, elsewhere = {}, {}
    for record in read_topic(deployment.kafka, deployment.kafka.topics.interactions):
        user = users[record.value]
        copies = at_home if record.partition == partition_of(user, N_PARTITIONS) else elsewhere
        assert record.value not in copies
        copies[record.value] = record
    assert at_home.keys() == users.keys()
    assert len(elsewhere) == ran.misplaced
    for value, original in elsewhere.items():
        assert at_home[value].key == users[value].encode()
        assert list(at_home[value].headers) == list(original.headers) == [("made-by", b"another")]


def test_all_about_a_user_is_answered_from_the_users_own_partition(ran: Ran) -> None:
    for made in ran.outcome.lists:
        assert made.source_partition == partition_of(made.user_id, N_PARTITIONS)


def test_order_is_kept_as_far_as_the_log_has_it(ran: Ran) -> None:
    """What a user did within one partition is answered in that order, forwarded or not."""
    before, after = defaultdict(list), defaultdict(list)
    for event in OTHERWISE:
        before[event.user_id, crc32_partition(event.user_id.encode())].append(event.event_id)
    for number, event in enumerate(KEYLESS):
        before[event.user_id, number % N_PARTITIONS].append(event.event_id)
    places = {event_id: place for place, event_ids in before.items() for event_id in event_ids}
    for made in sorted(ran.outcome.lists, key=lambda made: (made.source_partition, made.source_offset)):
        after[places[made.event_id]].append(made.event_id)
    assert after == before
