"""Is the state exactly what the log amounts to, and is there a list for every event?"""

from __future__ import annotations

import struct
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from math import isclose, nan
from typing import Any

from kafka.consumer.fetcher import ConsumerRecord

from encoders.records import BundleReference, Interaction, Recommendation
from streams.app import WorkerConfig, worker_rules
from streams.cli.config import Settings
from streams.decode import decode_one
from streams.fold import PartitionState, differences, fold
from streams.inspection import StateReader
from streams.pipeline import Source
from streams.preflight import Place
from streams.serving import ServingModel
from streams.store import Keys
from streams.topics import cluster_id
from streams.worker import WorkerRules
from tests.processes import applied, read_lists, read_topic, until


@dataclass(frozen=True)
class Outcome:
    """What a run has left behind."""

    lists: list[Recommendation]
    """As published, repeats included."""
    repeated: int
    """Lists that were published more than once."""
    problems: list[str] = field(default_factory=list)
    """Where state or lists are not what the log amounts to."""


def check_exact(settings: Settings, *references: BundleReference) -> Outcome:
    """Wait until the whole log is applied, and compare what is there with an offline fold.

    Compared are all sessions with their encoder states, the popularity counts, the counters and the lists: every
    event has one, and a repeat has the same id.

    Args:
        settings: The workers'.
        references: The models that may have answered; a state of another one is a problem.

    Raises:
        AssertionError: Naming what is not exact.
    """
    outcome = examine(settings, *references)
    assert not outcome.problems, "\n".join(outcome.problems[:20])
    return outcome


def examine(settings: Settings, *references: BundleReference) -> Outcome:
    """The same, with the problems as a result."""
    log = read_topic(settings.kafka, settings.kafka.topics.interactions)
    by_partition = {number: list(records) for number, records in groupby(log, key=lambda record: record.partition)}
    _wait_until_applied(settings, {number: records[-1].offset + 1 for number, records in by_partition.items()})
    rules = _rules(settings)
    model = _loader(settings, references)
    problems: list[str] = []
    for partition, records in by_partition.items():
        expected = _fold(records, partition, rules)
        problems += [f"partition {partition}: {line}" for line in _compare(expected, settings, partition, model)]
    lists = read_lists(settings.kafka)
    problems += _compare_lists(log, lists, rules)
    problems += [f"a list by unknown model {version}" for version in _versions(lists) - {r.version for r in references}]
    times = Counter(made.recommendation_id for made in lists)
    return Outcome(lists, sum(count > 1 for count in times.values()), problems)


def _wait_until_applied(settings: Settings, ends: Mapping[int, int]) -> None:
    # A batch may end behind its last record: a transaction's marker takes an offset, too.
    def reached() -> bool:
        places = applied(settings)
        return all(places.get(partition, 0) >= end for partition, end in ends.items())

    until(reached, f"everything before {ends} is applied")


def _rules(settings: Settings) -> WorkerRules:
    place = Place(cluster_id(settings.kafka), settings.kafka.partitions)
    return worker_rules(
        WorkerConfig(settings.kafka, settings.redis, settings.worker, settings.model, settings.web), place
    )


def _fold(records: list[ConsumerRecord], partition: int, rules: WorkerRules) -> PartitionState:
    now_ms = time.time_ns() // 1_000_000
    return fold(
        records,
        partition=partition,
        n_partitions=rules.n_partitions,
        rules=rules.pipeline,
        limits=rules.limits,
        now_ms=now_ms,
    )


def _loader(settings: Settings, references: tuple[BundleReference, ...]) -> Callable[[str], ServingModel]:
    models = [ServingModel.load(reference, settings.model.window) for reference in references]
    by_key = {model.state_key: model for model in models}
    return by_key.__getitem__


def _compare(
    expected: PartitionState, settings: Settings, partition: int, model: Callable[[str], ServingModel]
) -> list[str]:
    reader = StateReader.of(settings.redis, settings.kafka)
    problems = differences(expected.sessions, dict(reader.sessions(partition)), model)
    counters, popularity = _counters(settings, partition)
    wanted = {
        "events": len(expected.event_ids),
        "duplicates": expected.duplicates,
        "dead_letters": expected.dead,
        "forwarded": expected.misplaced,
    }
    if counters != wanted:
        problems.append(f"counters are {counters}, the log says {wanted}")
    keys = popularity.keys() | expected.popularity.keys()
    # A batch adds counts in the order of its waves, which changes the last digits.
    differing = [k for k in keys if not isclose(popularity.get(k, nan), expected.popularity.get(k, nan), abs_tol=1e-9)]
    if differing:
        problems.append(f"popularity of {len(differing)} items differs, such as {sorted(differing)[:5]}")
    return problems


def _counters(settings: Settings, partition: int) -> tuple[dict[str, int], dict[tuple[str, str], float]]:
    client: Any = settings.redis.sync_client()
    keys = Keys.of(settings.redis.key_prefix, settings.kafka.topics.interactions, partition)
    counters = {name.decode(): int(total) for name, total in client.hgetall(keys.counters).items()}
    popularity = {
        (catalogue.decode(), item_id.decode()): struct.unpack("<d", count)[0]
        for catalogue in client.smembers(keys.catalogues)
        for item_id, count in client.hgetall(keys.popularity(catalogue.decode())).items()
    }
    return counters, popularity


def _compare_lists(log: list[ConsumerRecord], lists: list[Recommendation], rules: WorkerRules) -> list[str]:
    """Every event has its list, and every list the id that its event's place gives."""
    wanted = {}
    for record in log:
        now_ms = time.time_ns() // 1_000_000
        outcome = decode_one(record, record.partition, rules.n_partitions, rules.limits, now_ms)
        if isinstance(outcome, Interaction):
            source = Source(rules.cluster, record.topic, record.partition)
            wanted[source.recommendation_id(record.offset)] = outcome.event_id
    found = {made.recommendation_id: made.event_id for made in lists}
    problems = [f"event {wanted[name]} has no list" for name in wanted.keys() - found.keys()]
    problems += [f"list {name} answers no event of the log" for name in found.keys() - wanted.keys()]
    problems += [f"list {name} names another event" for name in wanted if found.get(name, wanted[name]) != wanted[name]]
    return problems


def _versions(lists: list[Recommendation]) -> set[str]:
    return {made.model_version for made in lists if made.model_version}
