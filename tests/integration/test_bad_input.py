"""Records that cannot be served: to the dead letters with the reason, and the stream goes on."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from hashlib import sha256
from typing import Any, NamedTuple

import pytest
from kafka.admin import ConfigResource, ConfigResourceType
from kafka.consumer.fetcher import ConsumerRecord

from streams.settings import KafkaSettings, WorkerSettings
from streams.topics import check_topics, open_admin
from tests.exactness import check_exact
from tests.integration.asking import ask, event, wait_for_lists
from tests.integration.conftest import BOTH_BROKERS, Deployments
from tests.processes import Deployment, RawRecord, publish_interactions, publish_raw, read_topic

HOUR_MS = 3_600_000
LIMIT = WorkerSettings().dead_letter_limit_bytes
LARGEST = 1_048_576 - 150
"""Bytes of a value that fills a record of the largest size that brokers and clients take by default."""


class Poison(NamedTuple):
    """A record that cannot be served, and the reason that its dead letter must give."""

    reason: str
    value: bytes | None
    key: bytes | None = b"poison"
    headers: tuple[tuple[str, bytes], ...] = ()


def body(without: str = "", **changes: Any) -> bytes:
    """A valid click in JSON, but for the changes."""
    fields = json.loads(event("poison", "1").to_json()) | changes
    return json.dumps({name: value for name, value in fields.items() if name != without}).encode()


def after_now(hours: float) -> int:
    return time.time_ns() // 1_000_000 + int(hours * HOUR_MS)


POISON = {
    "tombstone": Poison("empty", None),
    "no bytes": Poison("empty", b""),
    "no JSON": Poison("not-json", b"click user-1 item-7"),
    "half of a JSON object": Poison("not-json", body()[:40]),
    "brackets without an end": Poison("not-json", b"[" * 100_000),
    "no UTF-8": Poison("not-utf8", body().replace(b"poison", b"\xff\xfe")),
    "half of a UTF-16 pair": Poison("not-json", body().replace(b"poison", rb"\ud800")),
    "JSON that is no object": Poison("invalid", b'["click"]'),
    "null": Poison("invalid", b"null"),
    "user_id a number": Poison("invalid", body(user_id=5)),
    "item_id a list": Poison("invalid", body(item_id=["1"])),
    "value a text": Poison("invalid", body(value="5")),
    "value beyond all numbers": Poison("invalid", body(value=0).replace(b'"value": 0', b'"value": 1e999')),
    "timestamp a text": Poison("timestamp", body(timestamp_ms="1700000000000")),
    "timestamp true": Poison("timestamp", body(timestamp_ms=True)),
    **{
        f"without {name}": Poison("invalid", body(without=name))
        for name in ("event_id", "user_id", "event_type", "timestamp_ms")
    },
    "a click without an item": Poison("invalid", body(without="item_id")),
    "before 1970": Poison("timestamp", body(timestamp_ms=-1)),
    "25 hours ahead": Poison("timestamp", body(timestamp_ms=after_now(25))),
    "at the end of all numbers": Poison("timestamp", body(timestamp_ms=2**63)),
    "an empty user id": Poison("invalid", body(user_id=""), b""),
    "a user id of 10 KB": Poison("invalid", body(user_id="u" * 10_240), b"u" * 10_240),
    "an unknown event type": Poison("invalid", body(event_type="teleport")),
    "another schema": Poison("schema", body(), headers=(("schema", b"2"),)),
    "a schema that is no number": Poison("schema", body(), headers=(("schema", b"\xff"),)),
    "a catalogue with a separator": Poison("invalid", body(catalogue="a:b")),
    "valid, but longer than a record may be": Poison("too-large", body(query="q" * 300_000)),
    "noise of the broker's maximal size": Poison("too-large", b"\xff" * LARGEST),
}
BORDERLINE = [
    event("x" * 256, "1"),
    event("\U0001f3ac" * 256, "\U0001f3ac" * 256),
    event("nul\0 and\nnewline", "1"),
    event("early", "1", timestamp_ms=0),
    event("late", "1", timestamp_ms=after_now(23)),
    event("search", None, event_type="search", query="q" * 100_000),
]
"""Valid, only just."""


@pytest.fixture(scope="module")
def dead(deployment: Deployment) -> dict[str, ConsumerRecord]:
    """Dead letters by the name of the poison, after all of it went through one partition between valid events."""
    kafka = deployment.kafka
    deployment.worker().wait_ready()
    publish_raw(
        kafka,
        kafka.topics.interactions,
        [RawRecord(p.value, p.key, partition=0, headers=p.headers) for p in POISON.values()],
    )
    publish_interactions(kafka, [*BORDERLINE, *(event(f"after-{number}", "2") for number in range(40))])
    check_exact(deployment.settings)
    letters = read_topic(kafka, kafka.topics.dead_letters)
    assert [header(letter, "source-offset") for letter in letters] == [str(n).encode() for n in range(len(POISON))]
    return dict(zip(POISON, letters, strict=True))


def header(letter: ConsumerRecord, name: str) -> bytes | None:
    return dict(letter.headers).get(name)


@pytest.mark.parametrize("broker", BOTH_BROKERS, indirect=True, scope="module")
class TestPoison:
    @pytest.mark.parametrize("name", POISON)
    def test_it_is_found_in_the_dead_letters_with_reason_source_and_bytes(
        self, deployment: Deployment, dead: dict[str, ConsumerRecord], name: str
    ) -> None:
        poison, letter = POISON[name], dead[name]
        assert header(letter, "reason") == poison.reason.encode()
        assert header(letter, "detail")
        assert header(letter, "source-topic") == deployment.kafka.topics.interactions.encode()
        assert header(letter, "source-partition") == b"0"
        assert letter.key == poison.key
        if poison.value is not None and len(poison.value) > LIMIT:
            assert letter.value == poison.value[:LIMIT]
            assert header(letter, "value-bytes") == b"%d" % len(poison.value)
            assert header(letter, "value-sha256") == sha256(poison.value).hexdigest().encode()
        else:
            assert letter.value == poison.value
            assert header(letter, "value-sha256") is None

    def test_the_stream_went_on_behind_it(self, deployment: Deployment, dead: dict[str, ConsumerRecord]) -> None:
        assert ask(deployment.kafka, "still-there").user_id == "still-there"

    def test_what_is_only_just_valid_is_answered(self, deployment: Deployment, dead: dict[str, ConsumerRecord]) -> None:
        lists = wait_for_lists(deployment.kafka, BORDERLINE)
        assert [made.user_id for made in lists] == [done.user_id for done in BORDERLINE]

    def test_metrics_count_it_by_reason(self, deployment: Deployment, dead: dict[str, ConsumerRecord]) -> None:
        (worker,) = deployment.workers
        wanted = Counter(poison.reason for poison in POISON.values())
        assert {reason: worker.metric("dead_letters_total", reason=reason) for reason in wanted} == wanted
        assert worker.metric("dead_letters_total") == len(POISON)
        assert worker.metric("dead_letters_lost_total") == 0

    def test_no_log_shows_what_a_record_held(self, deployment: Deployment, dead: dict[str, ConsumerRecord]) -> None:
        assert "teleport" not in deployment.workers[0].log


@pytest.fixture(scope="module")
def impatient(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    """A deployment that soon gives up a dead letter, with one worker."""
    rules = WorkerSettings.model_validate({"dead_letter_patience": "1s"})
    with deployments.on(broker, worker=rules) as workers:
        workers.worker().wait_ready()
        yield workers


@pytest.mark.real_kafka
@pytest.mark.parametrize("broker", ["real"], indirect=True, scope="module")
class TestDeadLettersThatCannotBeWritten:
    """On Apache Kafka alone: Tansu has no limits, and acknowledges records for a topic that is gone."""

    def test_one_that_is_too_large_for_its_topic_is_given_up_counted_and_logged(self, impatient: Deployment) -> None:
        (worker,), kafka = impatient.workers, impatient.kafka
        limit = ConfigResource(ConfigResourceType.TOPIC, kafka.topics.dead_letters, configs={"max.message.bytes": 1000})
        with open_admin(kafka) as admin:
            admin.alter_configs([limit])
        (problem,) = check_topics(kafka)
        assert f"topic {kafka.topics.dead_letters} has max.message.bytes=1000" in problem
        poison(impatient, b"x" * 5000)
        poison(impatient, b"short")
        check_exact(impatient.settings)
        assert worker.metric("dead_letters_lost_total") == 1
        assert dead_letters(kafka) == [b"short"]
        worker.wait_log(f"gave up a record for {kafka.topics.dead_letters} that could not be written")
        assert "'source-offset': '0'" in worker.log

    def test_a_topic_that_is_gone_holds_up_nothing_for_ever(self, impatient: Deployment) -> None:
        """The broker may make it anew, if it makes topics by itself; else the dead letter is given up."""
        (worker,), kafka = impatient.workers, impatient.kafka
        lost = worker.metric("dead_letters_lost_total")
        with open_admin(kafka) as admin:
            admin.delete_topics([kafka.topics.dead_letters])
        poison(impatient, b"into the void")
        ask(kafka, "behind the void")
        check_exact(impatient.settings)
        assert dead_letters(kafka).count(b"into the void") + worker.metric("dead_letters_lost_total") - lost == 1
        assert worker.ready()["ready"]
        assert worker.terminate() == 0


def poison(deployment: Deployment, value: bytes) -> None:
    publish_raw(deployment.kafka, deployment.kafka.topics.interactions, [RawRecord(value, b"poison", partition=0)])


def dead_letters(kafka: KafkaSettings) -> list[bytes | None]:
    return [letter.value for letter in read_topic(kafka, kafka.topics.dead_letters)]
