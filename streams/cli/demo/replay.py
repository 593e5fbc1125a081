"""Steps 4 to 6: events flow while a model is trained and swapped, and while a worker dies."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable
from math import inf

from encoders.records import Interaction
from streams.cli.demo.live import LiveView
from streams.cli.demo.pace import stretched_rate
from streams.cli.demo.score import Phase, Span
from streams.cli.demo.stage import Stage
from streams.cli.demo.traffic import Feed
from streams.cli.demo.verify import describe_model
from streams.publish import Pace

TRAINING_SHARE, SWAP_SHARE = 0.5, 0.7
"""Where in the second half of the replay the second training, and then the swap, should be over."""
TRAINING_SLACK = 1.3
"""How much longer than the first training the second one may take before the replay slows down."""
SWAP_S = 5.0
"""How long the swap is watched at least."""
TAKEOVER_S = 15.0
"""How long the takeover may take before the replay slows down."""
SWAP_TIMEOUT_S = 30.0
TAKEOVER_TIMEOUT_S = 60.0
DRAIN_STALL_S = 20.0
BACKLOG_S = 1.0
"""The other worker has caught up when no event has waited longer than this."""


class Replay:
    """The newer part of the data set on its way through the stream.

    Args:
        stage: Servers, workers, and what has come so far.
        interactions: What is replayed, in the order of time.
        n_events: How many they are.
        rate: Events a second, at most.
        view: Shows it.
    """

    def __init__(
        self, stage: Stage, interactions: Iterable[Interaction], n_events: int, rate: float, view: LiveView
    ) -> None:
        self.stage = stage
        self.ledger = stage.ledger
        self.n_events = n_events
        self.rate = rate
        self.view = view
        self.spans: list[Span] = []
        self.feed = Feed(stage.kafka, interactions, Pace(rate), stage.ledger)

    def run(self, first_train_s: float) -> float:
        """Replay everything.

        Args:
            first_train_s: How long the first training took, to pace the second.

        Returns:
            How long the second training took, in seconds.
        """
        self.view.say(f"   the first half at {self.rate:,.0f} events/s")
        self.feed.start()
        try:
            self._watch(lambda: self.feed.n_sent >= self.n_events // 2)
            second_train_s = self._retrain(first_train_s)
            self._kill_a_worker()
            self.feed.pace.rate = self.rate
            self.view.say("   the rest, with one worker")
            self._watch(lambda: not self.feed.is_alive())
            self.stage.wait_for_lists(DRAIN_STALL_S, self.view.refresh)
        finally:
            self.feed.end()
        return second_train_s

    def _retrain(self, first_train_s: float) -> float:
        """Step 5: a second model on everything so far, swapped in while events flow."""
        self.view.say("\n5. Half-way: train again on everything so far and swap the model, while events flow")
        began_s = time.monotonic()
        trainer = self.stage.children.trainer("the second trainer", log=self.stage.logs / "second-training.log")

        def tick() -> None:
            self._stretch(TRAINING_SHARE, began_s + TRAINING_SLACK * first_train_s)
            self._look()

        update, announced_s = self.stage.wait_for_model(trainer, 2, tick)
        self.spans.append(Span(Phase.TRAINING, began_s, announced_s))
        self.view.say(f"   announced after {announced_s - began_s:.1f} s: {describe_model(update)}")

        def swapped() -> bool:
            self._stretch(SWAP_SHARE, announced_s + SWAP_S)
            all_serve = all(worker.health().get("model_version") == update.version for worker in self.stage.workers)
            return all_serve and time.monotonic() - announced_s >= SWAP_S

        self._watch(swapped, "the workers did not load the second model", SWAP_TIMEOUT_S)
        self.spans.append(Span(Phase.SWAP, announced_s, time.monotonic()))
        self.view.say(f"   both workers answer with {update.version}")
        return announced_s - began_s

    def _kill_a_worker(self) -> None:
        """Step 6: the busier worker dies without a word, and the other takes over."""
        workers, n_partitions = self.stage.workers, self.stage.kafka.partitions
        busy = Counter(shown.made.source_partition for shown in list(self.ledger.recent))
        load = [sum(busy[p] for p in worker.health().get("partitions", ())) for worker in workers]
        victim = workers.pop(load.index(max(load)))
        survivor = workers[0]
        self.view.say(f"\n6. Kill {victim.name} with SIGKILL, while events flow: {survivor.name} has to take over")
        began_s = time.monotonic()
        victim.process.kill()

        def taken_over() -> bool:
            self._stretch(1.0, began_s + TAKEOVER_S)
            if len(survivor.health().get("partitions", ())) < n_partitions:
                return False
            oldest_s = self.ledger.oldest_unanswered_s()
            return oldest_s is None or time.monotonic() - oldest_s < BACKLOG_S

        self._watch(taken_over, f"{survivor.name} did not take over and catch up", TAKEOVER_TIMEOUT_S)
        ended_s = time.monotonic()
        self.spans.append(Span(Phase.TAKEOVER, began_s, ended_s))
        self.view.say(
            f"   {survivor.name} has all {n_partitions} partitions and has caught up, after {ended_s - began_s:.1f} s"
        )

    def _stretch(self, share: float, end_s: float) -> None:
        """Pace the feed so that events last until ``end_s``, using up ``share`` of the second half by then."""
        n_left = round(self.n_events * (1 + share) / 2) - self.feed.n_sent
        self.feed.pace.rate = stretched_rate(self.rate, n_left, end_s - time.monotonic())

    def _watch(self, until: Callable[[], bool], complaint: str = "", timeout_s: float = inf) -> None:
        """Show the replay until something has come about."""

        def come_about() -> bool:
            self._look()
            return until()

        self.stage.wait(come_about, complaint, timeout_s)

    def _look(self) -> None:
        self.view.refresh()
        if self.feed.failure:
            raise self.feed.failure
