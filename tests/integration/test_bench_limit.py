"""The limit of the benchmark, measured on what a worker leaves behind."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from kafka import KafkaProducer

from encoders.bundle.manifest import bundle_path
from encoders.records import DEFAULT_CATALOGUE
from streams.cli.bench.catalogues import CATALOGUES, make_bundle
from streams.cli.bench.errors import BenchError
from streams.cli.bench.limit import PARTS, LimitOptions, measure_limit
from streams.session import SessionKey
from streams.settings import KafkaSettings, RedisSettings
from streams.store import Keys

CATALOGUE = replace(CATALOGUES["ml1m"], name="limit", n_items=60, n_users=5, fit_events=600)
N_EVENTS = 60
PREFIX = "limit-test:"


@pytest.fixture
def options(topics: KafkaSettings, redis_server: RedisSettings, tmp_path: Path) -> LimitOptions:
    """Events and lists in topics, no session anywhere yet."""
    with closing(KafkaProducer(bootstrap_servers=topics.brokers)) as producer:
        for number in range(N_EVENTS):
            user, item = f"u{number % 5}", str(number % 60 + 1)
            event = json.dumps({"event_id": str(number), "user_id": user, "item_id": item}).encode()
            for topic in (topics.topics.interactions, topics.topics.recommendations):
                producer.send(topic, event, key=user.encode())
        producer.flush()
    bundle = bundle_path(make_bundle(tmp_path, CATALOGUE).uri)
    names = (topics.brokers, topics.topics.interactions, topics.topics.recommendations, redis_server.url, PREFIX)
    return LimitOptions(*names, str(bundle), 16, 4, 10, 0.5, N_EVENTS, n_computed=200)


def test_every_part_is_measured_and_the_limit_is_their_sum(options: LimitOptions, redis_server: RedisSettings) -> None:
    with closing(redis_server.sync_client()) as client:
        names = [
            Keys.of(PREFIX, options.interactions, partition).session(SessionKey(DEFAULT_CATALOGUE, f"u{user}"))
            for partition in range(4)
            for user in range(5)
        ]
        client.mset(dict.fromkeys(names, bytes(1_000)))
        try:
            figures = measure_limit(options)
        finally:
            client.delete(*names, *client.scan_iter(match="{limit:*"))
    assert set(figures) == {
        "limit_us",
        *(f"limit_us_{part}" for part in (*PARTS, "send", "search_own", "search_faiss")),
    }
    assert all(us > 0 for us in figures.values())
    assert figures["limit_us"] == pytest.approx(sum(figures[f"limit_us_{part}"] for part in PARTS), abs=0.01)
    assert figures["limit_us_search"] == min(figures["limit_us_search_own"], figures["limit_us_search_faiss"])


def test_without_the_sessions_of_a_worker_there_is_no_limit(options: LimitOptions) -> None:
    with pytest.raises(BenchError, match=r"could not be measured: .*no session of the worker is stored"):
        measure_limit(options)
