"""What a plain aiokafka program takes: what is consumed is produced again, as long as a list.

It has no sessions, no model and no Redis, and decodes nothing. As a worker does with a fetch of a few events, it waits
for the acknowledgements of one fetch before it takes the next.
"""

from __future__ import annotations

import os

# Before numpy is imported: one thread, as our worker has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import asyncio
import gc
import signal
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.lists import WireLists
from streams.output import PRODUCE_BATCH_BYTES
from streams.record_batch import record_batches
from streams.texts import joined


def main() -> None:
    """Run until SIGTERM."""
    parser = ArgumentParser(prog="echo")
    parser.add_argument("--brokers", required=True, metavar="HOST:PORT")
    parser.add_argument("--input", required=True, metavar="TOPIC")
    parser.add_argument("--output", required=True, metavar="TOPIC")
    parser.add_argument("--list-bytes", required=True, type=int, metavar="N")
    parser.add_argument("--fetch-max-wait-ms", required=True, type=int, metavar="N")
    asyncio.run(_until_stopped(parser.parse_args()))


async def _until_stopped(options: Namespace) -> None:
    task = asyncio.create_task(_serve(options))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    await asyncio.wait([task])
    if not task.cancelled():
        task.result()


async def _serve(options: Namespace) -> None:
    consumer = AIOKafkaConsumer(
        bootstrap_servers=options.brokers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=options.fetch_max_wait_ms,
        isolation_level="read_committed",
    )
    producer = AIOKafkaProducer(
        bootstrap_servers=options.brokers, acks="all", linger_ms=0, max_batch_size=PRODUCE_BATCH_BYTES
    )
    async with consumer, producer:
        partitions = await producer.partitions_for(options.input)
        consumer.assign([TopicPartition(options.input, partition) for partition in partitions])
        _written([(b"", b"")], 1)  # compiled before the first event
        gc.freeze()
        while True:
            fetched: Mapping[TopicPartition, Sequence[Any]] = await consumer.getmany(timeout_ms=1_000)
            answers = []
            for place, records in fetched.items():
                pairs = [(record.key, record.value) for record in records]
                for batch in _written(pairs, options.list_bytes):
                    answers.append(await producer.send_batch(batch, options.output, partition=place.partition))
            await asyncio.gather(*answers)


def _written(records: Sequence[tuple[bytes, bytes]], n_bytes: int) -> list[Any]:
    """Keys and values as record batches, the values filled up with spaces."""
    users, values = joined([key for key, _ in records]), joined([value.ljust(n_bytes) for _, value in records])
    batches = record_batches(WireLists(users, values), time.time_ns() // 1_000_000, PRODUCE_BATCH_BYTES)
    return [batch for batch, _ in batches]


if __name__ == "__main__":
    main()
