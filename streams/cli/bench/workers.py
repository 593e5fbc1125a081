"""The same load on 1, 2 and 4 worker processes: what an event costs in all of them together."""

from __future__ import annotations

from itertools import chain

from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE, clicks
from streams.cli.bench.drain import drain
from streams.cli.bench.events import Load
from streams.cli.bench.stage import PARTITIONS, Ground, Process, Stage
from streams.cli.bench.throughput import CATALOGUE
from streams.settings import WorkerSettings

COUNTS = (1, 2, 4)
EVENTS, QUICK_EVENTS = 600_000, 3_000
"""For each count. What workers have in hand when the measurement begins and ends is little of so many."""


def run(stage: Stage) -> Figures:
    """Workers that have shared the partitions evenly get the load at once."""
    catalogue = stage.catalogue(CATALOGUE)
    update = stage.bundle(catalogue)
    load = Load(clicks(catalogue, QUICK_EVENTS if stage.quick else EVENTS), PARTITIONS)
    figures: Figures = {"partitions": PARTITIONS, "events": 0, "lost": 0, "duplicates": 0}
    for count in COUNTS:
        with stage.ground() as ground:
            ground.announce(update)
            rules = WorkerSettings(top_n=catalogue.top_n)
            processes = [
                ground.worker(f"worker {number} of {count}", window=WINDOW_RULE, worker=rules)
                for number in range(1, count + 1)
            ]
            _wait_until_shared(ground, processes)
            drained = drain(ground, load, processes, stage.console, most_s=40.0, fill_now=True, name=f"{count} workers")
        figures[f"events_per_s_{count}"] = round(drained.events_per_s, 1)
        figures[f"cpu_us_per_event_{count}"] = round(drained.cpu_us_per_event, 2)
        figures[f"batch_events_{count}"] = round(drained.batch_events, 1)
        figures["events"] = int(figures["events"]) + drained.n_events
        figures["lost"] = int(figures["lost"]) + drained.lost
        figures["duplicates"] = int(figures["duplicates"]) + drained.duplicates
    most, one = max(COUNTS), min(COUNTS)
    ratio = float(figures[f"cpu_us_per_event_{most}"]) / float(figures[f"cpu_us_per_event_{one}"])
    figures[f"cpu_ratio_{most}_to_{one}"] = round(ratio, 3)
    return figures


def _wait_until_shared(ground: Ground, processes: list[Process]) -> None:
    def shared() -> bool:
        owned = [process.partitions() for process in processes]
        return sorted(chain(*owned)) == list(range(PARTITIONS)) and len({len(each) for each in owned}) == 1

    ground.wait(lambda: all(process.ready for process in processes) and shared(), "the partitions are not shared")
