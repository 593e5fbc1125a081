"""Drain a full topic with one worker, and with what a user would write instead."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from typing import NamedTuple

from encoders.bundle.manifest import bundle_path
from encoders.records import ModelUpdate
from streams.cli.bench.benchmark import Counted, Figures
from streams.cli.bench.catalogues import WINDOW_RULE, Catalogue, clicks
from streams.cli.bench.drain import Drained, drain, fill
from streams.cli.bench.events import Load
from streams.cli.bench.limit import LimitOptions, measure_limit
from streams.cli.bench.stage import PARTITIONS, Ground, Stage
from streams.settings import KafkaSettings, RedisSettings, WorkerSettings

CATALOGUE = "ml1m"
LIMIT_EVENTS, LIMIT_COMPUTED = 100_000, 50_000
"""Events that the parts of the limit are measured with, those that need servers and those that need none."""
PEERS = ("naive", "take", "quix")


class Size(NamedTuple):
    """How much is measured."""

    rounds: int
    """How often our own worker drains its topic, each time with the limit measured right after it; an odd number."""
    events: int
    """Of our own topic; enough for some ten seconds."""
    peer_events: int
    """The first so many of the same events, for peers that are slower."""
    most_s: float
    """Where the measured interval of one system ends at the latest."""


FULL, QUICK = Size(3, 400_000, 60_000, 25.0), Size(1, 4_000, 0, 20.0)


class Round(NamedTuple):
    """Our worker and its limit, one right after the other, so that what disturbs the machine disturbs both."""

    ours: Drained
    limit: dict[str, float]

    @property
    def share_of_limit(self) -> float:
        """The limit's cost over the worker's."""
        return self.limit["limit_us"] / self.ours.cpu_us_per_event


def run(stage: Stage) -> Figures:
    """Our worker with the limit, several times; then the peers one after the other; each on servers of its own.

    With `--quick` there is one round, and there are no peers.
    """
    size, catalogue = (QUICK if stage.quick else FULL), stage.catalogue(CATALOGUE)
    rounds = [_round(stage, catalogue, size) for _ in range(size.rounds)]
    figures: Figures = {"items": catalogue.n_items, "top_n": catalogue.top_n, **round_figures(rounds)}
    ours = middle(rounds).ours
    for name in PEERS if size.peer_events else ():
        theirs = _drain_with_peer(stage, catalogue, name, size)
        figures[f"{name}_events_per_s"] = round(theirs.events_per_s, 1)
        figures[f"{name}_cpu_us_per_event"] = round(theirs.cpu_us_per_event, 2)
        figures[f"{name}_lost"] = theirs.lost
        figures[f"{name}_duplicates"] = theirs.duplicates
        figures[f"ratio_to_{name}"] = round(ours.events_per_s / theirs.events_per_s, 2)
        figures[f"cpu_ratio_to_{name}"] = round(theirs.cpu_us_per_event / ours.cpu_us_per_event, 2)
    return figures


def round_figures(rounds: Sequence[Round]) -> Figures:
    """The round whose share of the limit is the median, whole; the range of the shares; and what all rounds lost."""
    one, shares, counted = middle(rounds), [each.share_of_limit for each in rounds], Counted()
    for each in rounds:
        counted.add(each.ours.n_events, each.ours.lost, each.ours.duplicates)
    return {
        **one.ours.figures(),
        **counted.figures(),
        **one.limit,
        "rounds": len(rounds),
        "share_of_limit": round(one.share_of_limit, 3),
        "share_of_limit_min": round(min(shares), 3),
        "share_of_limit_max": round(max(shares), 3),
    }


def middle(rounds: Sequence[Round]) -> Round:
    """The round whose share of the limit is the median."""
    return sorted(rounds, key=lambda each: each.share_of_limit)[len(rounds) // 2]


def _round(stage: Stage, catalogue: Catalogue, size: Size) -> Round:
    with _drained(stage, catalogue, size.events, size.most_s) as (ground, load, ours):
        ground.stop()  # it must not work beside what is measured now
        stage.say("the parts that nobody can leave out, each alone")
        options = _limit_options(ground, load, ours, stage.bundle(catalogue), worker_settings(catalogue))
        return Round(ours, measure_limit(options))


def worker_settings(catalogue: Catalogue) -> WorkerSettings:
    """How the worker is set up; what peers share with it is taken from here, too."""
    return WorkerSettings(top_n=catalogue.top_n)


def drain_with_worker(stage: Stage, catalogue: Catalogue, n_events: int, most_s: float) -> Drained:
    """One worker drains the catalogue's clicks."""
    with _drained(stage, catalogue, n_events, most_s) as (_, _, drained):
        return drained


@contextmanager
def _drained(
    stage: Stage, catalogue: Catalogue, n_events: int, most_s: float
) -> Iterator[tuple[Ground, Load, Drained]]:
    """The same, and the servers as the worker has left them."""
    update = stage.bundle(catalogue)
    with stage.ground() as ground:
        load = Load(clicks(catalogue, n_events), PARTITIONS)
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(window=WINDOW_RULE, worker=worker_settings(catalogue))
        yield ground, load, drain(ground, load, [worker], stage.console, most_s=most_s)


def _limit_options(
    ground: Ground, load: Load, ours: Drained, update: ModelUpdate, worker: WorkerSettings
) -> LimitOptions:
    """What the worker had: its batches and its waves; and no more answers than a list takes."""
    batch = min(round(ours.batch_events) or worker.max_batch, worker.max_batch)  # a load may be too small to tell
    return LimitOptions(
        brokers=ground.kafka.brokers,
        interactions=ground.kafka.topics.interactions,
        recommendations=ground.kafka.topics.recommendations,
        redis_url=ground.redis.url,
        key_prefix=ground.redis.key_prefix,
        bundle=str(bundle_path(update.uri)),
        batch=batch,
        wave=mean_wave([event.key for event in load.events], batch),
        answers=worker.top_n,
        loaded_share=load.n_users / len(load),  # a session stays in the worker's memory once it was read
        n_events=min(LIMIT_EVENTS, len(load)),
        n_computed=min(LIMIT_COMPUTED, len(load)),
    )


def mean_wave(users: Sequence[bytes], batch: int) -> int:
    """Events of one encoder call: the ``i``-th events of all users of a batch go together.

    Example:
        >>> mean_wave([b"ann", b"ann", b"bob", b"eve"], batch=4)
        2
    """
    n_waves = sum(max(Counter(users[start : start + batch]).values()) for start in range(0, len(users), batch))
    return max(1, round(len(users) / n_waves))


def _drain_with_peer(stage: Stage, catalogue: Catalogue, name: str, size: Size) -> Drained:
    """The same model, index and events, and another program in our worker's place."""
    update = stage.bundle(catalogue)
    with stage.ground() as ground:
        load = Load(clicks(catalogue, size.peer_events), PARTITIONS)
        fill(ground, load)
        arguments = peer_arguments(ground.kafka, ground.redis, update.uri, worker_settings(catalogue))
        peer = ground.python(name, "-m", f"streams.cli.bench.peers.{name}", *arguments)
        return drain(ground, load, [peer], stage.console, most_s=size.most_s)


def peer_arguments(kafka: KafkaSettings, redis: RedisSettings, bundle_uri: str, worker: WorkerSettings) -> list[str]:
    """The command line of a peer: where our worker would work, and as it would."""
    options = {
        "--brokers": kafka.brokers,
        "--input": kafka.topics.interactions,
        "--output": kafka.topics.recommendations,
        "--bundle": str(bundle_path(bundle_uri)),
        "--group": kafka.group_id,
        "--top-n": str(worker.top_n),
        "--max-batch": str(worker.max_batch),
        "--redis": redis.url,
        "--key-prefix": redis.key_prefix,
    }
    return list(chain(*options.items()))
