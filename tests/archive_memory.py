"""How much memory training rows of many interactions take: `python -m tests.archive_memory`, `make memory`.

Writes an archive of random interactions, as a reading of a topic would, then reads it in a process of its own into the
rows of a training run and prints the peak of that process, torch included. The archive is kept between runs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from tempfile import gettempdir

import numpy as np

from trainer.archive import Appender, read_manifest, read_rows
from trainer.cleaning import CleaningRules, Record, clean
from trainer.dataset import has_rows, training_rows
from trainer.ids import Ids, home_partitions
from trainer.replay import TopicIdentity
from trainer.split import split_by_time

N_PARTITIONS = 4
AT_ONCE = 5_000
START_MS = 1_700_000_000_000
TOPIC = TopicIdentity("synthetic", "interactions", "")


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
    with Appender(
        directory, TOPIC, dict.fromkeys(range(N_PARTITIONS), 0), CleaningRules().max_record_bytes
    ) as appender:
        for some in records(n):
            appender.append(some)
        appender.commit({})
    took_s = time.monotonic() - began_s
    print(
        f"wrote {n:,} rows in {took_s:.0f} s ({n / took_s:,.0f}/s, making them included); {peak_mb():,.0f} MB at most"
    )


def read(directory: Path) -> None:
    """What `trainer.job.train` holds when the fit begins: the log, the rows to fit and those to validate on."""
    import trainer.job

    assert trainer.job  # with all that it brings along
    print(f"peak after the imports: {peak_mb():,.0f} MB")
    rule, began_s = CleaningRules().window_rule, time.monotonic()
    events, _ = clean(read_rows(directory, read_manifest(directory)), CleaningRules(), START_MS * 2)
    print(f"{len(events):,} events after {time.monotonic() - began_s:.1f} s: {peak_mb():,.0f} MB")
    numbers = events.item_codes + 1
    assert has_rows(events, rule)
    split = split_by_time(events, 0.1, 0.1)
    known, is_train = split.train | split.validation, split.train
    validation = training_rows(events.where(known), rule, numbers[known], split.validation[known])
    train = training_rows(events.where(is_train), rule, numbers[is_train], np.ones(is_train.sum(), dtype=bool))
    print(
        f"{len(train):,} rows to fit and {len(validation):,} to validate after {time.monotonic() - began_s:.1f} s: "
        f"{peak_mb():,.0f} MB"
    )
    del train, validation
    everything = training_rows(events, rule, numbers, np.ones(len(events), dtype=bool))
    print(f"{len(everything):,} rows of all after {time.monotonic() - began_s:.1f} s: {peak_mb():,.0f} MB at most")


def peak_mb() -> float:
    """The most memory that this process has held."""
    (line,) = (each for each in Path("/proc/self/status").read_text().splitlines() if each.startswith("VmHWM"))
    return int(line.split()[1]) / 1024


def main() -> None:
    """Write the archive unless it is there, and read it in a process of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--read", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.read:
        return read(given.read)
    directory = Path(gettempdir()) / f"streamrec-archive-{given.rows}"
    if not (directory / "manifest.json").exists():
        write(directory, given.rows)
    subprocess.run([sys.executable, "-m", "tests.archive_memory", "--read", directory], check=True)
    return None


if __name__ == "__main__":
    main()
