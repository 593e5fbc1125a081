"""The demo's seven steps, in their order; 4 to 6 are in `streams.cli.demo.replay`."""

from __future__ import annotations

from contextlib import closing
from time import monotonic

from encoders.records import Interaction, Record
from streams.app import pipeline_rules
from streams.cli.demo.live import LiveView
from streams.cli.demo.pace import default_rate
from streams.cli.demo.replay import Replay
from streams.cli.demo.score import latencies, lost_and_duplicated
from streams.cli.demo.stage import Stage
from streams.cli.demo.summary import Summary
from streams.cli.demo.verify import describe_model, read_log, verify, wait_for_state
from streams.cli.progress import counted
from streams.inspection import StateReader
from streams.publish import open_producer, publish
from streams.settings import ModelSettings, WorkerSettings
from streams.topics import create_topics
from trainer.datasets import Dataset

HISTORY_SHARE = 0.8
"""The part of the data set that is there before the stream begins."""
READY_TIMEOUT_S = 60.0
CATCH_UP_STALL_S = 60.0
STATE_TIMEOUT_S = 15.0


def run_demo(stage: Stage, dataset: Dataset, rate: float | None) -> Summary:
    """All seven steps.

    Args:
        stage: Entered; nothing has happened on it yet.
        dataset: What is published and replayed.
        rate: Events a second of the replay, at most; None chooses.

    Raises:
        DemoError: If a part does not do in time what it is for.
        DependencyError: If a server cannot be used.
    """
    n_history = dataset.row_at(HISTORY_SHARE)
    n_replayed = len(dataset.events) - n_history
    stage.step(1, "The past: publish the first 80 % of the events by time, the catalogue and the profiles")
    _publish(stage, dataset, n_history)
    stage.step(2, "Train a model on them, in a process of its own that replays the topic")
    first_train_s = _train(stage)
    stage.step(3, "Two workers load the model, and answer the events of the past first")
    _start_workers(stage, n_history)
    stage.step(4, f"Replay the other {n_replayed:,} events in the order of time, and watch the lists come")
    titles = {item.item_id: item.title for item in dataset.items if item.title}
    with LiveView(stage.console, stage.ledger, titles, n_replayed, stage.top_n) as view:
        events = dataset.interactions(n_history)
        replay = Replay(stage, events, n_replayed, rate or default_rate(n_replayed), view)
        second_train_s = replay.run(first_train_s)
    stage.step(7, "Compare the state in Redis with the log, and the lists with what users did next")
    return _sum_up(stage, replay, [first_train_s, second_train_s])


def _publish(stage: Stage, dataset: Dataset, n_history: int) -> None:
    create_topics(stage.kafka)
    topics, ledger = stage.kafka.topics, stage.ledger
    with closing(open_producer(stage.kafka, bulk=True)) as producer:
        n_items = publish(producer, topics.items, dataset.items)
        n_users = publish(producer, topics.users, dataset.users)
        stage.say(f"{n_items:,} items to `{topics.items}`, {n_users:,} profiles to `{topics.users}`")
        with counted(stage.console, f"   events to `{topics.interactions}`", n_history) as done:

            def sent(record: Record) -> None:
                assert isinstance(record, Interaction)
                ledger.publishing(record, replayed=False)
                done(len(ledger.published))

            publish(producer, topics.interactions, dataset.interactions(0, n_history), on_sent=sent)


def _train(stage: Stage) -> float:
    stage.receiver.start()
    began_s = monotonic()
    trainer = stage.children.trainer("the trainer", log=None)
    update, announced_s = stage.wait_for_model(trainer, 1, lambda: None)
    stage.wait(lambda: not trainer.running)
    stage.say(f"announced after {announced_s - began_s:.1f} s: {describe_model(update)}")
    return announced_s - began_s


def _start_workers(stage: Stage, n_history: int) -> None:
    stage.workers = [stage.children.worker(f"worker {number}") for number in (1, 2)]
    stage.wait(lambda: all(w.ready for w in stage.workers), "the workers did not become ready", READY_TIMEOUT_S)
    for worker in stage.workers:
        health = worker.health()
        partitions = ", ".join(map(str, health.get("partitions", ())))
        model = health.get("model_version")
        stage.say(f"{worker.name} at http://{worker.address} serves {model} and has partitions {partitions}")
    with counted(stage.console, "   lists for the past", n_history) as done:
        stage.wait_for_lists(CATCH_UP_STALL_S, lambda: done(len(stage.ledger.received)))
    if missing := stage.ledger.n_unanswered:
        raise stage.fail(f"{missing:,} events of the past got no list")


def _sum_up(stage: Stage, replay: Replay, train_s: list[float]) -> Summary:
    ledger, kafka = stage.ledger, stage.kafka
    log = read_log(kafka)
    reader = StateReader.of(stage.servers.redis, kafka)
    if not wait_for_state(reader, log, STATE_TIMEOUT_S):
        stage.say(f"the state has not reached the end of the log within {STATE_TIMEOUT_S:.0f} s")
    rules = pipeline_rules(WorkerSettings(top_n=stage.top_n), ModelSettings())
    n_logged = sum(len(records) for records in log.values())
    with counted(stage.console, "   events folded and compared", n_logged) as done:
        verdict = verify(log, reader, ledger, kafka.topics.interactions, kafka.partitions, rules, done)
    lost, duplicated = lost_and_duplicated(ledger.published, ledger.received)
    return Summary(
        events_in=len(ledger.published),
        recommendations_out=ledger.received.total(),
        lost=lost,
        duplicated=duplicated,
        state_mismatches=verdict.mismatches,
        n_sessions=verdict.n_sessions,
        replay_rate=replay.feed.n_sent / replay.feed.took_s,
        latency=latencies(ledger.trips(), replay.spans),
        rates=verdict.rates,
        model_versions=ledger.versions,
        train_s=train_s,
    )
