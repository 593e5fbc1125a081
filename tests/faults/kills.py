"""SIGKILL under load, as often as one likes: the same play for the five kills of every run and for `make soak`."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from random import Random

from encoders.records import BundleReference, Interaction
from tests.exactness import Outcome, examine
from tests.processes import PATIENCE_S, START_MS, Deployment, applied, publishing, until

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


def endless_clicks(seed: int, users: int = 200, items: int = 60) -> Callable[[], Interaction]:
    """Clicks without an end, one second after the other, every event id once."""
    random, numbers = Random(seed), count()

    def click() -> Interaction:
        number = next(numbers)
        return Interaction(
            event_id=f"{seed}-{number}",
            user_id=f"user-{random.randrange(users)}",
            item_id=str(1 + random.randrange(items)),
            event_type="click",
            timestamp_ms=START_MS + 1000 * number,
        )

    return click


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
    with publishing(deployment.kafka, iter(endless_clicks(seed), None), RATE):
        for number in range(1, kills + 1):
            wanted = last + random.randrange(1, MOST_BETWEEN)
            last = until(lambda: _reached(deployment, wanted), f"{wanted} events are applied", 2 * PATIENCE_S)  # noqa: B023  # called at once
            time.sleep(random.random() / 4)
            victim = workers.pop(random.randrange(len(workers)))
            victim.kill()
            workers.append(deployment.worker())
            deployment.workers.remove(victim)
            victim.close()
            progress(f"kill {number} of {kills}: {victim.name}, {last} events applied")
    outcome = examine(deployment.settings, model)
    return summarize(outcome, kills, time.monotonic() - began), outcome.problems


def _reached(deployment: Deployment, wanted: int) -> int:
    """How many events are applied, once they are as many as wanted; 0 before."""
    n_applied = sum(applied(deployment.settings).values())
    return n_applied if n_applied >= wanted else 0
