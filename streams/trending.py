"""Keeps the most popular items of every catalogue at hand, over all partitions."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from datetime import timedelta

from mode import Service
from redis.exceptions import RedisError

from streams.popularity import PopularItems, most_popular
from streams.worker import BatchWorker

logger = logging.getLogger(__name__)
_SHARE_OF_TIME = 0.05
"""At most this share of a core goes into refreshing."""


class PopularityBoard(Service):
    """Refreshes `popular` now and then: own partitions from memory, the others from the store.

    Args:
        worker: Knows the counts of the partitions that it owns, and the store.
        interval: The shortest time between two refreshes; a large catalogue is refreshed less often.
        limit: How many items are kept for each catalogue; more than a list plus what a user can have seen.
    """

    def __init__(self, worker: BatchWorker, interval: timedelta, limit: int) -> None:
        super().__init__()
        self.popular: Mapping[str, PopularItems] = {}
        """By catalogue; replaced as a whole, never changed."""
        self._worker = worker
        self._interval_s = interval.total_seconds()
        self._limit = limit
        self._counted = self._since_refresh = 0

    @Service.task
    async def _keep_fresh(self) -> None:
        while not self.should_stop:
            began = time.monotonic()
            try:
                await self.refresh()
            except (RedisError, OSError) as error:
                logger.debug("popularity of other partitions cannot be read: %s", error)
            took_s = time.monotonic() - began
            await self.sleep(max(self._interval_s, took_s / _SHARE_OF_TIME))

    async def counted(self, n_events: int) -> None:
        """Say that so many events were counted: a young system, whose counts double fast, refreshes at once."""
        self._since_refresh += n_events
        if self._since_refresh > self._counted:
            await self.refresh()

    async def refresh(self) -> None:
        """Add up the counts of all partitions.

        Raises:
            redis.exceptions.RedisError: If the store cannot be reached; `popular` stays as it was.
        """
        counts: dict[str, list[dict[str, float]]] = defaultdict(list)
        for partition in range(self._worker.rules.n_partitions):
            owned = self._worker.partitions.get(partition)
            stored = dict(owned.popularity) if owned else await self._worker.store.popularity(partition)
            by_catalogue: dict[str, dict[str, float]] = defaultdict(dict)
            for (catalogue, item_id), count in stored.items():
                by_catalogue[catalogue][item_id] = count
            for catalogue, items in by_catalogue.items():
                counts[catalogue].append(items)
        self._counted, self._since_refresh = self._counted + self._since_refresh, 0
        self.popular = await asyncio.to_thread(_rank, counts, self._limit)


def _rank(counts: Mapping[str, list[dict[str, float]]], limit: int) -> dict[str, PopularItems]:
    return {catalogue: most_popular(partitions, catalogue, limit) for catalogue, partitions in counts.items()}
