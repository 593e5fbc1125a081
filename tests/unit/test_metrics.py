"""Every figure that an operator is promised is in the exposition."""

from __future__ import annotations

import pytest

from streams.metrics import STAGES, WorkerMetrics


def samples(metrics: WorkerMetrics) -> set[str]:
    """Names of all samples in the exposition."""
    lines = metrics.exposition().decode().splitlines()
    return {line.split("{")[0].split(" ")[0] for line in lines if not line.startswith("#")}


def test_a_fresh_worker_shows_its_unlabelled_figures_and_stages_as_zero() -> None:
    metrics = WorkerMetrics()
    promised = {"streamrec_events_total", "streamrec_forwarded_total", "streamrec_duplicates_total"}
    promised |= {"streamrec_dead_letters_lost_total", "streamrec_retention_lost_total", "streamrec_batch_size_count"}
    assert promised <= samples(metrics)
    for stage in STAGES:
        assert metrics.registry.get_sample_value("streamrec_stage_seconds_count", {"stage": stage}) == 0


@pytest.mark.parametrize(
    ("use", "sample", "labels"),
    [
        (lambda m: m.lists.labels("ann").inc(7), "streamrec_lists_total", {"source": "ann"}),
        (lambda m: m.dead_letters.labels("not-json").inc(7), "streamrec_dead_letters_total", {"reason": "not-json"}),
        (lambda m: m.pending_bytes.set(7), "streamrec_pending_bytes", {}),
        (lambda m: m.lag.labels(3).set(7), "streamrec_lag", {"partition": "3"}),
        (lambda m: m.reloads.labels("failed").inc(7), "streamrec_reloads_total", {"outcome": "failed"}),
        (lambda m: m.batches_refused.labels("owner").inc(7), "streamrec_batches_refused_total", {"reason": "owner"}),
        (lambda m: m.batch_size.observe(7), "streamrec_batch_size_sum", {}),
        (lambda m: m.items.set(7), "streamrec_items", {}),
    ],
)
def test_a_value_is_shown_under_its_name_and_labels(use, sample, labels) -> None:
    metrics = WorkerMetrics()
    use(metrics)
    assert metrics.registry.get_sample_value(sample, labels) == 7


def test_only_the_version_that_answers_is_shown() -> None:
    metrics = WorkerMetrics()
    assert b"streamrec_model_info{" not in metrics.exposition()
    metrics.serves("a")
    metrics.serves("b")
    assert b'streamrec_model_info{version="b"} 1.0' in metrics.exposition()
    assert b'version="a"' not in metrics.exposition()


def test_only_the_newest_reload_state_is_shown() -> None:
    metrics = WorkerMetrics()
    metrics.reload_is("loading")
    metrics.reload_is("active")
    assert metrics.registry.get_sample_value("streamrec_reload_state", {"state": "active"}) == 1
    assert metrics.registry.get_sample_value("streamrec_reload_state", {"state": "loading"}) is None


def test_a_stage_is_timed_even_if_it_raises() -> None:
    metrics = WorkerMetrics()
    with pytest.raises(ZeroDivisionError), metrics.stage("produce"):
        raise ZeroDivisionError
    assert metrics.registry.get_sample_value("streamrec_stage_seconds_count", {"stage": "produce"}) == 1


def test_an_unknown_stage_is_an_error() -> None:
    with pytest.raises(KeyError, match="teleport"):
        WorkerMetrics().stage("teleport")


def test_two_workers_in_one_process_count_for_themselves() -> None:
    first, second = WorkerMetrics(), WorkerMetrics()
    first.events.inc()
    assert second.registry.get_sample_value("streamrec_events_total") == 0
