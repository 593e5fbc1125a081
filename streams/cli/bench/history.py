"""What a longer past costs: an event of a user with 10, 100 and 1,000 events before, and a session's bytes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from encoders.bundle import BundleDraft, read_bundle, write_bundle
from encoders.gru import GRUEncoder
from encoders.records import ModelUpdate
from encoders.window import WindowRule
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import WINDOW_RULE
from streams.cli.bench.drain import Drained, drain, fill
from streams.cli.bench.events import Load
from streams.cli.bench.stage import PARTITIONS, Ground, Stage
from streams.cli.bench.throughput import CATALOGUE
from streams.settings import WorkerSettings

PASTS = (10, 100, 1_000)
WINDOWS = (50, 200)
_START_MS = 1_767_225_600_000


class Past(NamedTuple):
    """How users with a past of some length are measured: groups of them one after the other."""

    n_groups: int
    events_per_user: int
    """Measured of each user, after the past."""


class Size(NamedTuple):
    """How much is measured."""

    users: int
    """Active at the same time, the same for all pasts: batches are made up alike."""
    pasts: dict[int, Past]
    users_by_window: int


FULL = Size(500, {10: Past(12, 10), 100: Past(3, 40), 1_000: Past(1, 120)}, 200)
QUICK = Size(10, {10: Past(8, 10), 100: Past(2, 40), 1_000: Past(1, 40)}, 20)


class Click(NamedTuple):
    """One event."""

    user_id: str
    item_id: str
    timestamp_ms: int


def run(stage: Stage) -> Figures:
    """One worker for each length of the past, one for each window."""
    size = QUICK if stage.quick else FULL
    figures: Figures = {"events": 0, "lost": 0, "duplicates": 0}

    def add(drained: Drained) -> None:
        for key, count in (("events", drained.n_events), ("lost", drained.lost), ("duplicates", drained.duplicates)):
            figures[key] = int(figures[key]) + count

    for past in PASTS:
        drained = _with_past(stage, past, size)
        add(drained)
        figures[f"cpu_us_per_event_{past}"] = round(drained.cpu_us_per_event, 2)
        figures[f"events_per_s_{past}"] = round(drained.events_per_s, 1)
    low, high = min(PASTS), max(PASTS)
    ratio = float(figures[f"cpu_us_per_event_{high}"]) / float(figures[f"cpu_us_per_event_{low}"])
    figures[f"ratio_{high}_to_{low}"] = round(ratio, 3)
    for max_len in WINDOWS:
        drained, stored = _with_window(stage, max_len, size.users_by_window)
        add(drained)
        figures.update(stored)
    return figures


def _with_past(stage: Stage, past: int, size: Size) -> Drained:
    """Users get their past as events, then the events that are measured: their ``past + 1``-th and following."""
    catalogue = stage.catalogue(CATALOGUE)
    update = stage.bundle(catalogue)
    groups = [[f"u{group}-{user}" for user in range(size.users)] for group in range(size.pasts[past].n_groups)]
    more = size.pasts[past].events_per_user
    n_before, n_measured = (len(groups) * size.users * n for n in (past, more))
    rounds = [(users, 0, past) for users in groups] + [(users, past, past + more) for users in groups]
    load = Load(_in_turn(rounds, catalogue.n_items), PARTITIONS)
    with stage.ground() as ground:
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(
            f"worker, past of {past}", window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n)
        )
        measured = ((n_before + 0.03 * n_measured) / len(load), (n_before + 0.97 * n_measured) / len(load))
        return drain(ground, load, [worker], stage.console, measured=measured)


def _with_window(stage: Stage, max_len: int, n_users: int) -> tuple[Drained, Figures]:
    """Users with windows of every length up to the longest, and the bytes of the largest."""
    catalogue = stage.catalogue(CATALOGUE)
    rule = WindowRule(max_len=max_len)
    update = _under_rule(stage, stage.bundle(catalogue), rule)
    users = [f"w{number}" for number in range(n_users)]
    # After twice the window every length between half and whole comes by; user after user stops one event later.
    rounds = [(users, 0, 2 * max_len)] + [(users[n:], 2 * max_len + n, 2 * max_len + n + 1) for n in range(n_users)]
    load = Load(_in_turn(rounds, catalogue.n_items), PARTITIONS)
    with stage.ground() as ground:
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(
            f"worker, window of {max_len}", window=rule, worker=WorkerSettings(top_n=catalogue.top_n)
        )
        drained = drain(ground, load, [worker], stage.console)
        return drained, _stored(ground, users, f"_window_{max_len}")


def _in_turn(rounds: list[tuple[list[str], int, int]], n_items: int) -> Iterator[Click]:
    """Clicks of users who take turns, each on other items until they have had all.

    Args:
        rounds: Users, and from and to which of their own clicks.
        n_items: Of the catalogue.
    """
    random = np.random.default_rng(0)
    first: dict[str, int] = {}
    order = random.permutation(n_items) + 1
    now_ms = _START_MS
    for users, start, end in rounds:
        for nth in range(start, end):
            for place in random.permutation(len(users)).tolist():
                user = users[place]
                begin = first.setdefault(user, int(random.integers(n_items)))
                now_ms += 10
                yield Click(user, str(order[(begin + nth) % n_items]), now_ms)


def _under_rule(stage: Stage, update: ModelUpdate, rule: WindowRule) -> ModelUpdate:
    """The same model in a bundle for another window rule."""
    if rule == WINDOW_RULE:
        return update
    bundle = read_bundle(update.uri)
    assert isinstance(bundle.encoder, GRUEncoder), "these bundles hold nothing else"
    draft = BundleDraft(
        model=update.model,
        encoder=bundle.encoder,
        vocabulary=bundle.vocabulary,
        popularity=bundle.popularity,
        window_rule=rule,
        index=bundle.manifest.index,
        save_index=partial(_copy, bundle.index_path),
    )
    reference = write_bundle(stage.bundles / f"window-{rule.max_len}", draft, _START_MS)
    return ModelUpdate(model=update.model, **reference.model_dump())


def _copy(source: Path, target: Path) -> None:
    target.write_bytes(source.read_bytes())


def _stored(ground: Ground, users: list[str], suffix: str) -> Figures:
    """What Redis holds of the user whose session is the largest.

    `session_bytes` is the length of the session's value (STRLEN), `user_bytes` that of all values of the user,
    `user_memory_bytes` what MEMORY USAGE says of all of these keys, names and the server's overhead included.
    """
    largest = (0, 0, 0)
    with closing(ground.redis.sync_client()) as client:
        asked: Any = client
        names = list(asked.scan_iter(match=f"{ground.redis.key_prefix}*", count=1000))
        by_user: dict[bytes, list[bytes]] = {user.encode(): [] for user in users}
        for name in names:
            if (user := name.rpartition(b":")[2]) in by_user:
                by_user[user].append(name)
        for mine in by_user.values():
            pipe = asked.pipeline(transaction=False)
            for name in mine:
                pipe.strlen(name).memory_usage(name)
            answers = pipe.execute()
            lengths, memory = answers[0::2], answers[1::2]
            session = sum(length for name, length in zip(mine, lengths, strict=True) if b":s:" in name)
            largest = max(largest, (session, sum(lengths), sum(memory)))
    keys = ("session_bytes", "user_bytes", "user_memory_bytes")
    return {f"{key}{suffix}": value for key, value in zip(keys, largest, strict=True)}
