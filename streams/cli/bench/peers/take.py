"""Stock Faust once more, in batches: `Stream.take` hands events to the worker's own vectorised pipeline.

What the worker does apart from its transport is the same: `BatchWorker` decodes, loads sessions, steps the
encoder, searches, produces whole record batches and stores the state with one script for each partition. The
difference between the two is what Faust's way from the broker to the agent costs, and that a batch here waits until
the one before it is durable. Batches are as large as the worker's, and so are Faust's polls.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast

import faiss
import faust
import torch

from encoders.bundle.manifest import MANIFEST_FILE, read_manifest
from encoders.records import BundleReference
from streams.batches import RecordBatch
from streams.cli.bench.peers.naive import n_partitions, run_app, stock_app
from streams.cli.bench.peers.options import PeerOptions, peer_options
from streams.metrics import WorkerMetrics
from streams.output import PRODUCE_BATCH_BYTES, Producer
from streams.pipeline import Rules, Serving
from streams.serving import ServingModel
from streams.settings import RedisSettings, TopicNames
from streams.store import LogBounds, MemoryStore, RedisStore, SessionStore
from streams.worker import BatchWorker, WorkerRules

CLUSTER = "bench"
WITHIN_S = 1.0
"""How long to wait for a batch to be full: stock Faust takes some tenths of a second to bring 4,096 events."""


def main() -> None:
    """Run until SIGTERM."""
    torch.set_num_threads(1)
    faiss.omp_set_num_threads(1)
    run_app(take_app, peer_options("take"))


def take_app(options: PeerOptions, datadir: Path) -> faust.App:
    """The whole program."""
    app = stock_app(options, datadir, options.max_batch, producer_max_batch_size=PRODUCE_BATCH_BYTES)
    worker = _worker(options, lambda: cast(Producer, cast(Any, app.producer)._ensure_producer()))
    clicks = app.topic(options.input, key_type=bytes, key_serializer="raw", value_type=bytes, value_serializer="raw")

    @app.agent(clicks)
    async def recommend(stream: Any) -> None:
        await answer_taken(stream, options.max_batch, partial(_answer, worker))

    return app


async def answer_taken(stream: Any, max_batch: int, answer: Callable[[list[Any]], Awaitable[None]]) -> None:
    """Hand a stream's messages on in batches as large as the worker's own."""
    async for events in stream.take_events(max_batch, within=WITHIN_S):
        await answer([event.message for event in events])


async def _answer(worker: BatchWorker, messages: list[Any]) -> None:
    """Answer what was taken, all partitions together, and make it durable before the next."""
    by_partition: dict[int, list[Any]] = {}
    for message in messages:
        by_partition.setdefault(message.partition, []).append(message)
    batches = []
    for partition, mine in by_partition.items():
        if partition not in worker.partitions:
            await worker.acquire(partition, LogBounds(mine[0].offset, mine[-1].offset + 1, None))
        start = worker.partitions[partition].position  # gaps between are what nobody gets to see
        batches.append(RecordBatch(partition, start, mine[-1].offset + 1, mine))
    computed, _ = await worker.compute(batches)
    await asyncio.gather(*map(worker.deliver, computed))


def _worker(options: PeerOptions, producer: Any) -> BatchWorker:
    partitions = n_partitions(options)
    store: SessionStore = MemoryStore(topic=options.input, cluster=CLUSTER, n_partitions=partitions)
    if options.redis:
        client = RedisSettings(url=options.redis).client()
        store = RedisStore(
            client, topic=options.input, cluster=CLUSTER, n_partitions=partitions, prefix=options.key_prefix
        )
    manifest = read_manifest(options.bundle)
    model = ServingModel.load(_reference(options.bundle, manifest.version), manifest.window_rule)
    serving = Serving(model)
    rules = WorkerRules(
        topics=TopicNames(interactions=options.input, recommendations=options.output),
        cluster=CLUSTER,
        n_partitions=partitions,
        pipeline=Rules(window=manifest.window_rule, top_n=options.top_n),
    )
    return BatchWorker(
        store, producer, lambda: serving, rules, WorkerMetrics(), now_ms=lambda: time.time_ns() // 1_000_000
    )


def _reference(bundle: Path, version: str) -> BundleReference:
    manifest_sha256 = sha256((bundle / MANIFEST_FILE).read_bytes()).hexdigest()
    return BundleReference(version=version, uri=str(bundle), manifest_sha256=manifest_sha256)


if __name__ == "__main__":
    main()
