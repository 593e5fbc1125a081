"""A second model of a million items is announced while lists flow."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from typing import NamedTuple

import numpy as np

from encoders.records import ModelUpdate
from streams.cli.bench.answers import Answers, Receiver
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE, clicks
from streams.cli.bench.errors import BenchError
from streams.cli.bench.events import EncodedEvent, Load, record_batch
from streams.cli.bench.measures import Floats, longest_gap, percentile
from streams.cli.bench.open_loop import Schedule, poisson_schedule, send_open_loop
from streams.cli.bench.sender import Sender
from streams.cli.bench.stage import PARTITIONS, Ground, Process, Stage
from streams.cli.bench.watch import STALL_TIMEOUT_S, Watch
from streams.cli.progress import counted
from streams.settings import WorkerSettings

CATALOGUE = "1m"
TICK_S = 0.02
"""Coarse, as a gap of a quarter second is looked for: the embedded broker slows down with every batch."""
_WATCH_MEMORY_EVERY_S = 0.05


class Size(NamedTuple):
    """How much is measured."""

    rate: float
    """Events a second; in full what a worker with a million items is to answer at least, see `1m_events_per_s`."""
    warm_up_events: int
    before_s: float
    """Of steady load before the announcement."""
    most_s: float
    """How long the swap may take."""
    after_s: float
    """Of load after the swap, in which a pause still counts as its consequence."""


FULL, QUICK = Size(4_000.0, 20_000, 6.0, 90.0, 5.0), Size(1_000.0, 500, 2.0, 10.0, 1.0)


def run(stage: Stage) -> Figures:
    """One worker serves the first bundle; the second is the same content under another version."""
    size, catalogue = (QUICK if stage.quick else FULL), stage.catalogue(CATALOGUE)
    first, second = stage.bundle(catalogue), stage.bundle(catalogue, generation=1)
    schedule = poisson_schedule(size.warm_up_events, size.rate, size.before_s + size.most_s, tick_s=TICK_S)
    load = Load(clicks(catalogue, schedule.end), PARTITIONS)
    with stage.ground() as ground:
        ground.announce(first)
        worker = ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n), wait=True)
        gc.collect()
        gc.disable()  # no pauses of the load generator's own
        try:
            swap = asyncio.run(_swap(ground, stage, worker, load, schedule, second, size))
        finally:
            gc.enable()
    return {"items": catalogue.n_items, "events_per_s": size.rate, **swap}


async def _swap(
    ground: Ground, stage: Stage, worker: Process, load: Load, schedule: Schedule, second: ModelUpdate, size: Size
) -> Figures:
    answers, version = Answers(load), second.version.encode()
    received_s: list[float] = []
    swapped_s: list[float] = []

    def on_lists(values: list[bytes], now_s: float) -> None:
        received_s.append(now_s)
        if not swapped_s and version in values[-1]:
            swapped_s.append(now_s)

    def settled() -> bool:
        return bool(swapped_s) and time.perf_counter() > swapped_s[0] + size.after_s

    announcement = EncodedEvent(0, second.model.encode(), second.to_json())
    async with (
        Receiver(ground.kafka, answers, on_lists) as receiver,
        Sender(ground.kafka, ground.kafka.topics.interactions) as sender,
        Sender(ground.kafka, ground.kafka.topics.model_updates) as announcer,
    ):
        with counted(stage.console, "  lists", len(load)) as done, _MemoryWatch(worker) as memory:
            watch = Watch(ground, answers, receiver, done)
            await sender.send_all(load.batches(0, size.warm_up_events))
            await watch.until(size.warm_up_events, STALL_TIMEOUT_S)
            sending = asyncio.create_task(send_open_loop(sender, load, schedule, settled))
            await asyncio.sleep(size.before_s)
            before_bytes = worker.usage().rss_bytes
            announced_s = time.perf_counter()
            announcer.send([record_batch(0, [announcement])])
            sent = await sending
            await watch.until(sent.end, STALL_TIMEOUT_S)
            await watch.until_quiet()
    if not swapped_s:
        raise BenchError(
            f"the second model did not answer within {size.most_s:.0f} s; the worker's log is in {ground.directory}"
        )
    tally, times_s = answers.tally(complete=True, end=sent.end), np.array(received_s)
    swapped, end_s = swapped_s[0], min(swapped_s[0] + size.after_s, float(sent.due_s[-1]))
    waits_s = answers.received_s[schedule.start : sent.end] - sent.due_s
    gap = longest_gap(times_s, announced_s, end_s)
    steady = longest_gap(times_s, announced_s - 0.7 * size.before_s, announced_s)
    return {
        "events": sent.end,
        "lost": tally.lost,
        "duplicates": tally.duplicates,
        "seconds_to_swap": round(swapped - announced_s, 3),
        "longest_gap_ms": round(1e3 * gap.seconds, 1),
        "longest_gap_begins_s": round(gap.begins_s - announced_s, 3),
        "longest_gap_before_ms": round(1e3 * steady.seconds, 1),
        "p99_ms_before": _p99_ms(waits_s, sent.due_s, announced_s - 0.7 * size.before_s, announced_s),
        "p99_ms_during": _p99_ms(waits_s, sent.due_s, announced_s, end_s),
        "max_ms_during": round(1e3 * float(np.nanmax(waits_s[sent.due_s >= announced_s])), 1),
        "rss_mb_before": round(before_bytes / 1e6, 1),
        "rss_mb_peak": round(memory.peak_bytes / 1e6, 1),
        **sent.lag_figures(),
    }


def _p99_ms(waits_s: Floats, due_s: Floats, start_s: float, end_s: float) -> float:
    inside = waits_s[(due_s >= start_s) & (due_s < end_s) & ~np.isnan(waits_s)]
    return round(1e3 * percentile(inside, 99), 2)


class _MemoryWatch:
    """The most memory that a process has had, looked at from a thread."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self.peak_bytes = process.usage().rss_bytes
        self._over = threading.Event()

    def __enter__(self) -> _MemoryWatch:
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *details: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(_WATCH_MEMORY_EVERY_S):
            try:
                self.peak_bytes = max(self.peak_bytes, self._process.usage().rss_bytes)
            except Exception:  # it has ended, which the main thread notices
                return
