"""One batch on its way to Kafka: its lists, what is forwarded, and its dead letters."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence

from aiokafka.errors import MessageSizeTooLargeError

from streams.batches import Computed
from streams.lists import WireLists
from streams.metrics import WorkerMetrics
from streams.output import PRODUCE_BATCH_BYTES, Failure, OutgoingRecord, Producer, deliver, deliver_lists

logger = logging.getLogger(__name__)
_DEAD_LETTER_PAUSE_S = 0.5


class Delivery:
    """Sends what a batch leads to. What has been acknowledged is not sent again by the next attempt.

    What is too large for the broker is given up, counted and logged: waiting would not make it smaller.

    Args:
        computed: The batch.
        producer: Answers with a future that holds once a record is acknowledged.
        topic: Of the lists.
        n_partitions: Of the topic of the events.
        metrics: Where what was given up is counted.
    """

    def __init__(
        self,
        computed: Computed,
        producer: Callable[[], Producer],
        topic: str,
        n_partitions: int,
        metrics: WorkerMetrics,
    ) -> None:
        self._producer, self._topic, self._n_partitions, self._metrics = producer, topic, n_partitions, metrics
        self._partition = computed.partition
        self._lists, self._forwarded, self._dead = computed.lists, computed.forwarded, computed.dead_letters

    async def attempt(self) -> None:
        """Send lists and forwarded records and await every acknowledgement.

        Raises:
            KafkaError: If something was not acknowledged; the next attempt sends only that.
        """
        failed = await deliver_lists(
            self._producer(), self._topic, self._partition, self._n_partitions, self._lists, PRODUCE_BATCH_BYTES
        )
        self._lists = []
        for part, error in failed:
            if isinstance(error, MessageSizeTooLargeError):
                self._give_up_list(part, str(error))
            else:
                self._lists.append(part)
        failures = await deliver(self._producer(), self._forwarded) if self._forwarded else []
        self._forwarded = self._without_too_large(failures)
        errors = [error for _, error in (*failed, *failures) if not isinstance(error, MessageSizeTooLargeError)]
        if errors:
            raise errors[0]

    async def send_dead(
        self, patience_s: float, may_go_on: Callable[[], bool], sleep: Callable[[float], Awaitable[object]]
    ) -> None:
        """Send dead letters; what is not written when the patience is over is given up.

        Args:
            patience_s: How long they may hold up what comes after them.
            may_go_on: Asked before each attempt.
            sleep: How to wait in between.
        """
        try:
            async with asyncio.timeout(patience_s):
                while self._dead and may_go_on():
                    self._dead = self._without_too_large(await deliver(self._producer(), self._dead))
                    if self._dead:
                        await sleep(_DEAD_LETTER_PAUSE_S)
        except TimeoutError:
            for record in self._dead:
                self._give_up(record, f"not written in {patience_s:g} s")

    def _without_too_large(self, failures: Sequence[Failure]) -> list[OutgoingRecord]:
        """What may be tried again."""
        for record, error in failures:
            if isinstance(error, MessageSizeTooLargeError):
                self._give_up(record, str(error))
        return [f.record for f in failures if not isinstance(f.error, MessageSizeTooLargeError)]

    def _give_up_list(self, lists: WireLists, why: str) -> None:
        self._metrics.dead_letters_lost.inc()
        (_, value), *_ = lists.records()
        logger.error("gave up a list that could not be written (%s): %.200s", why, value.decode())

    def _give_up(self, dead: OutgoingRecord, why: str) -> None:
        self._metrics.dead_letters_lost.inc()
        headers = {name: (value or b"").decode(errors="replace") for name, value in dead.headers}
        logger.error("gave up a record for %s that could not be written (%s): %s", dead.topic, why, headers)
