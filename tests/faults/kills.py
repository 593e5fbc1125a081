"""SIGKILL under load, as often as one likes: the same play for the five kills of every run and for `make soak`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, takewhile
from random import Random
from threading import Event

from encoders.records import BundleReference, Interaction
from streams.errors import DependencyError
from streams.settings import KafkaSettings
from tests.exactness import Outcome, examine
from tests.processes import PATIENCE_S, START_MS, Deployment, applied, beside, publish_interactions, read_topic, until

RATE = 150.0
"""Events a second; while nobody owns a partition they pile up, so that what follows comes in whole batches."""
WORKERS = 2
MOST_BETWEEN = 1_500
"""Events that are applied between one kill and the next, at most."""


@dataclass(frozen=True)
class Summary:
    """What so many kills have left behind."""

    kills: int
    events: int
    lost: int
    """Events without a list."""
    duplicated: int
    """Lists beside the one id that an event's place gives."""
    state_mismatches: int
    """Sessions, counters or counts that differ from a fold of the log."""
    repeated_lists: int
    """Lists that were published again with the same id; a kill between producing and the script does that."""
    seconds: float

    @property
    def exact(self) -> bool:
        """Whether nothing was lost, counted twice or changed."""
        return not (self.lost or self.duplicated or self.state_mismatches)


def summarize(outcome: Outcome, kills: int, seconds: float) -> Summary:
    """Sort what is not exact into kinds."""
    lost = sum(problem.endswith("has no list") for problem in outcome.problems)
    state = sum(problem.startswith("partition ") for problem in outcome.problems)
    events = len({made.recommendation_id for made in outcome.lists}) + lost
    return Summary(
        kills, events, lost, len(outcome.problems) - lost - state, state, outcome.repeated, round(seconds, 1)
    )


def endless_clicks(seed: int, users: int = 200, items: int = 60) -> Iterator[Interaction]:
    """Clicks without an end, one second after the other, every event id once."""
    random = Random(seed)
    for number in count():
        yield Interaction(
            event_id=f"{seed}-{number}",
            user_id=f"user-{random.randrange(users)}",
            item_id=str(1 + random.randrange(items)),
            event_type="click",
            timestamp_ms=START_MS + 1000 * number,
        )


@contextmanager
def flowing(kafka: KafkaSettings, events: Iterator[Interaction], progress: Callable[[str], None]) -> Iterator[None]:
    """Publish events for as long as the body runs, with a new producer where one has failed: the log is the truth."""

    def publish(over: Event) -> None:
        while not over.is_set():
            try:
                publish_interactions(kafka, takewhile(lambda _: not over.is_set(), events), RATE)
            except DependencyError as error:
                progress(f"a new producer goes on: {error}")

    with beside(publish):
        yield


def play(
    deployment: Deployment,
    model: BundleReference,
    kills: int,
    *,
    seed: int,
    progress: Callable[[str], None] = lambda line: None,
) -> tuple[Summary, list[str]]:
    """Kill a worker so many times while events flow, start another one each time, and look at what is left.

    The moments and the victims are drawn: a kill comes when so many more events are applied than at the one before.

    Args:
        deployment: Without workers.
        model: What answers.
        kills: How often.
        seed: Of the moments, the victims and the events.
        progress: Told of every kill.

    Returns:
        The summary, and every problem in words.
    """
    random, began = Random(seed), time.monotonic()
    workers = [deployment.worker() for _ in range(WORKERS)]
    for worker in workers:
        worker.wait_ready()
    last = 0
    with flowing(deployment.kafka, endless_clicks(seed), progress):
        for number in range(1, kills + 1):
            wanted = last + random.randrange(1, MOST_BETWEEN)
            last = _wait_applied(deployment, wanted)
            time.sleep(random.random() / 4)
            victim = workers.pop(random.randrange(len(workers)))
            victim.kill()
            workers.append(deployment.worker())
            deployment.workers.remove(victim)
            victim.close()
            progress(f"kill {number} of {kills}: {victim.name}, {last} events applied")
    outcome = examine(deployment.settings, model)
    return summarize(outcome, kills, time.monotonic() - began), outcome.problems


def _wait_applied(deployment: Deployment, wanted: int) -> int:
    """Wait until so many events are applied, and say how many are.

    Raises:
        TimeoutError: Saying how far the log goes, so that one sees who stands still.
    """
    try:
        until(lambda: sum(applied(deployment.settings).values()) >= wanted, f"{wanted} are applied", 5 * PATIENCE_S)
    except TimeoutError as error:
        published = len(read_topic(deployment.kafka, deployment.kafka.topics.interactions))
        raise TimeoutError(
            f"{error}; {published} are published, and applied are {applied(deployment.settings)}"
        ) from error
    return sum(applied(deployment.settings).values())
