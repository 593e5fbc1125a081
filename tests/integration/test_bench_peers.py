"""What the benchmark compares with answers every event, and answers it right: else a ratio would mean nothing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from kafka import KafkaConsumer, KafkaProducer

from encoders.bundle import Bundle, read_bundle
from streams.cli.bench.catalogues import CATALOGUES, WINDOW_RULE, Click, clicks, make_bundle
from streams.processes import end_process
from streams.settings import KafkaSettings

CATALOGUE = replace(CATALOGUES["ml1m"], name="peers", n_items=300, n_users=3, fit_events=3_000)
N_EVENTS = 200
NEEDS_QUIX = pytest.mark.skipif(
    find_spec("quixstreams") is None and "CI" not in os.environ, reason="pip install 'streamrec[bench]'"
)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return read_bundle(make_bundle(tmp_path_factory.mktemp("bundles"), CATALOGUE).uri)


@pytest.mark.parametrize("peer", ["naive", "take", pytest.param("quix", marks=NEEDS_QUIX)])
def test_a_peer_answers_every_event_as_the_model_does(
    peer: str, topics: KafkaSettings, bundle: Bundle, tmp_path: Path
) -> None:
    load = list(clicks(CATALOGUE, N_EVENTS))
    publish(topics, load)
    with (tmp_path / "peer.log").open("w") as log:
        process = start(peer, topics, bundle.index_path.parent, log.fileno())
        try:
            lists = {made["event_id"]: made for made in recommendations(topics)}
        finally:
            end_process(process)
    assert lists.keys() == {click.event_id for click in load}, (tmp_path / "peer.log").read_text()[-2000:]
    for click, (items, scores) in zip(load, exact_answers(load, bundle, peer == "take"), strict=True):
        made = lists[click.event_id]
        assert made["user_id"] == click.user_id
        listed = [int(item["item_id"]) for item in made["items"]]
        assert len(set(listed)) == CATALOGUE.top_n
        np.testing.assert_allclose([scores[item] for item in listed], scores[items], atol=1e-4)


def publish(kafka: KafkaSettings, load: Sequence[Click]) -> None:
    with closing(KafkaProducer(bootstrap_servers=kafka.brokers)) as producer:
        for click in load:
            value = json.dumps({**click._asdict(), "event_type": "click"}).encode()
            producer.send(kafka.topics.interactions, value, key=click.user_id.encode(), headers=[("schema", b"1")])
        producer.flush()


def start(peer: str, kafka: KafkaSettings, bundle: Path, log: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", f"streams.cli.bench.peers.{peer}", "--brokers", kafka.brokers]
    command += ["--input", kafka.topics.interactions, "--output", kafka.topics.recommendations]
    command += ["--bundle", str(bundle), "--group", kafka.group_id, "--top-n", str(CATALOGUE.top_n)]
    return subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)


def recommendations(kafka: KafkaSettings) -> Iterator[dict[str, Any]]:
    """Lists until there is one for each event, or none comes for a while."""
    consumer = KafkaConsumer(
        kafka.topics.recommendations,
        bootstrap_servers=kafka.brokers,
        auto_offset_reset="earliest",
        consumer_timeout_ms=60_000,
    )
    with closing(consumer):
        for _, record in zip(range(N_EVENTS), consumer, strict=False):
            yield json.loads(record.value)


def exact_answers(load: Sequence[Click], bundle: Bundle, remembers: bool) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each event the best unseen items, best first, and the scores of all items.

    What has left the window counts as seen only where the peer remembers it, as our own pipeline does.
    """
    windows: dict[str, list[int]] = {}
    seen: dict[str, set[int]] = {}
    for click in load:
        window, number = windows.setdefault(click.user_id, []), int(click.item_id)
        if window[-1:] != [number]:
            if len(window) >= WINDOW_RULE.max_len:
                del window[: -(WINDOW_RULE.max_len // 2)]
            window.append(number)
        scores = bundle.item_vectors @ bundle.encoder.encode(np.array([window]))[1][0]
        allowed = scores.copy()
        past = seen.setdefault(click.user_id, set())
        past.add(number)
        allowed[[0, *(past if remembers else window)]] = -np.inf
        yield np.argsort(-allowed)[: CATALOGUE.top_n], scores
