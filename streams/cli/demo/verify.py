"""After the replay: the log against the state in Redis, and against the lists."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from encoders.records import Interaction, ModelUpdate
from streams.cli.consume import read_topic
from streams.cli.demo.score import HitRates, LoggedEvent, TrainingData, hit_rates
from streams.cli.demo.traffic import Ledger
from streams.decode import Limits
from streams.fold import differences, fold
from streams.inspection import StateReader
from streams.pipeline import Rules
from streams.serving import ServingModel, open_model

if TYPE_CHECKING:
    from kafka.consumer.fetcher import ConsumerRecord

    from streams.settings import KafkaSettings

Log = Mapping[int, Sequence["ConsumerRecord"]]


@dataclass(frozen=True)
class Verdict:
    """What the comparison found."""

    mismatches: list[str]
    n_sessions: int
    rates: HitRates


def read_log(kafka: KafkaSettings) -> Log:
    """Every interaction, by partition, in the order of offsets."""
    log: dict[int, list[ConsumerRecord]] = defaultdict(list)
    for record in read_topic(kafka, kafka.topics.interactions):
        log[record.partition].append(record)
    return log


def wait_for_state(reader: StateReader, log: Log, timeout_s: float) -> bool:
    """Wait until the stored state has reached the end of the log, since a list goes out before its state is set."""
    deadline_s = time.monotonic() + timeout_s
    while time.monotonic() < deadline_s:
        applied = {partition: reader.applied(partition) for partition in log}
        if all(a is not None and a.offset > log[partition][-1].offset for partition, a in applied.items()):
            return True
        time.sleep(0.1)
    return False


def verify(
    log: Log,
    reader: StateReader,
    ledger: Ledger,
    topic: str,
    n_partitions: int,
    rules: Rules,
    progress: Callable[[int], None],
) -> Verdict:
    """Fold the log, compare all sessions, and score the lists.

    Args:
        log: From `read_log`.
        reader: Of the state in Redis.
        ledger: The lists that came, and the models that were announced.
        topic: The topic of the log.
        n_partitions: How many partitions it has.
        rules: The workers'.
        progress: Called with how many events have been folded.
    """
    models = {update.version: open_model(update) for update, _ in ledger.models}
    by_state_key = {model.state_key: model for model in models.values()}
    mismatches: list[str] = []
    n_folded = n_sessions = 0
    for partition, records in sorted(log.items()):
        now_ms = time.time_ns() // 1_000_000
        state = fold(
            records, partition=partition, n_partitions=n_partitions, rules=rules, limits=Limits(), now_ms=now_ms
        )
        mismatches += differences(state.sessions, dict(reader.sessions(partition)), by_state_key.get)
        n_sessions += len(state.sessions)
        n_folded += len(records)
        progress(n_folded)
    return Verdict(mismatches, n_sessions, _rates(log, ledger, topic, models))


def _rates(log: Log, ledger: Ledger, topic: str, models: Mapping[str, ServingModel]) -> HitRates:
    events = [_logged(record) for _, records in sorted(log.items()) for record in records]
    training = {
        version: TrainingData(events, model.bundle.manifest.trained_through[topic]) for version, model in models.items()
    }
    return hit_rates(events, ledger.lists, ledger.events.keys(), training)


def _logged(record: ConsumerRecord) -> LoggedEvent:
    event = Interaction.model_validate_json(record.value)
    return LoggedEvent(record.partition, record.offset, event.event_id, event.user_id, event.item_id or "")


def describe_model(update: ModelUpdate) -> str:
    """A model's version and what it is worth, for the reader.

    Example:
        >>> metrics = {"recall@10": 0.2, "popularity_recall@10": 0.08}
        >>> describe_model(ModelUpdate(model="gru", version="v1", uri="b", manifest_sha256="0" * 64, metrics=metrics))
        'v1, recall@10 0.2000 (popularity 0.0800)'
    """
    recall, popular = update.metrics.get("recall@10"), update.metrics.get("popularity_recall@10")
    if recall is None or popular is None:
        return update.version
    return f"{update.version}, recall@10 {recall:.4f} (popularity {popular:.4f})"
