"""Events in, answers out, one at a time."""

from __future__ import annotations

import time
from itertools import count

from encoders.records import Interaction, Recommendation
from streams.settings import KafkaSettings
from tests.processes import publish_interactions, read_lists, until

_numbers = count(1)


def event(user: str, item: str | None = None, **fields: object) -> Interaction:
    """A click on an item, or a plain request, that happens now and has an id of its own."""
    given = {"event_type": "click" if item else "request", "timestamp_ms": time.time_ns() // 1_000_000, **fields}
    return Interaction.model_validate(
        {"event_id": f"event-{next(_numbers)}", "user_id": user, "item_id": item, **given}
    )


def ask(kafka: KafkaSettings, user: str, item: str | None = None, **fields: object) -> Recommendation:
    """Publish one event and wait for its list."""
    asked = event(user, item, **fields)
    publish_interactions(kafka, [asked])
    return wait_for_lists(kafka, [asked])[0]


def wait_for_lists(kafka: KafkaSettings, events: list[Interaction]) -> list[Recommendation]:
    """The lists for these events, in their order; waits until all are there."""
    wanted = {asked.event_id for asked in events}

    def found() -> dict[str, Recommendation] | None:
        lists = {made.event_id: made for made in read_lists(kafka)}
        return lists if wanted <= lists.keys() else None

    lists = until(found, f"{len(wanted)} events have their lists")
    return [lists[asked.event_id] for asked in events]


def item_ids(made: Recommendation, source: str | None = None) -> list[str]:
    """The items of a list, best first; only those from one source, if it is named."""
    return [item.item_id for item in made.items if source in (None, item.source)]
