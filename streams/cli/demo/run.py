"""The demo's seven steps, in their order."""

from __future__ import annotations

import json
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from rich.console import Console

from streams.app import pipeline_rules
from streams.cli.demo.errors import DemoError
from streams.cli.demo.live import LiveView
from streams.cli.demo.pace import default_rate, stretched_rate
from streams.cli.demo.processes import Children, Worker, be_patient, finish
from streams.cli.demo.score import Phase, Span, latencies, lost_and_duplicated
from streams.cli.demo.summary import Summary
from streams.cli.demo.traffic import Feed, Ledger, Receiver
from streams.cli.demo.verify import describe_models, read_log, verify, wait_for_state
from streams.cli.progress import counted
from streams.inspection import StateReader
from streams.publish import Pace, open_producer, publish
from streams.settings import ModelSettings, WorkerSettings
from streams.stack import EmbeddedStack
from streams.topics import create_topics
from trainer.datasets import Dataset

HISTORY_SHARE = 0.8
"""The part of the data set that is there before the stream begins."""
TRAINING_SHARE, SWAP_SHARE = 0.5, 0.7
"""Where in the second half of the replay the second training, and then the swap, should be over."""
TRAINING_SLACK = 1.3
"""How much longer than the first training the second one may take before the replay slows down."""
SWAP_S = 5.0
"""How long the swap is watched at least."""
TAKEOVER_EXPECTED_S = 15.0
TICK_S = 0.1
READY_TIMEOUT_S = 60.0
CATCH_UP_STALL_S = 60.0
SWAP_TIMEOUT_S = 30.0
TAKEOVER_TIMEOUT_S = 60.0
DRAIN_STALL_S = 20.0
STATE_TIMEOUT_S = 15.0
BACKLOG_S = 1.0
"""The other worker has caught up when no event has waited longer than this."""


@dataclass(frozen=True)
class DemoOptions:
    """What the user may choose."""

    rate: float | None
    """Events a second at most; None chooses."""
    top_n: int


class Demo:
    """One run on a stack of its own. Leaving the context ends everything it started.

    Args:
        dataset: What is replayed.
        options: What the user has chosen.
        console: Where everything is shown.
        directory: For bundles, logs and the settings file.
    """

    def __init__(self, dataset: Dataset, options: DemoOptions, console: Console, directory: Path) -> None:
        self.dataset = dataset
        self.options = options
        self.console = console
        self.directory = directory
        self.config = directory / "streamrec.toml"
        self.ledger = Ledger()
        self.workers: list[Worker] = []
        self.train_s: list[float] = []
        self.spans: list[Span] = []

    def __enter__(self) -> Demo:
        with ExitStack() as stack:
            self.stack = stack.enter_context(EmbeddedStack(logs=self.directory / "logs"))
            self.kafka = self.stack.kafka
            self.children = stack.enter_context(Children(self.config, self.directory / "logs"))
            self.receiver = Receiver(self.kafka, self.ledger)
            stack.callback(self.receiver.end)
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._exits.close()

    @cached_property
    def n_history(self) -> int:
        """How many events are there before the replay."""
        return self.dataset.row_at(HISTORY_SHARE)

    @property
    def n_replayed(self) -> int:
        """How many events the replay has."""
        return len(self.dataset.events) - self.n_history

    def run(self) -> Summary:
        """All seven steps.

        Raises:
            DemoError: If a part does not do in time what it is for.
            DependencyError: If a server cannot be used.
        """
        self._step(1, "the past: publish the first 80 % of the events, the catalogue and the profiles")
        self._publish_history()
        self._step(2, "train a model on them: a process of its own, which replays the topic")
        self._train()
        self._step(3, "two workers load the model and answer every event of the past")
        self._start_workers()
        self._step(4, f"replay the other {self.n_replayed:,} events in the order of time and watch the lists come")
        feed = self._replay()
        self._step(7, "compare the state in Redis with the log, and the lists with what users did next")
        return self._summarise(feed)

    def _step(self, number: int, words: str) -> None:
        self.console.print(f"\n{number}. {words[0].upper()}{words[1:]}", style="bold", highlight=False)

    def _say(self, words: str) -> None:
        self.console.print(f"   {words}", highlight=False, soft_wrap=True)

    def _publish_history(self) -> None:
        self.config.write_text(
            f"{self.stack.settings_file()}\n[worker]\ntop_n = {self.options.top_n}\n\n"
            f"[model]\nbundles = {json.dumps(str(self.directory / 'bundles'))}\n"
        )
        create_topics(self.kafka)
        topics = self.kafka.topics
        producer = open_producer(self.kafka, linger_ms=20)
        try:
            n_items = publish(producer, topics.items, self.dataset.items)
            n_users = publish(producer, topics.users, self.dataset.users)
            self._say(f"{n_items:,} items to `{topics.items}`, {n_users:,} profiles to `{topics.users}`")
            with counted(self.console, f"   events to `{topics.interactions}`", self.n_history) as done:

                def published(event: object) -> None:
                    self.ledger.publishing(event, replayed=False)  # type: ignore[arg-type]  # interactions go in
                    done(len(self.ledger.published))

                publish(producer, topics.interactions, self.dataset.interactions(0, self.n_history), on_sent=published)
        finally:
            producer.close(timeout=5)

    def _train(self) -> None:
        began_s = time.monotonic()
        finish(self.children.trainer("the trainer", log=None))
        self.train_s.append(time.monotonic() - began_s)
        self._say(f"trained and announced in {self.train_s[0]:.1f} s")

    def _start_workers(self) -> None:
        self.receiver.start()
        self.workers = [self.children.worker(f"worker {number}") for number in (1, 2)]
        self._wait(lambda: all(w.ready for w in self.workers), READY_TIMEOUT_S, "the workers did not become ready")
        for worker in self.workers:
            health = worker.health()
            self._say(
                f"{worker.name} at http://{worker.address} serves {health.get('model_version')}"
                f" and has partitions {', '.join(map(str, health.get('partitions', [])))}"
            )
        with counted(self.console, "   lists for the past", self.n_history) as done:
            self._wait_for_lists(CATCH_UP_STALL_S, lambda: done(len(self.ledger.received)))
        if missing := self.ledger.n_unanswered:
            raise DemoError(f"{missing:,} events of the past got no list; {self._logs}")

    def _replay(self) -> Feed:
        rate = self.options.rate or default_rate(self.n_replayed)
        titles = {item.item_id: item.title for item in self.dataset.items if item.title}
        feed = Feed(self.kafka, self.dataset.interactions(self.n_history), Pace(rate), self.ledger)
        with LiveView(self.console, self.ledger, titles, self.n_replayed, self.options.top_n) as view:
            view.say(f"   the first half at {rate:,.0f} events/s")
            feed.start()
            try:
                self._run(lambda: feed.n_sent >= self.n_replayed // 2, feed, view)
                self._retrain(feed, view, rate)
                self._kill_a_worker(feed, view, rate)
                feed.pace.rate = rate
                view.say("   the rest, with one worker")
                self._run(lambda: not feed.is_alive(), feed, view)
                self._wait_for_lists(DRAIN_STALL_S, view.refresh)
            finally:
                feed.end()
        return feed

    def _retrain(self, feed: Feed, view: LiveView, rate: float) -> None:
        """Step 5: a second model on everything so far, swapped in while events flow."""
        view.say("\n5. Half-way: train again on everything so far, while events flow")
        began_s = time.monotonic()
        trainer = self.children.trainer("the second trainer", log=self.directory / "logs" / "second-training.log")
        be_patient(trainer)
        expected_s = began_s + TRAINING_SLACK * self.train_s[0]
        n_models = len(self.ledger.models)

        def announced() -> bool:
            if not trainer.running and trainer.process.returncode:
                raise DemoError(f"{trainer.last_words()}; {self._logs}")
            left = self._stretch_end(TRAINING_SHARE) - feed.n_sent
            feed.pace.rate = stretched_rate(rate, left, expected_s - time.monotonic())
            return len(self.ledger.models) > n_models

        self._run(announced, feed, view)
        swap_began_s = time.monotonic()
        self.spans.append(Span(Phase.TRAINING, began_s, swap_began_s))
        update = self.ledger.models[-1]
        view.say(f"   announced after {swap_began_s - began_s:.1f} s: {describe_models(self.ledger.models)}")

        def swapped() -> bool:
            left = self._stretch_end(SWAP_SHARE) - feed.n_sent
            feed.pace.rate = stretched_rate(rate, left, swap_began_s + SWAP_S - time.monotonic())
            all_serve = all(worker.health().get("model_version") == update.version for worker in self.workers)
            return all_serve and time.monotonic() - swap_began_s >= SWAP_S

        self._run(swapped, feed, view, SWAP_TIMEOUT_S, "the workers did not load the second model")
        self.spans.append(Span(Phase.SWAP, swap_began_s, time.monotonic()))
        self._run(lambda: not trainer.running, feed, view)
        finish(trainer)
        self.train_s.append(swap_began_s - began_s)
        view.say(f"   both workers answer with {update.version}")

    def _kill_a_worker(self, feed: Feed, view: LiveView, rate: float) -> None:
        """Step 6: the busier worker dies without a word, and the other takes over."""
        busy = Counter(shown.made.source_partition for shown in list(self.ledger.recent))
        owned = [sum(busy[p] for p in worker.health().get("partitions", ())) for worker in self.workers]
        victim = self.workers.pop(owned.index(max(owned)))
        survivor = self.workers[0]
        view.say(f"\n6. Kill {victim.name} with SIGKILL, while events flow; {survivor.name} has to take over")
        began_s = time.monotonic()
        victim.process.kill()

        def taken_over() -> bool:
            expected_s = began_s + TAKEOVER_EXPECTED_S
            feed.pace.rate = stretched_rate(rate, self.n_replayed - feed.n_sent, expected_s - time.monotonic())
            if len(survivor.health().get("partitions", ())) < self.kafka.partitions:
                return False
            oldest_s = self.ledger.oldest_unanswered_s()
            return oldest_s is None or time.monotonic() - oldest_s < BACKLOG_S

        self._run(taken_over, feed, view, TAKEOVER_TIMEOUT_S, f"{survivor.name} did not take over")
        took_s = time.monotonic() - began_s
        self.spans.append(Span(Phase.TAKEOVER, began_s, began_s + took_s))
        view.say(
            f"   {survivor.name} has all {self.kafka.partitions} partitions and has caught up, after {took_s:.1f} s"
        )

    def _summarise(self, feed: Feed) -> Summary:
        log = read_log(self.kafka)
        reader = StateReader.of(self.stack.redis, self.kafka)
        wait_for_state(reader, log, STATE_TIMEOUT_S)
        rules = pipeline_rules(WorkerSettings(top_n=self.options.top_n), ModelSettings())
        total = sum(len(records) for records in log.values())
        with counted(self.console, "   events folded and compared", total) as done:
            verdict = verify(
                log, reader, self.ledger, self.kafka.topics.interactions, self.kafka.partitions, rules, done
            )
        lost, duplicated = lost_and_duplicated(self.ledger.published, self.ledger.received)
        return Summary(
            events_in=len(self.ledger.published),
            recommendations_out=self.ledger.received.total(),
            lost=lost,
            duplicated=duplicated,
            state_mismatches=verdict.mismatches,
            n_sessions=verdict.n_sessions,
            replay_rate=feed.n_sent / feed.took_s,
            latency=latencies(self.ledger.trips(), self.spans),
            rates=verdict.rates,
            model_versions=self.ledger.versions,
            train_s=self.train_s,
        )

    def _stretch_end(self, share: float) -> int:
        """How many events may have been sent when ``share`` of the replay's second half is over."""
        return round(self.n_replayed * (1 + share) / 2)

    def _run(
        self,
        until: Callable[[], bool],
        feed: Feed,
        view: LiveView,
        timeout_s: float | None = None,
        complaint: str = "",
    ) -> None:
        """Watch the replay until something has come about."""

        def come_about() -> bool:
            view.refresh()
            if feed.failure:
                raise feed.failure
            return until()

        self._wait(come_about, timeout_s, complaint)

    def _wait(self, until: Callable[[], bool], timeout_s: float | None, complaint: str) -> None:
        deadline_s = time.monotonic() + timeout_s if timeout_s is not None else None
        while not until():
            self._check()
            if deadline_s is not None and time.monotonic() > deadline_s:
                raise DemoError(f"{complaint} within {timeout_s:.0f} s; {self._logs}")
            time.sleep(TICK_S)

    def _wait_for_lists(self, stall_s: float, tick: Callable[[], None]) -> None:
        """Wait until every published event has a list, or none has come for a while."""
        n_received, moved_s = -1, time.monotonic()
        while self.ledger.n_unanswered and time.monotonic() - moved_s < stall_s:
            self._check()
            if len(self.ledger.received) != n_received:
                n_received, moved_s = len(self.ledger.received), time.monotonic()
            tick()
            time.sleep(TICK_S)
        tick()

    def _check(self) -> None:
        """Notice what has ended by itself."""
        if self.receiver.failure:
            raise self.receiver.failure
        for worker in self.workers:
            if not worker.running:
                raise DemoError(f"{worker.last_words()}; {self._logs}")

    @property
    def _logs(self) -> str:
        return f"the logs are in {self.directory / 'logs'}"


def new_directory() -> Path:
    """A directory for one run."""
    return Path(tempfile.mkdtemp(prefix="streamrec-demo-"))
