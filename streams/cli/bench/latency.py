"""Time from publish to receipt, at several loads."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np

from streams.cli.bench.answers import Answers, Receiver
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE, clicks
from streams.cli.bench.drain import STALL_TIMEOUT_S, Watch
from streams.cli.bench.events import Load
from streams.cli.bench.measures import percentile
from streams.cli.bench.open_loop import Schedule, poisson_schedule, send_open_loop
from streams.cli.bench.sender import Sender
from streams.cli.bench.stage import PARTITIONS, Ground, Stage
from streams.cli.bench.throughput import CATALOGUE, drain_with_worker
from streams.cli.progress import counted
from streams.settings import WorkerSettings

PERCENTS = (10, 50, 80)
"""Loads, of the throughput."""


class Size(NamedTuple):
    """How much is measured."""

    warm_up_events: int
    """Answered as fast as they go, before anything is timed."""
    settle_s: float
    """At the start of each load, not timed."""
    measured_s: float
    drained_events: int
    """For the throughput, where it has not been measured in this run."""


FULL, QUICK = Size(40_000, 3.0, 12.0, 120_000), Size(1_000, 0.5, 1.0, 3_000)


def run(stage: Stage) -> Figures:
    """One worker, one load after the other."""
    size, catalogue = (QUICK if stage.quick else FULL), stage.catalogue(CATALOGUE)
    known = stage.results.get("throughput", {}).get("events_per_s")
    throughput = float(known or drain_with_worker(stage, catalogue, size.drained_events, 25.0).events_per_s)
    update = stage.bundle(catalogue)
    schedules, start = [], size.warm_up_events
    for percent in PERCENTS:
        schedule = poisson_schedule(start, throughput * percent / 100, size.settle_s + size.measured_s, seed=percent)
        schedules.append(schedule)
        start = schedule.end
    load = Load(clicks(catalogue, start), PARTITIONS)
    with stage.ground() as ground:
        ground.announce(update)
        ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n), wait=True)
        with _no_collection():
            figures = asyncio.run(_measure(ground, stage, load, schedules, size))
    with stage.ground() as ground, _no_collection():
        half = schedules[PERCENTS.index(50)]
        figures |= asyncio.run(_measure_broker(ground, stage, load, half, size))
    return {"throughput_events_per_s": round(throughput, 1), **figures}


async def _measure(ground: Ground, stage: Stage, load: Load, schedules: list[Schedule], size: Size) -> Figures:
    answers = Answers(load)
    figures: Figures = {"events": len(load), "lost": 0, "duplicates": 0}
    async with (
        Receiver(ground.kafka, answers) as receiver,
        Sender(ground.kafka, ground.kafka.topics.interactions) as sender,
    ):
        with counted(stage.console, "  lists", len(load)) as done:
            watch = Watch(ground, answers, receiver, done)
            await sender.send_all(load.batches(0, size.warm_up_events))
            await watch.until(size.warm_up_events, STALL_TIMEOUT_S)
            for percent, schedule in zip(PERCENTS, schedules, strict=True):
                sent = await send_open_loop(sender, load, schedule)
                await watch.until(schedule.end, STALL_TIMEOUT_S)
                timed = schedule.due_s >= size.settle_s
                waits_s = answers.received_s[schedule.start : schedule.end][timed] - sent.due_s[timed]
                figures[f"events_per_s_at_{percent}"] = round(timed.sum() / size.measured_s, 1)
                for p in (50, 95, 99):
                    figures[f"p{p}_ms_at_{percent}"] = round(1e3 * percentile(waits_s[~np.isnan(waits_s)], p), 3)
                figures[f"max_ms_at_{percent}"] = round(1e3 * float(np.nanmax(waits_s)), 3)
                figures.update(sent.lag_figures(f"_at_{percent}"))
            await watch.until_quiet()
    tally = answers.tally(complete=True)
    return figures | {"lost": tally.lost, "duplicates": tally.duplicates}


async def _measure_broker(ground: Ground, stage: Stage, load: Load, schedule: Schedule, size: Size) -> Figures:
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
    timed = schedule.due_s >= size.settle_s
    waits_s = answers.received_s[schedule.start : schedule.end][timed] - sent.due_s[timed]
    return {f"broker_p{p}_ms_at_50": round(1e3 * percentile(waits_s[~np.isnan(waits_s)], p), 3) for p in (50, 99)}


@contextmanager
def _no_collection() -> Iterator[None]:
    """No pauses of the load generator's own garbage collector."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()
