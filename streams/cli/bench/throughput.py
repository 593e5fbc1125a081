"""Drain a full topic with one worker, and with what a user would write instead."""

from __future__ import annotations

from itertools import chain
from typing import NamedTuple

from encoders.bundle.manifest import bundle_path
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE, Catalogue, clicks
from streams.cli.bench.drain import Drained, drain, fill
from streams.cli.bench.events import Load
from streams.cli.bench.stage import PARTITIONS, Stage
from streams.settings import WorkerSettings

CATALOGUE = "ml1m"


PEERS = ("naive", "take", "quix")


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
    figures: Figures = {"items": catalogue.n_items, "top_n": catalogue.top_n, **ours.figures()}
    if stage.quick:
        return figures
    for name in PEERS:
        theirs = _drain_with_peer(stage, catalogue, name, size)
        figures[f"{name}_events_per_s"] = round(theirs.events_per_s, 1)
        figures[f"{name}_cpu_us_per_event"] = round(theirs.cpu_us_per_event, 2)
        figures[f"{name}_lost"] = theirs.lost
        figures[f"{name}_duplicates"] = theirs.duplicates
        figures[f"ratio_to_{name}"] = round(ours.events_per_s / theirs.events_per_s, 2)
        figures[f"cpu_ratio_to_{name}"] = round(theirs.cpu_us_per_event / ours.cpu_us_per_event, 2)
    return figures


def drain_with_worker(stage: Stage, catalogue: Catalogue, n_events: int, most_s: float) -> Drained:
    """One worker drains the catalogue's clicks."""
    update = stage.bundle(catalogue)
    with stage.ground() as ground:
        load = Load(clicks(catalogue, n_events), PARTITIONS)
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n))
        return drain(ground, load, [worker], stage.console, most_s=most_s)


def _drain_with_peer(stage: Stage, catalogue: Catalogue, name: str, size: Size) -> Drained:
    """The same model, index and events, and another program in our worker's place."""
    update = stage.bundle(catalogue)
    with stage.ground() as ground:
        load = Load(clicks(catalogue, size.peer_events), PARTITIONS)
        fill(ground, load)
        topics = ground.kafka.topics
        options = {
            "--brokers": ground.kafka.brokers,
            "--input": topics.interactions,
            "--output": topics.recommendations,
            "--bundle": str(bundle_path(update.uri)),
            "--group": ground.kafka.group_id,
            "--top-n": str(catalogue.top_n),
        }
        peer = ground.python(name, "-m", f"streams.cli.bench.peers.{name}", *chain(*options.items()))
        return drain(ground, load, [peer], stage.console, most_s=size.most_s)
