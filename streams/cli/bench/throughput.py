"""Drain a full topic with one worker, and with what a user would write instead."""

from __future__ import annotations

from typing import NamedTuple

from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE, Catalogue, clicks
from streams.cli.bench.drain import Drained, drain, fill
from streams.cli.bench.events import Load
from streams.cli.bench.stage import PARTITIONS, Stage
from streams.settings import WorkerSettings

CATALOGUE = "ml1m"


class Size(NamedTuple):
    """How much is measured."""

    events: int
    """Of our own topic; enough for some 20 seconds."""
    peer_events: int
    """The first so many of the same events, for peers that are slower."""
    most_s: float
    """Where the measured interval of one system ends at the latest."""


FULL, QUICK = Size(400_000, 60_000, 25.0), Size(4_000, 0, 20.0)


def run(stage: Stage) -> Figures:
    """Our worker, the peers one after the other, and the limit; each on servers of its own."""
    size, catalogue = (QUICK if stage.quick else FULL), stage.catalogue(CATALOGUE)
    ours = drain_with_worker(stage, catalogue, size.events, size.most_s)
    return {"items": catalogue.n_items, "top_n": catalogue.top_n, **ours.figures()}


def drain_with_worker(stage: Stage, catalogue: Catalogue, n_events: int, most_s: float) -> Drained:
    """One worker drains the catalogue's clicks."""
    update = stage.bundle(catalogue)
    with stage.ground() as ground:
        load = Load(clicks(catalogue, n_events), PARTITIONS)
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n))
        return drain(ground, load, [worker], stage.console, most_s=most_s)
