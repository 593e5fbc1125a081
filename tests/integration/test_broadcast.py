"""The reader of broadcast topics, against a real broker."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from kafka import KafkaProducer

from encoders.records import Item, ModelUpdate
from encoders.vocabulary import item_hash
from streams.broadcast import BroadcastReader
from streams.feeds import ModelUpdates, check_user
from streams.items import ItemCatalogue
from streams.metrics import WorkerMetrics
from streams.settings import KafkaSettings
from streams.stack import EmbeddedStack
from streams.topics import create_topics
from tests.servers import RealKafka, unique_names

Record = tuple[bytes | None, bytes | None]


class Follower:
    """A reader with everything that it feeds."""

    def __init__(self, kafka: KafkaSettings) -> None:
        self.items = ItemCatalogue()
        self.offered: list[str] = []
        self.caught_up_with: list[int] = []
        self.applied = 0
        self.metrics = WorkerMetrics()
        self.topics = kafka.topics
        updates = ModelUpdates("gru", lambda update: self.offered.append(update.version))

        def apply_item(key: bytes | None, value: bytes | None):
            self.applied += 1
            return self.items.apply(key, value)

        def caught_up() -> None:
            self.caught_up_with.append(len(self.items))
            updates.caught_up()

        feeds = {self.topics.items: apply_item, self.topics.users: check_user, self.topics.model_updates: updates.apply}
        self.reader = BroadcastReader(kafka, feeds, self.metrics, caught_up)

    async def until(self, holds: Callable[[Follower], object], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not holds(self):  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.01)

    def refused(self, topic: str, reason: str) -> float | None:
        labels = {"topic": topic, "reason": reason}
        return self.metrics.registry.get_sample_value("streamrec_broadcast_invalid_total", labels)


@asynccontextmanager
async def following(kafka: KafkaSettings) -> AsyncIterator[Follower]:
    follower = Follower(kafka)
    async with follower.reader:
        yield follower


@contextmanager
def frozen(stack: EmbeddedStack) -> Iterator[None]:
    """A broker that accepts connections but says nothing, as a cut network or a machine that swaps does."""
    stack.broker_process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        stack.broker_process.send_signal(signal.SIGCONT)


async def publish(kafka: KafkaSettings, topic: str, *records: Record) -> None:
    def send() -> None:
        producer = KafkaProducer(**kafka.kafka_python_config())
        try:
            for future in [producer.send(topic, key=key, value=value) for key, value in records]:
                future.get(20)
        finally:
            producer.close()

    await asyncio.to_thread(send)


def item(number: int, **fields: object) -> Record:
    described = Item.model_validate({"item_id": str(number), "title": f"film {number}", **fields})
    return described.key, described.to_json()


def update(version: str, model: str = "gru") -> Record:
    record = ModelUpdate(model=model, version=version, uri=f"/bundles/{version}", manifest_sha256="0" * 64)
    return model.encode(), record.to_json()


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    of_the_reader = (record for record in caplog.records if record.name == "streams.broadcast")
    return [record.getMessage() for record in of_the_reader if record.levelno >= logging.ERROR]


async def test_everything_that_was_there_is_applied_before_the_reader_says_it_caught_up(topics: KafkaSettings) -> None:
    await publish(topics, topics.topics.items, *(item(number) for number in range(1234)))
    async with following(topics) as follower:
        assert not follower.reader.caught_up
        await follower.until(lambda f: f.reader.caught_up)
        assert follower.caught_up_with == [1234]
        assert follower.reader.behind == 0
        assert follower.items.title(item_hash("1233")) == "film 1233"


async def test_empty_topics_are_caught_up_with_at_once(topics: KafkaSettings) -> None:
    async with following(topics) as follower:
        await follower.until(lambda f: f.reader.caught_up, seconds=5)
        assert follower.caught_up_with == [0]


async def test_later_records_arrive_within_a_second_and_tombstones_too(topics: KafkaSettings) -> None:
    async with following(topics) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        await publish(topics, topics.topics.items, item(1))
        await follower.until(lambda f: len(f.items) == 1, seconds=1)
        await publish(topics, topics.topics.items, (b"default/1", None))
        await follower.until(lambda f: f.items.unavailable == {item_hash("1")}, seconds=1)
        assert len(follower.caught_up_with) == 1


async def test_of_old_model_updates_only_the_newest_is_offered_and_later_ones_as_they_come(
    topics: KafkaSettings,
) -> None:
    old = [update(f"old-{number}") for number in range(20)]
    await publish(topics, topics.topics.model_updates, *old, update("newest"), update("other", model="sasrec"))
    async with following(topics) as follower:
        await follower.until(lambda f: f.offered)
        await publish(topics, topics.topics.model_updates, update("b"), update("c"))
        await follower.until(lambda f: len(f.offered) >= 3)
        assert follower.offered == ["newest", "b", "c"]


async def test_bad_records_are_counted_by_reason_logged_with_their_place_and_skipped(
    topics: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    topic = topics.topics.items
    await publish(topics, topic, (b"default/1", b"{"), (b"k", item(2)[1]), (b"default/3", b"\xff"), item(4))
    await publish(topics, topics.topics.users, (b"u", b"[]"))
    async with following(topics) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        assert [follower.refused(topic, reason) for reason in ("not-json", "key", "not-utf8")] == [1, 1, 1]
        assert follower.refused(topics.topics.users, "invalid") == 1
        assert follower.caught_up_with == [1]
    assert f"skipped {topic}[0] offset 0: not-json" in caplog.text


def transact(kafka: KafkaSettings) -> None:
    """One committed and one aborted transaction, so that the log ends in a marker."""
    producer = KafkaProducer(**kafka.kafka_python_config(), transactional_id=uuid.uuid4().hex)
    producer.init_transactions()
    for number, finish in ((1, producer.commit_transaction), (2, producer.abort_transaction)):
        producer.begin_transaction()
        key, value = item(number)
        producer.send(kafka.topics.items, key=key, value=value)
        producer.flush()
        finish()
    producer.close()


async def test_a_log_that_ends_in_transaction_markers_is_caught_up_with(topics: KafkaSettings) -> None:
    """Its end is an offset that no record ever reaches."""
    await asyncio.to_thread(transact, topics)
    async with following(topics) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        assert follower.items.title(item_hash("1")) == "film 1"


@pytest.mark.real_kafka
async def test_aborted_transactions_are_not_read(real_kafka: RealKafka) -> None:
    """On the real Kafka alone: Tansu hands out aborted records even to a consumer that is read-committed."""
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    await asyncio.to_thread(transact, kafka)
    async with following(kafka) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        assert follower.caught_up_with == [1]


@pytest.mark.real_kafka
async def test_after_a_killed_broker_is_back_reading_goes_on_where_it_was(
    real_kafka: RealKafka, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = unique_names(real_kafka.kafka)
    create_topics(kafka)
    await publish(kafka, kafka.topics.items, item(1), item(2))
    async with following(kafka) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        await asyncio.to_thread(real_kafka.kill)
        try:
            await follower.until(lambda f: f.reader.trouble)
        finally:
            await asyncio.to_thread(real_kafka.start)
        await publish(kafka, kafka.topics.items, item(3))
        await follower.until(lambda f: len(f.items) == 3, seconds=60)
        assert follower.applied == 3, "nothing is applied twice"
        assert len(errors(caplog)) == 1


async def test_a_missing_topic_is_an_error_that_names_the_command_until_it_is_there(
    kafka_server: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = unique_names(kafka_server)
    async with following(kafka) as follower:
        await follower.until(lambda f: f.reader.trouble)
        assert kafka.brokers in follower.reader.trouble
        assert kafka.topics.items in follower.reader.trouble
        assert "streamrec topics create" in follower.reader.trouble
        await asyncio.sleep(2.5)
        assert len(errors(caplog)) == 1
        await asyncio.to_thread(create_topics, kafka)
        await follower.until(lambda f: f.reader.caught_up)
        assert follower.reader.trouble == ""


async def test_with_no_broker_the_reader_says_so_once_with_the_address_and_can_be_stopped(
    kafka_server: KafkaSettings, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = unique_names(kafka_server)
    with socket.socket() as unused:  # bound but not listening: connections are refused
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        async with following(kafka.model_copy(update={"brokers": address})) as follower:
            await follower.until(lambda f: f.reader.trouble)
            await asyncio.sleep(2.5)
            assert not follower.reader.caught_up
    assert len(errors(caplog)) == 1
    assert address in errors(caplog)[0]


async def test_a_broker_away_at_the_start_is_waited_for(embedded: EmbeddedStack) -> None:
    kafka = unique_names(embedded.kafka)
    create_topics(kafka)
    await publish(kafka, kafka.topics.items, item(1))
    with frozen(embedded):
        follower = Follower(kafka)
        await follower.reader.start()
        await follower.until(lambda f: f.reader.trouble)
    try:
        await follower.until(lambda f: f.reader.caught_up)
        assert follower.reader.trouble == ""
        assert follower.caught_up_with == [1]
    finally:
        await follower.reader.stop()


async def test_a_broker_that_goes_away_in_mid_stream_is_noticed_and_reading_goes_on_where_it_was(
    embedded: EmbeddedStack, caplog: pytest.LogCaptureFixture
) -> None:
    kafka = unique_names(embedded.kafka)
    create_topics(kafka)
    await publish(kafka, kafka.topics.items, item(1), item(2))
    async with following(kafka) as follower:
        await follower.until(lambda f: f.reader.caught_up)
        with frozen(embedded):
            await follower.until(lambda f: f.reader.trouble)
            assert kafka.brokers in follower.reader.trouble
            assert follower.reader.caught_up, "what was read still stands"
        await publish(kafka, kafka.topics.items, item(3))
        await follower.until(lambda f: len(f.items) == 3)
        assert follower.applied == 3, "nothing is applied twice"
        assert follower.reader.trouble == ""
        assert len(errors(caplog)) == 1
