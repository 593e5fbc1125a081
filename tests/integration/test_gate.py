"""Training runs beside a model that serves: what they compare, and that one that was killed ends as it would have."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import read_bundle
from encoders.records import Interaction, ModelUpdate
from streams.settings import KafkaSettings
from tests.integration.test_train import SMALL, Silent, announced, clicks, make_plan, publish
from tests.processes import RawRecord, publish_raw
from trainer.assess import assess
from trainer.job import train
from trainer.log import read_log
from trainer.plan import TrainingPlan
from trainer.pruning import alone_in
from trainer.publish import current_updates
from trainer.settings import GateSettings

FEW = GateSettings(min_queries=20, min_users=5)
LEARNED = SMALL.model_copy(update={"max_epochs": 20, "patience": 20, "batch_size": 2})
UNLEARNED = SMALL.model_copy(update={"learning_rate": 1e-9, "max_epochs": 1})


class Watcher(Silent):
    """Remembers what was said and which bars were drawn; ends the run in one of them where it is told to."""

    def __init__(self, die_in: str = "no bar") -> None:
        self.said: list[str] = []
        self.bars: list[str] = []
        self._die_in = die_in

    def say(self, text: str) -> None:
        self.said.append(text)

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        if label not in self.bars:
            self.bars.append(label)
        if label.startswith(self._die_in):
            raise KeyboardInterrupt


@pytest.fixture
def plan(topics: KafkaSettings, tmp_path: Path) -> TrainingPlan:
    return replace(make_plan(topics, tmp_path), gate=FEW)


def later(n: int) -> list[Interaction]:
    """Clicks of other users, each a second after the clicks of `clicks`, in their order."""
    return [
        click.model_copy(
            update={
                "user_id": f"later-{click.user_id}",
                "event_id": f"later-{click.event_id}",
                "timestamp_ms": click.timestamp_ms + 1_000 * n,
            }
        )
        for click in clicks(n)
    ]


@pytest.fixture
def serving(plan: TrainingPlan) -> ModelUpdate:
    """A model that knows 600 events; 60 more have come since, of which the test part has all."""
    publish(plan, clicks(600))
    update = train(replace(plan, settings=LEARNED), Silent()).update
    publish(plan, later(60))
    assert update
    return update


def test_the_new_model_is_asked_before_it_learns_what_is_new_and_knows_it_afterwards(
    plan: TrainingPlan, serving: ModelUpdate
) -> None:
    watcher = Watcher()
    result = train(plan, watcher)
    bars = [bar for bar in watcher.bars if bar.startswith(("refresh", "gate", "newest"))]
    assert bars == ["refresh", "gate, asking the new model", f"gate, asking {serving.version}", "newest events"]
    assert result.verdict.serving == serving.version
    assert result.verdict.comparison
    assert result.verdict.comparison.n_users == 10
    manifest = read_bundle(result.bundle.uri).manifest
    assert sum(manifest.trained_through[plan.source.interactions].values()) == 660


def test_what_is_new_is_learned_only_after_the_comparison(plan: TrainingPlan) -> None:
    """The new users take every 17th item, which nobody did before; both models expect them to take the next one."""
    publish(plan, clicks(600))
    train(replace(plan, settings=LEARNED), Silent())
    leaps = [c.model_copy(update={"item_id": f"item-{17 * int(c.item_id[5:]) % 50}"}) for c in later(60) if c.item_id]
    publish(plan, leaps)
    result = train(replace(plan, settings=LEARNED.model_copy(update={"refresh_epochs": 30})), Silent())
    assert result.verdict.comparison
    assert result.verdict.comparison.n_queries == 50
    bundle, events = read_bundle(result.bundle.uri), read_log(plan.source, plan.rules, Silent()).events
    learned = assess(bundle, events, np.ones(len(events), dtype=bool), 60 / 660, Silent())
    assert learned.figures["ndcg@10"] > 0.3 > 0.2 > result.verdict.comparison.candidate


def test_a_rejected_model_is_not_announced(plan: TrainingPlan, serving: ModelUpdate) -> None:
    strict = replace(plan, settings=UNLEARNED, gate=FEW.model_copy(update={"rule": "if_not_worse", "tolerance": 0}))
    result = train(strict, Silent())
    assert (result.verdict.outcome, result.update) == ("rejected", None)
    assert [update for _, update, _ in announced(plan)] == [serving]
    assert read_bundle(result.bundle.uri, result.bundle.manifest_sha256).manifest.n_items > 0
    forced = train(replace(strict, force=True), Silent())
    assert forced.verdict.outcome == "forced"
    assert announced(plan)[-1][1] == forced.update


def test_without_anything_new_the_setting_decides(plan: TrainingPlan) -> None:
    publish(plan, clicks(600))
    train(plan, Silent())
    first, strict = train(plan, Silent()), replace(plan, gate=FEW.model_copy(update={"if_not_comparable": "reject"}))
    assert "0 next events of 0 users" in first.verdict.reason
    assert first.update
    assert train(strict, Silent()).update is None


def test_a_model_of_another_name_is_not_what_it_is_compared_with(plan: TrainingPlan, serving: ModelUpdate) -> None:
    assert train(replace(plan, model="other"), Silent()).verdict.reason == "no model serves yet"


@pytest.mark.parametrize("die_in", ["refresh", "gate, asking 2", "newest"])
def test_a_run_that_was_killed_ends_as_it_would_have(
    plan: TrainingPlan, serving: ModelUpdate, tmp_path: Path, die_in: str
) -> None:
    """Here both are rejected, so that the same model serves when each of them begins."""
    slow = SMALL.model_copy(update={"learning_rate": 1e-4, "checkpoint_minutes": 1e-9, "batch_size": 8})
    never = FEW.model_copy(update={"rule": "if_not_worse", "tolerance": 0})
    plan = replace(plan, settings=slow, gate=never, archive=tmp_path / "archive")
    undisturbed = train(plan, Silent())
    assert undisturbed.verdict.outcome == "rejected"
    with pytest.raises(KeyboardInterrupt):
        train(plan, Watcher(die_in))
    watcher = Watcher()
    taken_up = train(plan, watcher)
    assert any("Taking up the run that was interrupted" in line for line in watcher.said)
    assert taken_up.verdict == undisturbed.verdict
    one, other = (read_bundle(result.bundle.uri) for result in (taken_up, undisturbed))
    np.testing.assert_array_equal(one.encoder.item_vectors, other.encoder.item_vectors)


def test_what_serves_is_the_newest_update_that_a_worker_could_read(topics: KafkaSettings, plan: TrainingPlan) -> None:
    one, other = (ModelUpdate(model=name, version="v", uri="/v", manifest_sha256="0" * 64) for name in ("gru", "other"))
    records = [(one, b"gru"), (other, b"other"), (other, b"gru"), (None, b"unknown")]
    values = [RawRecord(update.to_json() if update else None, key) for update, key in records]
    publish_raw(topics, topics.topics.model_updates, [*values, RawRecord(b"{", b"gru"), RawRecord(b"[]", b"gru")])
    assert current_updates(plan.source) == {"gru": one, "other": other}
    publish_raw(topics, topics.topics.model_updates, [RawRecord(None, b"gru")])
    assert current_updates(plan.source) == {"other": other}


def test_old_bundles_that_cannot_be_removed_do_not_fail_a_run(plan: TrainingPlan) -> None:
    publish(plan, clicks(300))
    plan = replace(plan, settings=SMALL.model_copy(update={"keep_bundles": 1}))
    watcher = Watcher()
    plan.bundles.mkdir()
    with alone_in(plan.bundles):
        assert train(plan, watcher).update
    assert any(line.startswith("Old bundles could not be removed: process ") for line in watcher.said)
