"""Settings under which a fault shows soon."""

from __future__ import annotations

import os

from streams.settings import KafkaSettings, WorkerSettings

BATCH = WorkerSettings(max_batch=32)
"""Small batches, so that a stream of a few hundred events has a middle."""


def soon_noticed(kafka: KafkaSettings) -> KafkaSettings:
    """A group that soon notices that a worker is gone; Apache Kafka allows no session shorter than 6 s."""
    session_s = 6.0 if os.environ.get("STREAMREC_TEST_BROKERS") else 2.0
    timing = {"session_timeout_s": session_s, "heartbeat_interval_s": 0.5, "rebalance_timeout_s": session_s}
    return kafka.model_copy(update=timing)
