"""The least that an event could cost: the parts that no worker can do without, each measured alone.

Run where a worker has just drained a topic, so that bytes, sessions and lists are those of the measurement: the
same events are consumed, the worker's own lists are produced again to another topic, its sessions are read and
written under other keys. One process of its own, one part at a time, CPU time of that process.

In it, in microseconds of CPU an event:

* ``consume``: aiokafka, `getmany` of at most a batch, committed records only;
* ``encode``: `SequenceEncoder.step` of a wave, from states and items that lie in arrays already;
* ``search``: with as many queries as the worker asks at once and as many answers as a list has items, in the cheaper
  of two ways: streamrec's own index (``search_own``), as the worker searches it but with nothing to leave out, and,
  where the index is flat, FAISS's (``search_faiss``);
* ``mget``: one `MGET` of a batch's sessions for each partition, times the share of events whose session the
  worker had to load;
* ``script``: one script for each partition that sets the sessions, the popularity counts and the offset, all of
  them bytes that lie ready;
* ``produce``: aiokafka's cheapest way, a batch's lists as one record batch for each partition (`create_batch`,
  `send_batch`), acknowledged before the next is built.

Not in it: decoding and checking records, the window, filters, the choice of the best, encoding lists and
sessions, the ledger, metrics, threads, and the Python that holds all that together. For comparison, and not in the
sum: the dearer way to search, and ``send``, one `send` for each list, what one would write first.
"""

from __future__ import annotations

import os

# Before numpy and torch are imported: one thread each, as a worker has.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import asyncio
import gc
import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import faiss
import numpy as np
import torch
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from redis.asyncio import Redis

from encoders.bundle import read_encoder_bundle
from encoders.protocols import FloatArray
from encoders.records import DEFAULT_CATALOGUE
from index.build import load_index
from index.flat import FlatIndex
from streams.cli.bench.errors import BenchError
from streams.publish import SCHEMA_HEADER
from streams.session import SessionKey
from streams.settings import KafkaSettings, RedisSettings
from streams.store import Keys
from streams.topics import open_admin

PARTS = ("consume", "encode", "search", "mget", "script", "produce")
"""What the limit is the sum of."""
_TIMEOUT_S = 300.0
_QUIET_MS = 2_000
_TTL_MS = 3_600_000
_MAX_BATCH_BYTES = 900_000
"""Of a record batch; a request holds one for each partition, and brokers take a megabyte of each."""
_STORE = """
for i = 3, #KEYS do redis.call('SET', KEYS[i], ARGV[i], 'PX', ARGV[1]) end
redis.call('HSET', KEYS[1], unpack(ARGV, #KEYS + 1))
redis.call('HSET', KEYS[2], 'offset', ARGV[2])
"""
"""KEYS: popularity, offset, sessions…; ARGV: ttl ms, offset, session blobs…, then item and count in turn."""


class LimitOptions(NamedTuple):
    """Where a worker has been at work, and how."""

    brokers: str
    interactions: str
    """Topic whose events it answered."""
    recommendations: str
    """Topic that holds its lists."""
    redis_url: str
    key_prefix: str
    bundle: str
    batch: int
    """Events of a batch, over all partitions."""
    wave: int
    """Events of one encoder call."""
    answers: int
    """Answers of one search, ``k``."""
    loaded_share: float
    """Share of the events whose session the worker had to load."""
    n_events: int
    """How many events to measure with, from the topic's beginning."""
    n_computed: int
    """How many for the parts that need no server."""

    @property
    def scratch(self) -> str:
        """Topic for lists that are produced again; made here."""
        return f"{self.recommendations}-limit"


def measure_limit(options: LimitOptions) -> dict[str, float]:
    """Measure all parts in a process of their own; it takes some seconds.

    Returns:
        Microseconds of CPU for each event: `limit_us_<part>` of `PARTS`, their sum `limit_us`, and what the sum
        leaves out: `limit_us_send`, `limit_us_search_own` and, of a flat index, `limit_us_search_faiss`.

    Raises:
        BenchError: If a part could not be measured; the message says why.
    """
    command = [sys.executable, "-m", "streams.cli.bench.limit", json.dumps(options)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired:
        raise BenchError(f"the limit could not be measured within {_TIMEOUT_S:.0f} s") from None
    if done.returncode:
        last_words = done.stderr.strip().rpartition("\n")[2]
        raise BenchError(f"the limit could not be measured: {last_words or f'exit code {done.returncode}'}")
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


def main() -> None:
    """Measure what the first argument says and print the figures as JSON."""
    options = LimitOptions(*json.loads(sys.argv[1]))
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    gc.disable()  # what is kept here is no worker's
    print(json.dumps(limit_figures(asyncio.run(_serve(options)) | compute(options))))


def limit_figures(parts: Mapping[str, float]) -> dict[str, float]:
    """What was measured, and the sum of it, as flat keys.

    Args:
        parts: Microseconds of all `PARTS` but ``search``, of the ways to search, and of whatever is only compared.

    Example:
        >>> parts = dict.fromkeys(("consume", "encode", "mget", "script", "produce"), 1.0)
        >>> figures = limit_figures(parts | {"send": 9.0, "search_own": 7.5, "search_faiss": 8.0})
        >>> figures["limit_us_search"], figures["limit_us"]
        (7.5, 12.5)
    """
    search = min(us for part, us in parts.items() if part.startswith("search_"))
    all_parts = {**parts, "search": search}
    figures = {f"limit_us_{part}": round(us, 3) for part, us in all_parts.items()}
    return figures | {"limit_us": round(sum(all_parts[part] for part in PARTS), 3)}


class _Lap:
    """CPU time of this process since the start, in microseconds."""

    def __init__(self) -> None:
        self._began_s = time.process_time()

    def us(self) -> float:
        return 1e6 * (time.process_time() - self._began_s)


def compute(options: LimitOptions) -> dict[str, float]:
    """The parts that need no server: a step of the encoder, and a search in each way that the index allows."""
    bundle = read_encoder_bundle(options.bundle)
    random = np.random.default_rng(0)
    items = random.integers(1, bundle.manifest.n_items, (options.n_computed // options.wave + 1, options.wave))
    states, queries = bundle.encoder.initial_states(options.wave), []
    bundle.encoder.step(states, items[0])  # compiles what there is to compile
    lap = _Lap()
    for wave in items:
        # As a worker does: a state has a history behind it, and the next wave is another one.
        states, vectors = bundle.encoder.step(states, wave)
        queries.append(vectors)
    encode_us = lap.us() / items.size
    batches = list(_batches(np.concatenate(queries), options.batch))
    ways = _ways_to_search(bundle.index_path, bundle.manifest.index.kind)
    return {"encode": encode_us} | {way: _search_us(index, batches, options.answers) for way, index in ways.items()}


def _ways_to_search(path: Path, kind: str) -> dict[str, Any]:
    """The index as the worker loads it, and FAISS's own where the file is all that it takes."""
    ways: dict[str, Any] = {"search_own": load_index(path, kind)}
    if kind == FlatIndex.kind:
        ways["search_faiss"] = faiss.read_index(str(path))
    return ways


def _search_us(index: Any, batches: Sequence[FloatArray], k: int) -> float:
    index.search(batches[0], k)  # compiles what there is to compile
    lap = _Lap()
    for batch in batches:
        index.search(batch, k)
    return lap.us() / sum(map(len, batches))


async def _serve(options: LimitOptions) -> dict[str, float]:
    """The parts that need servers."""
    kafka = KafkaSettings(brokers=options.brokers, fetch_max_wait_ms=10)
    events, consume_us = await _consume(kafka, options.interactions, options)
    lists, _ = await _consume(kafka, options.recommendations, options)
    with open_admin(kafka) as admin:
        n_partitions = max(record.partition for record in lists) + 1
        admin.create_topics({options.scratch: {"num_partitions": n_partitions, "replication_factor": 1}})
        admin.wait_for_topics([options.scratch])
    return {"consume": consume_us, **await _produce(kafka, lists, options), **await _store(events, options)}


async def _consume(kafka: KafkaSettings, topic: str, options: LimitOptions) -> tuple[list[Any], float]:
    """The topic's first records, and what an event cost."""
    consumer = AIOKafkaConsumer(
        **kafka.aiokafka_config(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=kafka.fetch_max_wait_ms,
    )
    await consumer.start()
    try:
        await consumer._client.add_topic(topic)
        partitions = consumer.partitions_for_topic(topic)
        consumer.assign([TopicPartition(topic, partition) for partition in partitions])
        records: list[Any] = []
        lap = _Lap()
        while len(records) < options.n_events:
            fetched = await consumer.getmany(timeout_ms=_QUIET_MS, max_records=options.batch)
            if not fetched:
                break
            for some in fetched.values():
                records += some
        used_us = lap.us()
    finally:
        await consumer.stop()
    if not records:
        raise BenchError(f"topic {topic} is empty")
    return records, used_us / len(records)


async def _produce(kafka: KafkaSettings, lists: Sequence[Any], options: LimitOptions) -> dict[str, float]:
    """Lists by whole batches, and for comparison one by one."""
    producer = AIOKafkaProducer(**kafka.aiokafka_config(), acks="all", linger_ms=0, max_batch_size=_MAX_BATCH_BYTES)
    await producer.start()
    try:
        await producer.partitions_for(options.scratch)
        lap = _Lap()
        for batch in _batches(lists, options.batch):
            await asyncio.gather(*[await _send_batch(producer, *part, options) for part in _by_partition(batch)])
        produce_us = lap.us() / len(lists)
        lap = _Lap()
        for batch in _batches(lists, options.batch):
            futures = [
                await producer.send(options.scratch, record.value, key=record.key, headers=[SCHEMA_HEADER])
                for record in batch
            ]
            await asyncio.gather(*futures)
        send_us = lap.us() / len(lists)
    finally:
        await producer.stop()
    return {"produce": produce_us, "send": send_us}


async def _send_batch(producer: Any, partition: int, records: Sequence[Any], options: LimitOptions) -> Any:
    """Queue lists as one record batch, or as several where they are too long for one."""
    builder, futures = producer.create_batch(), []
    for record in records:
        while builder.append(key=record.key, value=record.value, timestamp=None, headers=[SCHEMA_HEADER]) is None:
            futures.append(await producer.send_batch(builder, options.scratch, partition=partition))
            builder = producer.create_batch()
    futures.append(await producer.send_batch(builder, options.scratch, partition=partition))
    return asyncio.gather(*futures)


async def _store(events: Sequence[Any], options: LimitOptions) -> dict[str, float]:
    """Reading the sessions of each batch, and storing them again beside the old ones."""
    client = RedisSettings(url=options.redis_url).client()
    try:
        store = client.register_script(_STORE)
        mget_us, script_us = 0.0, 0.0
        for batch in _batches(events, options.batch):
            for partition, records in _by_partition(batch):
                change = await _change(client, partition, records, options)
                lap = _Lap()
                await client.mget(change.sessions)
                mget_us += lap.us()
                lap = _Lap()
                await store(keys=change.keys, args=change.args)
                script_us += lap.us()
    finally:
        await client.aclose()
    return {"mget": options.loaded_share * mget_us / len(events), "script": script_us / len(events)}


class _Change(NamedTuple):
    """What a batch changes in one partition."""

    sessions: list[str]
    """Keys that the worker reads."""
    keys: list[str]
    args: list[Any]


async def _change(client: Redis, partition: int, records: Sequence[Any], options: LimitOptions) -> _Change:
    """The batch's sessions as they are stored now, under keys of the same length, and a count for each item."""
    users = {record.key.decode(): json.loads(record.value).get("item_id") for record in records}
    theirs = Keys.of(options.key_prefix, options.interactions, partition)
    sessions = [theirs.session(SessionKey(DEFAULT_CATALOGUE, user)) for user in users]
    stored = {key: blob for key, blob in zip(sessions, await client.mget(sessions), strict=True) if blob}
    if not stored:
        raise BenchError("no session of the worker is stored, so there are no bytes to measure with")
    tag = f"{{limit:{partition}}}".ljust(len(theirs.tag), "x")
    counts = [part for item in {item for item in users.values() if item} for part in (item, bytes(8))]
    keys = [f"{tag}:popularity", f"{tag}:applied", *(key.replace(theirs.tag, tag) for key in stored)]
    return _Change(sessions, keys, [_TTL_MS, records[-1].offset + 1, *stored.values(), *counts])


def _batches(records: Any, size: int) -> Iterator[Any]:
    return (records[start : start + size] for start in range(0, len(records), size))


def _by_partition(records: Sequence[Any]) -> Iterator[tuple[int, list[Any]]]:
    parts: dict[int, list[Any]] = {}
    for record in records:
        parts.setdefault(record.partition, []).append(record)
    return iter(parts.items())


if __name__ == "__main__":
    main()
