"""What the peers of the benchmark are started with, and what they hand on at once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from streams.cli.bench.peers.echo import _written
from streams.cli.bench.peers.naive import stock_app
from streams.cli.bench.peers.options import PeerOptions, peer_options
from streams.cli.bench.peers.take import answer_taken
from streams.cli.bench.throughput import peer_arguments
from streams.settings import KafkaSettings, RedisSettings, WorkerSettings
from tests.inmemory import members_of


def options(worker: WorkerSettings, bundle: str = "/bundles/b") -> PeerOptions:
    """What a peer reads of the command line that it is started with."""
    return peer_options("peer", peer_arguments(KafkaSettings(), RedisSettings(), f"file://{bundle}", worker))


def test_a_peer_has_the_batches_of_the_worker_that_it_is_compared_with() -> None:
    assert options(WorkerSettings()).max_batch == WorkerSettings().max_batch
    given = options(WorkerSettings(max_batch=300, top_n=7))
    assert (given.max_batch, given.top_n, given.bundle) == (300, 7, Path("/bundles/b"))


def test_started_by_hand_a_peer_has_the_batches_of_a_worker_that_was_started_by_hand() -> None:
    by_hand = ["--brokers", "127.0.0.1:9092", "--bundle", "/bundles/b", "--group", "g"]
    assert peer_options("take", by_hand).max_batch == WorkerSettings().max_batch


def test_faust_polls_as_much_as_a_batch_holds(tmp_path: Path) -> None:
    given = options(WorkerSettings(max_batch=5_000))
    app = stock_app(given, tmp_path, given.max_batch)
    assert app.conf.broker_max_poll_records == 5_000
    assert app.conf.stream_buffer_maxsize >= 5_000


class Stream:
    """A stream of Faust's that has so many events."""

    def __init__(self, n_events: int) -> None:
        self._events = [SimpleNamespace(message=number) for number in range(n_events)]

    async def take_events(self, max_: int, within: float) -> AsyncIterator[list[Any]]:
        """As Faust's, when all events are there."""
        for start in range(0, len(self._events), max_):
            yield self._events[start : start + max_]


def test_what_was_taken_is_answered_in_batches_of_the_worker() -> None:
    batches: list[list[Any]] = []

    async def answer(messages: list[Any]) -> None:
        batches.append(messages)

    asyncio.run(answer_taken(Stream(10_000), 4_096, answer))
    assert [len(batch) for batch in batches] == [4_096, 4_096, 1_808]
    assert [message for batch in batches for message in batch] == list(range(10_000))


def test_the_echo_fills_events_up_to_the_length_of_a_list() -> None:
    (batch,) = _written([(b"u1", b'{"event_id":"7"}'), (b"u2", b'{"event_id":"8","more":1}')], 20)
    assert [(key, value) for key, value, _ in members_of(batch)] == [
        (b"u1", b'{"event_id":"7"}    '),
        (b"u2", b'{"event_id":"8","more":1}'),
    ]
