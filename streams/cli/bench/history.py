"""What a longer past costs: an event of a user with 10, 100 and 1,000 events before, and a session's bytes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from encoders.bundle import EncoderDraft, read_encoder_bundle, write_bundle
from encoders.gru import GRUEncoder
from encoders.records import ModelUpdate
from encoders.window import WindowRule
from streams.cli.bench.benchmark import Counted, Figures
from streams.cli.bench.catalogues import WINDOW_RULE
from streams.cli.bench.drain import Drained, drain, drain_bursts, fill
from streams.cli.bench.events import Load
from streams.cli.bench.stage import PARTITIONS, Ground, Stage
from streams.cli.bench.throughput import CATALOGUE
from streams.settings import WorkerSettings

PASTS = (10, 100, 1_000)
WINDOWS = (50, 200)
_START_MS = 1_767_225_600_000


PROFILED = ("decode", "load", "encode", "retrieve", "pack")
"""Stages of a worker's batch that are told for each past."""


class Size(NamedTuple):
    """How much is measured."""

    users: int
    """Active at the same time, the same for all pasts: batches are made up alike."""
    rounds: int
    """How often each past has its turn."""
    measured_per_user: dict[int, int]
    """By the length of the past, measured events of one user in one round: so few that a past of 10 stays one, else as
    many as lie between two restarts of a full window, once or more, so that each round has its share of them."""
    measured: int
    """Events of one past in one round; groups of users take turns where one user's are fewer."""

    def n_groups(self, past: int) -> int:
        """How many groups of users share a round."""
        return self.measured // (self.users * self.measured_per_user[past])


FULL = Size(400, 8, {10: 10, 100: 50, 1_000: 25}, 20_000)
QUICK = Size(50, 2, {10: 10, 100: 40, 1_000: 40}, 4_000)


class Turn(NamedTuple):
    """Users who take turns, each with their clicks from ``start`` to ``end``."""

    past: int
    users: list[str]
    start: int
    end: int


class Click(NamedTuple):
    """One event."""

    user_id: str
    item_id: str
    timestamp_ms: int


def run(stage: Stage) -> Figures:
    """One worker for all pasts, one for each window."""
    size = QUICK if stage.quick else FULL
    counted = Counted()
    figures: Figures = {}
    costs = _by_past(stage, size)
    of_all = costs[PASTS[0]][0]  # what became of the events is told for the whole load
    counted.add(of_all.n_events, of_all.lost, of_all.duplicates)
    for past, parts in costs.items():
        figures[f"cpu_us_per_event_{past}"] = round(median(part.cpu_us_per_event for part in parts), 2)
        figures[f"events_per_s_{past}"] = round(median(part.events_per_s for part in parts), 1)
        for stage_name in PROFILED:
            figures[f"{stage_name}_us_{past}"] = round(median(part.stage_us[stage_name] for part in parts), 2)
    low, high = min(PASTS), max(PASTS)
    rounds = zip(costs[high], costs[low], strict=True)
    # Round by round: the machine's speed changes more from one to the next than a past makes up.
    ratio = median(long.cpu_us_per_event / short.cpu_us_per_event for long, short in rounds)
    figures[f"ratio_{high}_to_{low}"] = round(ratio, 3)
    for max_len in WINDOWS:
        drained, stored = _with_window(stage, max_len)
        counted.add(drained.n_events, drained.lost, drained.duplicates)
        figures.update(stored)
    return counted.figures() | figures


def _by_past(stage: Stage, size: Size) -> dict[int, list[Drained]]:
    """What an event costs after each past, in every round: what disturbs the machine disturbs all pasts alike."""
    catalogue = stage.catalogue(CATALOGUE)
    update = stage.bundle(catalogue)
    turns = measured_turns(size)
    before = {turn.users[0]: Turn(turn.past, turn.users, 0, turn.past) for turn in turns}
    load = Load(in_turn([*before.values(), *turns], catalogue.n_items), PARTITIONS)
    begin = sum(turn.past * len(turn.users) for turn in before.values())
    with stage.ground() as ground:
        ground.announce(update)
        worker = ground.worker(window=WINDOW_RULE, worker=WorkerSettings(top_n=catalogue.top_n), wait=True)
        drained = drain_bursts(ground, load, worker, stage.console, begin, size.measured)
    return {past: drained[nth :: len(PASTS)] for nth, past in enumerate(PASTS)}


def measured_turns(size: Size) -> list[Turn]:
    """What is measured, round by round and in each past by past.

    Each round has new users, except after the longest past, which is built once and grows by a few per cent.
    """
    turns = []
    for number in range(size.rounds):
        for past in PASTS:
            more, fresh = size.measured_per_user[past], past != max(PASTS)
            start = past if fresh else past + number * more
            for group in range(size.n_groups(past)):
                name = f"u{past}-{number if fresh else 0}-{group}"
                turns.append(Turn(past, [f"{name}-{user}" for user in range(size.users)], start, start + more))
    return turns


def _with_window(stage: Stage, max_len: int) -> tuple[Drained, Figures]:
    """Users with windows of every length up to the longest, and the bytes of the largest."""
    catalogue = stage.catalogue(CATALOGUE)
    rule = WindowRule(max_len=max_len)
    update = _under_rule(stage, stage.bundle(catalogue), rule)
    users = [f"w{number}" for number in range(max_len // 2 + 2)]
    # A full window restarts from its newest half: where user after user stops one event later, every length is there.
    turns = [Turn(0, users, 0, 2 * max_len)]
    turns += [Turn(0, users[n:], 2 * max_len + n, 2 * max_len + n + 1) for n in range(len(users))]
    load = Load(in_turn(turns, catalogue.n_items), PARTITIONS)
    with stage.ground() as ground:
        fill(ground, load)
        ground.announce(update)
        worker = ground.worker(
            f"worker, window of {max_len}", window=rule, worker=WorkerSettings(top_n=catalogue.top_n)
        )
        drained = drain(ground, load, [worker], stage.console)
        return drained, _stored(ground, users, f"_window_{max_len}")


def in_turn(turns: Iterable[Turn], n_items: int) -> Iterator[Click]:
    """Clicks of one turn after the other, each user on other items until they have had all of ``n_items``."""
    random = np.random.default_rng(0)
    first: dict[str, int] = {}
    order = random.permutation(n_items) + 1
    now_ms = _START_MS
    for _, users, start, end in turns:
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
    bundle = read_encoder_bundle(update.uri)
    assert isinstance(bundle.encoder, GRUEncoder), "these bundles hold nothing else"
    draft = EncoderDraft(
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

    `session_bytes` is the length of the session's value (STRLEN), `user_bytes` that of all values of the user, so of
    what has left the window, too, `user_memory_bytes` what MEMORY USAGE says of all of these keys, names and the
    server's overhead included.
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
