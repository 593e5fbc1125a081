"""Publishing: keys, headers, pace, and what happens when the broker refuses."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from kafka.errors import KafkaTimeoutError, MessageSizeTooLargeError

from encoders.records import Interaction, Item, ModelUpdate, UserProfile
from streams.errors import DependencyError
from streams.publish import MOST_CATCHING_UP_S, Pace, key_of, publish


def click(n: int) -> Interaction:
    return Interaction(event_id=f"e{n}", user_id="ü", item_id="7", event_type="click", timestamp_ms=0)


class Sent:
    """The future of one record."""

    def __init__(self, error: Exception | None) -> None:
        self.error = error

    def add_errback(self, callback) -> None:
        if self.error:
            callback(self.error)


@dataclass
class Broker:
    """Takes records as kafka-python's producer does."""

    refuse: dict[int, Exception] = field(default_factory=dict)
    records: list[tuple[str, bytes, bytes, list[tuple[str, bytes]]]] = field(default_factory=list)
    flushed: int = 0

    def send(self, topic: str, *, key: bytes, value: bytes, headers: list[tuple[str, bytes]]) -> Sent:
        self.records.append((topic, key, value, headers))
        return Sent(self.refuse.get(len(self.records)))

    def flush(self) -> None:
        self.flushed += 1


def test_a_record_travels_under_its_users_key_with_the_schema_header() -> None:
    broker = Broker()
    assert publish(broker, "interactions", [click(1)]) == 1
    topic, key, value, headers = broker.records[0]
    assert (topic, key, headers) == ("interactions", "ü".encode(), [("schema", b"1")])
    assert Interaction.model_validate_json(value) == click(1)
    assert broker.flushed == 1


def test_items_go_by_catalogue_and_id_and_profiles_by_user() -> None:
    assert key_of(Item(item_id="50")) == b"default/50"
    assert key_of(UserProfile(user_id="7")) == b"7"


def test_a_record_that_producers_do_not_publish_has_no_key() -> None:
    update = ModelUpdate(version="v", uri="file:///b", manifest_sha256="0" * 64, model="gru")
    with pytest.raises(TypeError, match="ModelUpdate"):
        key_of(update)


def test_a_refused_record_ends_it_with_the_reason() -> None:
    broker = Broker(refuse={2: MessageSizeTooLargeError("2 MB")})
    with pytest.raises(DependencyError, match=r"topic 'interactions' did not take all records.*2 MB"):
        publish(broker, "interactions", [click(n) for n in range(100)])
    assert len(broker.records) == 2


def test_a_broker_that_is_gone_is_an_operational_error() -> None:
    class Gone(Broker):
        def flush(self) -> None:
            raise KafkaTimeoutError("no answer")

    with pytest.raises(DependencyError, match="no answer"):
        publish(Gone(), "items", [Item(item_id="1")])


def test_each_record_is_reported_before_it_is_sent() -> None:
    broker = Broker()
    seen: list[tuple[str, int]] = []
    publish(
        broker, "t", [click(1), click(2)], on_sent=lambda record: seen.append((record.event_id, len(broker.records)))
    )
    assert seen == [("e1", 0), ("e2", 1)]


class Clock:
    """Time that passes only in sleeps."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.slept: list[float] = []

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 9))
        self.now_s += seconds


def test_pace_spaces_records_evenly() -> None:
    clock = Clock()
    pace = Pace(10.0, lambda: clock.now_s, clock.sleep)
    for _ in range(4):
        pace.wait()
    assert clock.slept == [0.1, 0.1, 0.1]


def test_pace_makes_no_burst_after_a_pause() -> None:
    clock = Clock()
    pace = Pace(100.0, lambda: clock.now_s, clock.sleep)
    pace.wait()
    clock.now_s += 60.0
    before_s = clock.now_s
    for _ in range(100):
        pace.wait()
    assert clock.now_s - before_s >= 99 / 100 - MOST_CATCHING_UP_S - 1e-9


def test_pace_follows_a_rate_that_changes() -> None:
    clock = Clock()
    pace = Pace(10.0, lambda: clock.now_s, clock.sleep)
    pace.wait()
    pace.rate = 2.0
    pace.wait()
    pace.wait()
    assert clock.slept == [0.1, 0.5]


def test_no_rate_waits_for_nothing() -> None:
    clock = Clock()
    pace = Pace(None, lambda: clock.now_s, clock.sleep)
    for _ in range(3):
        pace.wait()
    assert clock.slept == []
