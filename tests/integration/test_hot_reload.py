"""Models that come while events flow: good ones, bad ones, and records that announce nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import NamedTuple

import pytest

from encoders.records import BundleReference, ModelUpdate
from streams.app import pipeline_rules
from streams.serving import ServingModel
from tests.bundles import DAMAGES, RULE, announced, write_model
from tests.exactness import Outcome, check_exact
from tests.integration.asking import ask
from tests.integration.recomputing import not_recomputed, sessions_at
from tests.processes import (
    Deployment,
    RawRecord,
    WorkerProcess,
    announce,
    clicks,
    publish_raw,
    publishing,
    until,
)

pytestmark = pytest.mark.usefixtures("swapped")
SWAPS = 8


@contextmanager
def load(deployment: Deployment, seed: int) -> Iterator[Callable[[], None]]:
    """Publish events while the body runs; the yielded function waits until some more have been answered."""
    worker = deployment.workers[0]

    def some_more() -> None:
        before = worker.metric("events_total")
        until(lambda: worker.metric("events_total") >= before + 30, "events flow")

    with publishing(deployment.kafka, clicks(50_000, seed=seed), rate=100):
        some_more()
        yield some_more


def serves(worker: WorkerProcess, model: BundleReference) -> None:
    """Wait until the worker answers with this model."""
    until(lambda: worker.health().get("model_version") == model.version, f"{model.version} answers")


class Swapped(NamedTuple):
    outcome: Outcome
    models: list[BundleReference]


@pytest.fixture(scope="module")
def swapped(deployment: Deployment) -> Swapped:
    """What comes of two models with other numbers for the same items, swapped while events flow."""
    models = [write_model(deployment.settings.model.bundles, seed, permuted=True) for seed in (1, 2)]
    announce(deployment.kafka, announced(models[0]))
    worker = deployment.worker().wait_ready()
    with load(deployment, seed=1) as some_more:
        for swap in range(1, SWAPS + 1):
            announce(deployment.kafka, announced(models[swap % 2]))
            serves(worker, models[swap % 2])
            some_more()
    return Swapped(check_exact(deployment.settings, *models), models)


class TestSwaps:
    def test_both_models_answered_in_turns(self, swapped: Swapped) -> None:
        in_order = sorted(swapped.outcome.lists, key=lambda made: (made.generated_at_ms, made.source_offset))
        changes = sum(a.model_version != b.model_version for a, b in pairwise(in_order))
        assert changes >= SWAPS

    def test_every_list_is_what_its_model_makes_of_the_window_at_its_offset(
        self, deployment: Deployment, swapped: Swapped
    ) -> None:
        """A list that mixed two models would hold items, or scores, that neither of them gives."""
        settings = deployment.settings
        models = [ServingModel.load(reference, RULE) for reference in swapped.models]
        sessions = sessions_at(settings, pipeline_rules(settings.worker, settings.model))
        versions = {model.version: model for model in models}
        assert not not_recomputed(swapped.outcome.lists, sessions, versions, settings.worker.top_n)
        mixed_up = {models[0].version: models[1], models[1].version: models[0]}
        by_model = [made for made in swapped.outcome.lists if any(item.source == "ann" for item in made.items)]
        assert len(not_recomputed(by_model, sessions, mixed_up, settings.worker.top_n)) == len(by_model) > 100

    def test_no_event_waits_for_a_model_or_is_answered_twice(self, swapped: Swapped) -> None:
        assert swapped.outcome.repeated == 0

    def test_metrics_name_the_one_version_that_answers(self, deployment: Deployment, swapped: Swapped) -> None:
        (worker,) = deployment.workers
        assert worker.metric("model_info") == worker.metric("model_info", version=swapped.models[0].version) == 1
        assert worker.metric("reloads_total", outcome="active") == SWAPS + 1


class Refusal(NamedTuple):
    """What was to be seen when a bad bundle had been announced."""

    log: str
    health: dict[str, object]
    state_shown: float
    failures: float


@pytest.fixture(scope="module")
def refusals(deployment: Deployment, swapped: Swapped) -> dict[str, Refusal]:
    """Every way in which a bundle can be bad, announced while events flow."""
    (worker,) = deployment.workers
    found = {}
    with load(deployment, seed=2) as some_more:
        for seed, (name, (damage, _)) in enumerate(DAMAGES.items(), start=100):
            bad = damage(write_model(deployment.settings.model.bundles, seed))
            some_more()
            failures = worker.metric("reloads_total", outcome="failed")
            announce(deployment.kafka, announced(bad))
            until(lambda: worker.metric("reloads_total", outcome="failed") > failures, f"{name} is refused")  # noqa: B023
            (line,) = re.findall(rf"^.*refused model {re.escape(bad.version)}.*$", worker.log, re.MULTILINE)
            found[name] = Refusal(
                line,
                worker.health(),
                worker.metric("reload_state", state="failed"),
                worker.metric("reloads_total", outcome="failed") - failures,
            )
        some_more()
    return found


class TestBadBundles:
    @pytest.mark.parametrize("name", DAMAGES)
    def test_it_is_refused_with_a_clear_error_and_the_running_model_goes_on(
        self, swapped: Swapped, refusals: dict[str, Refusal], name: str
    ) -> None:
        refusal, running = refusals[name], swapped.models[0].version
        _, explanation = DAMAGES[name]
        assert re.search(explanation, refusal.log)
        assert "[ERROR]" in refusal.log
        assert f"Model {running} goes on." in refusal.log
        assert refusal.health["model_version"] == running
        assert refusal.health["reload"] == "failed"
        assert re.search(explanation, str(refusal.health["refused"]))
        assert (refusal.state_shown, refusal.failures) == (1, 1)

    def test_none_of_them_disturbed_the_stream(
        self, deployment: Deployment, swapped: Swapped, refusals: dict[str, Refusal]
    ) -> None:
        (worker,) = deployment.workers
        assert check_exact(deployment.settings, *swapped.models).repeated == 0
        assert worker.ready()["ready"]
        assert "Traceback" not in worker.log

    def test_a_worker_that_starts_on_one_falls_back_to_the_previous(
        self, deployment: Deployment, swapped: Swapped, refusals: dict[str, Refusal]
    ) -> None:
        bad = DAMAGES["NaN in the weights"][0](write_model(deployment.settings.model.bundles, seed=200))
        announce(deployment.kafka, announced(bad, previous=swapped.models[1]))
        second = deployment.worker().wait_ready()
        assert second.health()["model_version"] == swapped.models[1].version
        assert second.metric("reloads_total", outcome="fallback") == 1
        assert f"its previous, {swapped.models[1].version}, is tried" in second.log
        second.terminate()
        deployment.workers[0].wait_partitions(range(deployment.kafka.partitions))


GARBAGE = {
    "no JSON": (RawRecord(b"{", b"gru"), "not-json"),
    "no UTF-8": (RawRecord(b"\xff\xfe", b"gru"), "not-utf8"),
    "a list": (RawRecord(b"[]", b"gru"), "invalid"),
    "no hash": (RawRecord(b'{"model": "gru", "version": "v", "uri": "/bundles/v"}', b"gru"), "invalid"),
    "another key": (
        RawRecord(ModelUpdate(model="gru", version="v", uri="/v", manifest_sha256="0" * 64).to_json(), b"lstm"),
        "key",
    ),
    "an empty key": (
        RawRecord(ModelUpdate(model="gru", version="v", uri="/v", manifest_sha256="0" * 64).to_json(), b""),
        "key",
    ),
    "noise of 1 MB": (RawRecord(b"\x80" * 1_000_000, b"gru"), "not-utf8"),
}


def test_garbage_among_model_updates_is_counted_and_the_next_model_is_loaded(
    deployment: Deployment, swapped: Swapped
) -> None:
    (worker, *_), topic = deployment.workers, deployment.kafka.topics.model_updates
    others = ModelUpdate(model="another", version="v", uri="/v", manifest_sha256="0" * 64)
    publish_raw(deployment.kafka, topic, [record for record, _ in GARBAGE.values()])
    publish_raw(deployment.kafka, topic, [RawRecord(others.to_json(), b"another"), RawRecord(None, b"gru")])
    good = write_model(deployment.settings.model.bundles, seed=300, permuted=True)
    announce(deployment.kafka, announced(good))
    serves(worker, good)
    reasons = [reason for _, reason in GARBAGE.values()]
    for reason in set(reasons):
        assert worker.metric("broadcast_invalid_total", topic=topic, reason=reason) == reasons.count(reason)
    assert ask(deployment.kafka, "witness", "8").model_version == good.version
    check_exact(deployment.settings, *swapped.models, good)


def test_with_garbage_alone_a_worker_starts_without_a_model(deployment: Deployment, swapped: Swapped) -> None:
    """A tombstone withdraws what was announced before it."""
    topic = deployment.kafka.topics.model_updates
    publish_raw(deployment.kafka, topic, [RawRecord(None, b"gru"), *(record for record, _ in GARBAGE.values())])
    late = deployment.worker().wait_ready()
    assert late.health()["model_version"] is None
    assert late.health()["reload"] == "idle"
