"""Time from publish to receipt, at several loads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

import numpy as np

from streams.cli.bench.answers import Answers, Receiver, Tally
from streams.cli.bench.benchmark import Counted, Figures
from streams.cli.bench.catalogues import WINDOW_RULE, clicks
from streams.cli.bench.errors import BenchError
from streams.cli.bench.events import Load
from streams.cli.bench.measures import percentile
from streams.cli.bench.open_loop import Schedule, Sent, poisson_schedule, send_open_loop
from streams.cli.bench.sender import Sender
from streams.cli.bench.stage import PARTITIONS, Ground, Stage
from streams.cli.bench.throughput import CATALOGUE, drain_with_worker
from streams.cli.bench.watch import STALL_TIMEOUT_S, Watch
from streams.cli.progress import counted
from streams.settings import WorkerSettings

PERCENTS = (10, 50, 80)
"""Loads, of the throughput."""
BROKER_PERCENT = 50
"""The load at which aiokafka alone and the broker alone are timed, too."""


class Size(NamedTuple):
    """How much is measured."""

    warm_broker_s: float
    """Of load before all others that nothing is timed in, for a given broker: a JVM compiles what it runs often."""
    warm_up_events: int
    """Answered as fast as they go, before anything is timed."""
    settle_s: float
    """At the start of each load, not timed."""
    measured_s: float
    drained_events: int
    """For the throughput, where it has not been measured in this run."""


FULL, QUICK = Size(25.0, 20_000, 4.0, 10.0, 120_000), Size(1.0, 1_000, 0.5, 1.0, 3_000)


def run(stage: Stage) -> Figures:
    """One load after the other, each on servers of its own; one of them without a worker, too."""
    size, catalogue = (QUICK if stage.quick else FULL), stage.catalogue(CATALOGUE)
    counted = Counted()
    throughput = stage.results.get("throughput", {}).get("events_per_s")
    if throughput is None:
        drained = drain_with_worker(stage, catalogue, size.drained_events, 25.0)
        counted.add(drained.n_events, drained.lost, drained.duplicates)
        throughput = drained.events_per_s
    figures: Figures = {"throughput_events_per_s": round(float(throughput), 1)}
    update = stage.bundle(catalogue)

    def worker(ground: Ground) -> None:
        ground.announce(update)
        ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n), wait=True)

    def answered(percent: int, seconds: float, seed: int, name: str, start: Callable[[Ground], None]) -> Answered:
        return _answered(stage, start, size, float(throughput) * percent / 100, seconds, seed, name)

    def by_worker(percent: int, seconds: float, seed: int, name: str) -> Answered:
        found = answered(percent, seconds, seed, name, worker)
        counted.add(len(found.load), found.tally.lost, found.tally.duplicates)
        return found

    if stage.broker_is_given:
        by_worker(BROKER_PERCENT, size.warm_broker_s, 0, "warming the broker up")
    for percent in PERCENTS:
        seconds = size.settle_s + size.measured_s
        found = by_worker(percent, seconds, percent, f"{percent} % load")
        figures |= {f"{key}_at_{percent}": value for key, value in found.timed.items()}
        if percent == BROKER_PERCENT:
            echoed = answered(percent, seconds, percent, "aiokafka alone", partial(echo, found.list_bytes))
            figures |= _percentiles("echo", echoed.timed, percent)
            figures["echo_lost"] = echoed.tally.lost
            with stage.ground() as ground, _no_collection():
                timed, tally = asyncio.run(_measure_broker(ground, stage, found.load, found.schedule, size))
            figures |= _percentiles("broker", timed, percent)
            figures["broker_lost"] = tally.lost
    return figures | counted.figures()


def _percentiles(of: str, timed: Figures, percent: int) -> Figures:
    return {f"{of}_{key}_at_{percent}": value for key, value in timed.items() if key.startswith("p")}


def echo(list_bytes: int, ground: Ground) -> None:
    """Start the peer that produces what it consumes, see `streams.cli.bench.peers.echo`."""
    kafka = ground.kafka
    given = {
        "brokers": kafka.brokers,
        "input": kafka.topics.interactions,
        "output": kafka.topics.recommendations,
        "list-bytes": str(list_bytes),
        "fetch-max-wait-ms": str(kafka.fetch_max_wait_ms),
    }
    arguments = [word for name, value in given.items() for word in (f"--{name}", value)]
    ground.python("echo", "-m", "streams.cli.bench.peers.echo", *arguments)


class Answered(NamedTuple):
    """One load, and what became of it."""

    load: Load
    schedule: Schedule
    timed: Figures
    tally: Tally
    list_bytes: int
    """How long a list was."""


def _answered(
    stage: Stage,
    start: Callable[[Ground], None],
    size: Size,
    rate: float,
    seconds: float,
    seed: int,
    name: str,
) -> Answered:
    """One load on a process of its own that answers it, on servers of its own."""
    schedule = poisson_schedule(size.warm_up_events, rate, seconds, seed=seed)
    load = Load(clicks(stage.catalogue(CATALOGUE), schedule.end), PARTITIONS)
    with stage.ground() as ground:
        start(ground)
        with _no_collection():
            timed, answers = asyncio.run(_measure(ground, stage, load, schedule, size, name))
    return Answered(load, schedule, timed, answers.tally(complete=True), answers.list_bytes)


async def _measure(
    ground: Ground, stage: Stage, load: Load, schedule: Schedule, size: Size, name: str
) -> tuple[Figures, Answers]:
    answers = Answers(load)
    async with (
        Receiver(ground.kafka, answers) as receiver,
        Sender(ground.kafka, ground.kafka.topics.interactions) as sender,
    ):
        with counted(stage.console, f"  {name}", len(load)) as done:
            watch = Watch(ground, answers, receiver, done)
            await sender.send_all(load.batches(0, size.warm_up_events))
            await watch.until(size.warm_up_events, STALL_TIMEOUT_S)
            sent = await send_open_loop(sender, load, schedule)
            await watch.until(schedule.end, STALL_TIMEOUT_S)
            await watch.until_quiet()
    return _timed(answers, schedule, sent, size), answers


async def _measure_broker(
    ground: Ground, stage: Stage, load: Load, schedule: Schedule, size: Size
) -> tuple[Figures, Tally]:
    """The same events through the broker once, with nothing between producer and consumer: the floor of one hop."""
    answers, topic = Answers(load), ground.kafka.topics.interactions
    async with (
        Receiver(ground.kafka, answers, topic=topic) as receiver,
        Sender(ground.kafka, topic) as sender,
    ):
        with counted(stage.console, "  the broker alone", len(schedule.due_s)) as done:
            watch = Watch(ground, answers, receiver, done)
            sent = await send_open_loop(sender, load, schedule)
            await watch.until(len(schedule.due_s), STALL_TIMEOUT_S)
    return _timed(answers, schedule, sent, size), answers.tally(complete=True, start=schedule.start, end=schedule.end)


def _timed(answers: Answers, schedule: Schedule, sent: Sent, size: Size) -> Figures:
    """Percentiles from due to received, once the load has settled."""
    counts = schedule.due_s >= size.settle_s
    waits_s = answers.received_s[schedule.start : schedule.end][counts] - sent.due_s[counts]
    answered_s = waits_s[~np.isnan(waits_s)]
    if not len(answered_s):
        raise BenchError("not one event of the measured interval was answered")
    return {
        "events_per_s": round(len(waits_s) / size.measured_s, 1),
        **{f"p{p}_ms": round(1e3 * percentile(answered_s, p), 3) for p in (50, 95, 99)},
        "max_ms": round(1e3 * float(answered_s.max()), 3),
        **sent.lag_figures(),
    }


@contextmanager
def _no_collection() -> Iterator[None]:
    """No pauses of the load generator's own garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
