"""Sends record batches that were built before: the cheapest producer there can be.

aiokafka's own producer has one request under way to a broker at a time; a load that must not wait for answers
needs several. This one writes prebuilt bytes and reads the acknowledgements as they come.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

from aiokafka.client import AIOKafkaClient
from aiokafka.errors import KafkaError, for_code
from aiokafka.protocol.produce import ProduceRequest
from aiokafka.structs import TopicPartition

from streams.cli.bench.errors import BenchError
from streams.cli.bench.events import RecordBatch
from streams.settings import KafkaSettings

REQUEST_TIMEOUT_MS = 30_000
MOST_UNDER_WAY = 16
"""Requests of `send_all` that wait for their acknowledgement; their order is kept, as on one connection."""


class Sender:
    """Writes record batches to one topic. Enter it to connect.

    Args:
        kafka: The broker.
        topic: Must exist.
    """

    def __init__(self, kafka: KafkaSettings, topic: str) -> None:
        self._kafka, self._topic = kafka, topic
        self._under_way: set[asyncio.Future[None]] = set()
        self._leaders: dict[int, int] = {}
        self.failure: Exception | None = None

    async def __aenter__(self) -> Self:
        self._client = AIOKafkaClient(**self._kafka.aiokafka_config(), request_timeout_ms=REQUEST_TIMEOUT_MS)
        await self._client.bootstrap()
        await self._client.add_topic(self._topic)
        for partition in self._client.cluster.partitions_for_topic(self._topic) or ():
            node = self._client.cluster.leader_for_partition(TopicPartition(self._topic, partition))
            await self._client.ready(node)
            self._leaders[partition] = node
        if not self._leaders:
            raise BenchError(f"topic {self._topic} has no leader at {self._kafka.brokers}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            with suppress(BenchError):
                await self.flush()
        for future in self._under_way:
            future.cancel()
        await self._client.close()

    def send(self, batches: Iterable[RecordBatch]) -> None:
        """Send one batch of each of several partitions, and do not wait."""
        by_leader: dict[int, list[tuple[int, bytes]]] = {}
        for batch in batches:
            by_leader.setdefault(self._leaders[batch.partition], []).append((batch.partition, batch.data))
        for node, parts in by_leader.items():
            future = asyncio.ensure_future(self._request(node, parts))
            self._under_way.add(future)
            future.add_done_callback(self._finished)

    async def send_all(self, batches: Iterable[RecordBatch]) -> int:
        """Send batches as fast as they are taken; the number of their records, all acknowledged.

        Raises:
            BenchError: If the broker does not take one.
        """
        n_records = 0
        for batch in batches:
            self.send([batch])
            n_records += batch.n_records
            while len(self._under_way) >= MOST_UNDER_WAY:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
        await self.flush()
        return n_records

    async def flush(self) -> None:
        """Wait until everything is acknowledged.

        Raises:
            BenchError: If the broker did not take something.
        """
        while self._under_way:
            await asyncio.wait(self._under_way)
        if self.failure:
            raise BenchError(f"topic {self._topic} did not take the load: {self.failure}") from self.failure

    async def _request(self, node: int, parts: list[tuple[int, bytes]]) -> None:
        request = ProduceRequest(None, 1, REQUEST_TIMEOUT_MS, [(self._topic, parts)])
        response: Any = await self._client.send(node, request)
        for _, partitions in response.topics:
            for _, code, *_ in partitions:
                if code:
                    raise for_code(code)

    def _finished(self, future: asyncio.Future[None]) -> None:
        self._under_way.discard(future)
        if not future.cancelled() and (error := future.exception()):
            self.failure = error if isinstance(error, KafkaError) else KafkaError(str(error))
