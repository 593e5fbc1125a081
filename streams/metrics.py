"""What a worker counts and times, in the form that Prometheus scrapes.

One registry a worker and no process-wide state, so that two workers in one process (and every test)
count for themselves.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

STAGES = ("decode", "load", "encode", "retrieve", "strategy", "learn", "pack", "produce", "commit")
"""The parts of one batch's work, in their order."""

_BATCH_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)
_SECONDS_BUCKETS = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)


class WorkerMetrics:
    """All figures of one worker.

    Figures without labels, and the stages, are there from the first scrape with the value 0; a labelled
    figure appears with its first value. Incrementing takes about a microsecond and never blocks on I/O.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        counter, gauge = self._counter, self._gauge
        self.events = counter("events", "Interactions applied to a session.")
        self.lists = counter("lists", "Recommendation lists produced, by where the items come from.", "source")
        self.dead_letters = counter("dead_letters", "Records sent to the dead letters, by reason.", "reason")
        self.dead_letters_lost = counter(
            "dead_letters_lost", "Dead letters that could not be written and were dropped."
        )
        self.forwarded = counter("forwarded", "Records forwarded to the partition that owns their user.")
        self.duplicates = counter("duplicates", "Events that a producer sent again: answered, not counted twice.")
        self.learned = counter("learned", "Events that the model learned as they came, if it is one that does.")
        self.retention_lost = counter("retention_lost", "Events that retention removed before they were applied.")
        self.batches_refused = counter("batches_refused", "Batches that the state store refused, by reason.", "reason")
        self.broadcast = counter("broadcast_records", "Valid records read from a broadcast topic.", "topic")
        self.broadcast_invalid = counter(
            "broadcast_invalid", "Records of a broadcast topic that were skipped, by reason.", "topic", "reason"
        )
        self.reloads = counter("reloads", "Attempts to load a model: active, fallback, failed, superseded.", "outcome")
        self.lag = gauge("lag", "Events of an owned partition that are not applied yet.", "partition")
        self.pending_bytes = gauge("pending_bytes", "What is worked out and waits to become durable.")
        self.items = gauge("items", "Items that the topic of items describes.")
        self.items_unavailable = gauge(
            "items_unavailable", "Items that may not be listed: sold out, off sale, removed."
        )
        self._model = gauge("model_info", "1 for the version that answers; absent while there is none.", "version")
        self._reload_state = gauge("reload_state", "1 for the state that hot reload is in.", "state")
        self.batch_size = Histogram(
            "streamrec_batch_size",
            "Events that were made durable together.",
            buckets=_BATCH_BUCKETS,
            registry=self.registry,
        )
        stages = Histogram(
            "streamrec_stage_seconds",
            "Time that one stage of a batch took.",
            ["stage"],
            buckets=_SECONDS_BUCKETS,
            registry=self.registry,
        )
        self._stages = {stage: stages.labels(stage) for stage in STAGES}

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        return Counter(f"streamrec_{name}", text, labels, registry=self.registry)

    def _gauge(self, name: str, text: str, *labels: str) -> Gauge:
        return Gauge(f"streamrec_{name}", text, labels, registry=self.registry)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Time the block as one stage of a batch.

        Raises:
            KeyError: If ``name`` is none of `STAGES`.

        Example:
            >>> metrics = WorkerMetrics()
            >>> with metrics.stage("decode"):
            ...     pass
            >>> metrics.registry.get_sample_value("streamrec_stage_seconds_count", {"stage": "decode"})
            1.0
        """
        return self._stages[name].time()

    def serves(self, version: str) -> None:
        """Name the one model version that answers from now on."""
        self._model.clear()
        self._model.labels(version).set(1)

    def reload_is(self, state: str) -> None:
        """Name the one state that hot reload is in."""
        self._reload_state.clear()
        self._reload_state.labels(state).set(1)

    def exposition(self) -> bytes:
        """Everything in Prometheus's text format."""
        return generate_latest(self.registry)
