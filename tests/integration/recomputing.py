"""Makes every list again from the log, the model that it names and nothing else."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from itertools import groupby

import numpy as np

from encoders.records import Recommendation
from encoders.vocabulary import item_hash
from streams.cli.config import Settings
from streams.decode import Limits
from streams.fold import PartitionState, fold
from streams.pipeline import Rules
from streams.serving import ServingModel
from streams.session import FINGERPRINT_MASK, Session, SessionKey, fingerprints_of
from streams.waves import known_window
from tests.processes import read_topic

TOLERANCE = 1e-4


def sessions_at(settings: Settings, rules: Rules) -> dict[tuple[int, int], Session]:
    """The session of each event's user just after that event, by partition and offset, from the fold of the log."""
    now_ms = time.time_ns() // 1_000_000
    found = {}
    log = read_topic(settings.kafka, settings.kafka.topics.interactions)
    for partition, records in groupby(log, key=lambda record: record.partition):
        state = PartitionState()
        for record in records:
            fold(
                [record],
                partition=partition,
                n_partitions=settings.kafka.partitions,
                rules=rules,
                limits=Limits(),
                now_ms=now_ms,
                into=state,
            )
            user = record.key.decode()
            session = state.sessions[SessionKey("default", user)]
            found[partition, record.offset] = replace(session, window=session.window.copy())
    return found


def not_recomputed(
    lists: Iterable[Recommendation],
    sessions: dict[tuple[int, int], Session],
    models: dict[str, ServingModel],
    top_n: int,
) -> list[str]:
    """The lists that their `model_version` would not have made of their user's window at their offset.

    The window is encoded anew and every item scored by its vector, without the index. Items that score the same
    within `TOLERANCE` may change places.

    Args:
        lists: Answers of the stream.
        sessions: From `sessions_at`.
        models: Every model that may have answered, by version.
        top_n: Length of a list.
    """
    problems = []
    for made in lists:
        session = sessions[made.source_partition, made.source_offset]
        if problem := _difference(made, session, models[str(made.model_version)], top_n):
            problems.append(f"{made.event_id} by {made.model_version}: {problem}")
    return problems


def _difference(made: Recommendation, session: Session, model: ServingModel, top_n: int) -> str | None:
    listed = [item for item in made.items if item.source == "ann"]
    window = known_window(session.window, model)
    if not window.any():
        return "the model answers a window that it does not know" if listed else None
    _, vectors = model.bundle.encoder.encode(window)
    scores = model.bundle.item_vectors @ vectors[0]
    seen = {*fingerprints_of(session.seen)} | {identity & FINGERPRINT_MASK for identity in session.window.item_hashes}
    ids = model.bundle.vocabulary.item_ids
    allowed = [n for n, item_id in enumerate(ids, 1) if item_hash(item_id) & FINGERPRINT_MASK not in seen]
    best = np.sort(scores[allowed])[::-1][:top_n]
    if len(listed) != len(best):
        return f"{len(listed)} items instead of {len(best)}"
    for rank, (item, score) in enumerate(zip(listed, best, strict=True), 1):
        number = model.bundle.vocabulary.item_number(item.item_id)
        if number not in allowed:
            return f"{item.item_id} is not in the model, or was seen"
        if abs(scores[number] - item.score) > TOLERANCE:
            return f"{item.item_id} has score {item.score}, the model gives {scores[number]}"
        if abs(score - item.score) > TOLERANCE:
            return f"rank {rank} has score {item.score}, the best there is has {score}"
    return None
