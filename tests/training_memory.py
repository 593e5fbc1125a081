"""How much memory `streamrec train` takes on many interactions: `python -m tests.training_memory`, `make memory`.

Writes an archive of random interactions, as a reading of a topic would, and trains on it in a process of its own, with
all that `streamrec train` does but what it says to Kafka: it opens the archive, cleans, splits, fits, validates,
measures, learns the newest events, asks the gate beside a serving model, builds the index and writes the bundle. Prints
the peak of each part, as the kernel counts it, and ends with 1 if one is above 2 GB. The archive is kept between runs.

Settings are the defaults, but so that it takes minutes: one epoch; of each fit only the first steps, since rows,
batches and the optimiser are there before them; and smaller parts to validate and to test, since every item is ranked
for each of their events. `--part 0.1` has parts of the default size.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory, gettempdir
from typing import Any

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from encoders.bundle import NETWORKS, EncoderDraft, IndexRecord, write_bundle
from encoders.records import ModelUpdate
from encoders.vocabulary import Vocabulary
from index.flat import FlatIndex
from streams.cli.training import ConsoleReport
from tests.bundles import announced
from trainer.archive import Appender, read_manifest, read_rows
from trainer.checkpoint import Checkpoint
from trainer.cleaning import CleaningRules, Record
from trainer.fit import build_model
from trainer.fit_state import FitState
from trainer.ids import Ids, home_partitions
from trainer.job import make_bundle
from trainer.log import Snapshot, log_as_of
from trainer.machine import machine
from trainer.making import Clock
from trainer.plan import TrainingPlan
from trainer.replay import KafkaSource, TopicIdentity
from trainer.settings import TrainerSettings

LIMIT_MB = 2_000
"""Millions of bytes."""
N_PARTITIONS = 4
AT_ONCE = 5_000
START_MS = 1_700_000_000_000
TOPIC = TopicIdentity("synthetic", "interactions", "")
RULES = CleaningRules()
CHECKPOINT_EVERY_S = 5.0
"""So that each fit comes to one while it goes on."""
SERVING = "serving.json"
STATUS, FORGET_PEAK = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def records(n: int, seed: int = 0) -> Iterator[list[Record]]:
    """Interactions of n / 10 users, few of them busy, with n / 100 items, few of them popular."""
    random, ends = np.random.default_rng(seed), [0] * N_PARTITIONS
    for first in range(0, n, AT_ONCE):
        users = (n // 10 * random.random(AT_ONCE) ** 2).astype(int).tolist()
        items = (n // 100 * random.random(AT_ONCE) ** 3).astype(int).tolist()
        homes = home_partitions(Ids.of(f"user-{user}" for user in users), N_PARTITIONS).tolist()
        some = []
        for i, (user, item, home) in enumerate(zip(users, items, homes, strict=True)):
            value = (
                b'{"event_id":"%032x","user_id":"user-%d","item_id":"item-%d","event_type":"click","timestamp_ms":%d}'
                % (first + i, user, item, START_MS + 100 * (first + i))
            )
            some.append(Record(value, (), home, ends[home]))
            ends[home] += 1
        yield some


def write(directory: Path, n: int) -> None:
    """An archive of ``n`` interactions."""
    began_s = time.monotonic()
    with Appender(directory, TOPIC, dict.fromkeys(range(N_PARTITIONS), 0), RULES.max_record_bytes) as appender:
        for some in records(n):
            appender.append(some)
        appender.commit({})
    took_s = time.monotonic() - began_s
    print(
        f"wrote {n:,} rows in {took_s:.0f} s ({n / took_s:,.0f}/s, making them included); {peak_mb():,.0f} MB at most"
    )


def peak_mb() -> float:
    """The most memory that this process has held since the kernel was told to forget."""
    (line,) = (each for each in STATUS.read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) * 1024 / 1e6


class PeakClock(Clock):
    """Notes how much memory each part of a run took at most."""

    def __init__(self) -> None:
        super().__init__()
        self.peaks_mb: dict[str, int] = {}

    def lap(self, name: str) -> None:
        """The part of that name is over."""
        super().lap(name)
        self.peaks_mb[name] = round(peak_mb())
        print(f"{name}: {self.peaks_mb[name]:,} MB at most, {self.laps[name]:.0f} s", flush=True)
        FORGET_PEAK.write_text("5")  # proc_pid_clear_refs(5)


@dataclass
class BriefState(FitState):
    """The state of a fit of which only the first steps of an epoch are done."""

    n_steps: int = 0

    def left(self, epoch: int, draw: Callable[[], Sequence[Tensor]]) -> Sequence[Tensor]:
        """All batches are drawn, as ever."""
        return super().left(epoch, draw)[: self.n_steps]


class BriefRun(Checkpoint):
    """A run whose fits are brief."""

    n_steps: int

    def part(self, name: str) -> FitState:
        """The state of a part's fit."""
        return BriefState(on_step=super().part(name).on_step, n_steps=self.n_steps)


def write_serving_model(directory: Path, archive: Path, settings: TrainerSettings) -> ModelUpdate:
    """A model that serves: untrained, but it says that it has learned all but the test part of the archive."""
    rows = read_rows(archive, read_manifest(archive))
    n_learned = round((1 - settings.test_fraction) * len(rows))
    offsets = np.bincount(rows.columns.partitions[:n_learned], minlength=N_PARTITIONS).tolist()
    encoder = NETWORKS["gru"](build_model(len(rows.items), TrainerSettings()))
    draft = EncoderDraft(
        model="default",
        encoder=encoder,
        vocabulary=Vocabulary.from_ids(rows.items),
        popularity=np.zeros(len(rows.items) + 1, dtype=np.float32),
        window_rule=RULES.window_rule,
        trained_through={TOPIC.name: dict(enumerate(offsets))},
        index=IndexRecord(kind=FlatIndex.kind),
        save_index=FlatIndex.build(encoder.item_vectors).save,
    )
    return announced(write_bundle(directory, draft, created_at_ms=START_MS))


def open_archive(archive: Path) -> Snapshot:
    """What `trainer.log.bring_up_to_date` does where a topic holds nothing new."""
    with Appender(archive, TOPIC, dict.fromkeys(range(N_PARTITIONS), 0), RULES.max_record_bytes) as appender:
        return Snapshot(commit=appender.manifest, items_offsets={}, now_ms=2 * START_MS)


def train(archive: Path, directory: Path, settings: TrainerSettings, n_steps: int) -> dict[str, Any]:
    """Train on an archive in this process, beside the model that serves from a folder; returns the figures."""
    import streams.cli.train  # noqa: F401  # with all that it brings along

    torch.set_num_threads(settings.threads)
    source, clock = KafkaSource({"bootstrap_servers": []}, TOPIC.name), PeakClock()
    plan = TrainingPlan(source, "default", directory, settings, RULES, timedelta(days=7), archive=archive)
    serving = ModelUpdate.model_validate_json((directory / SERVING).read_bytes())
    clock.lap("start")
    snapshot = open_archive(archive)
    clock.lap("archive")
    checkpoint = directory / "run.safetensors"
    with (
        ConsoleReport(Console()) as report,
        BriefRun(checkpoint, plan.decisive(), snapshot, CHECKPOINT_EVERY_S, report.say) as run,
    ):
        run.n_steps = n_steps
        result = make_bundle(plan, log_as_of(archive, snapshot, RULES, report), serving, run, clock, report)
    clock.lap("publish")
    if not result.verdict.comparison:
        raise SystemExit(f"too few rows to visit every part: {result.verdict.reason}")
    return {
        "log": result.log.model_dump(),
        "settings": plan.decisive(),
        "steps_a_fit": n_steps,
        "n_asked": int(result.metrics["n_test_events"]),
        "n_asked_by_the_gate": result.verdict.comparison.n_queries,
        "seconds": clock.laps,
        "peaks_mb": clock.peaks_mb,
        "peak_mb": max(clock.peaks_mb.values()),
    }


def main() -> int:
    """Write the archive unless it is there, and train on it in a process of its own."""
    given = _arguments()
    settings = TrainerSettings(
        model=given.model, max_epochs=1, validation_fraction=given.part, test_fraction=given.part
    )
    if given.train:
        environment = machine(("torch", "numpy", "numba", "faiss-cpu"))  # before the sources may change
        figures = train(*given.train, settings, given.steps)
        if given.output:
            given.output.write_text(json.dumps({"environment": environment, **figures}, indent=2) + "\n")
        above = figures["peak_mb"] > LIMIT_MB
        print(f"{figures['peak_mb']:,} MB at most, {'above' if above else 'within'} {LIMIT_MB:,} MB")
        return int(above)
    archive = Path(gettempdir()) / f"streamrec-archive-{given.rows}"
    if not (archive / "manifest.json").exists():
        write(archive, given.rows)
    with TemporaryDirectory(prefix="streamrec-memory-") as directory:
        serving = write_serving_model(Path(directory), archive, settings)
        (Path(directory) / SERVING).write_bytes(serving.to_json())
        command = [sys.executable, "-m", "tests.training_memory", *sys.argv[1:], "--train", archive, directory]
        threads = {"OMP_NUM_THREADS": str(settings.threads)}  # as `streamrec train` sets it
        return subprocess.run(command, env={**os.environ, **threads}).returncode


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=10_000_000, metavar="N", help="interactions (10,000,000)")
    parser.add_argument("--model", default="gru", help="what is trained, as trainer.model names it (gru)")
    parser.add_argument("--steps", type=int, default=50, metavar="N", help="of each fit that are done (50)")
    parser.add_argument("--part", type=float, default=0.02, help="share of the events that test, and validate (0.02)")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures there, as JSON")
    parser.add_argument("--train", type=Path, nargs=2, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
