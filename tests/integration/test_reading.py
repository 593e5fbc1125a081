"""Reading a topic to its end, as commands do."""

from __future__ import annotations

from contextlib import closing

from kafka import KafkaProducer

from streams.cli.consume import read_topic
from streams.settings import KafkaSettings


def test_a_last_batch_larger_than_one_poll_is_read_to_its_end(topics: KafkaSettings) -> None:
    config = topics.kafka_python_config()
    with closing(KafkaProducer(**config, linger_ms=1000, batch_size=1_000_000)) as producer:
        for number in range(1200):
            producer.send(topics.topics.items, value=b"%d" % number)
        producer.flush()
    assert [int(record.value) for record in read_topic(topics, topics.topics.items)] == list(range(1200))
