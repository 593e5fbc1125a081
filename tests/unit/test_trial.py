"""What is held back from a new model, and how it is asked beside the serving one."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from encoders.records import BundleReference, ModelUpdate
from encoders.window import WindowRule
from tests.bundles import RULE, announced, sealed, write_model
from tests.logs import make_log
from trainer.cleaning import CleaningRules
from trainer.interactions import Interactions
from trainer.settings import GateSettings
from trainer.split import Split, split_by_time
from trainer.trial import Party, Trial, hold, prepare

N_USERS, N_STEPS, N_ITEMS = 24, 15, 30
TOPIC = "interactions"
RULES = CleaningRules(RULE)
SETTINGS = GateSettings(min_queries=24 * 3, min_users=24)
"""Of what happens below, exactly enough."""


class Silent:
    """A report that nobody reads."""

    def say(self, text: str) -> None:
        pass

    def progress(self, label: str, done: int, total: int, note: str = "") -> None:
        pass


class Follower:
    """Answers with the items that come next in the circle, or with nothing."""

    def __init__(self, knows: bool) -> None:
        self.knows = knows

    def retrieve(self, windows: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        following = (windows[:, -1:] + np.arange(k)) % N_ITEMS + 1
        return following if self.knows else np.zeros_like(following), np.zeros(following.shape, dtype=np.float32)


@pytest.fixture(scope="module")
def log() -> Interactions:
    """Users who walk through the items "1" … "30", each a step a minute; offset and place in the log are the same."""
    rows = [(user, (5 * user + step) % N_ITEMS, 60 * step) for step in range(N_STEPS) for user in range(N_USERS)]
    return replace(make_log(rows), item_ids=[str(number) for number in range(1, N_ITEMS + 1)])


@pytest.fixture(scope="module")
def split(log: Interactions) -> Split:
    """The newest 5 of 15 steps test."""
    return split_by_time(log, 0.2, 1 / 3)


@pytest.fixture
def serving(tmp_path: Path) -> ModelUpdate:
    """An untrained model, of which the manifest says that it has learned all but the newest 3 steps."""
    return serving_through(tmp_path, N_USERS * (N_STEPS - 3))


def serving_through(directory: Path, offset: int, **changes: object) -> ModelUpdate:
    reference: BundleReference = sealed(write_model(directory), trained_through={TOPIC: {0: offset}}, **changes)
    return announced(reference)


def prepared(serving: ModelUpdate | None, log: Interactions, split: Split, settings: GateSettings = SETTINGS) -> Trial:
    return prepare(serving, log, split, TOPIC, RULES, settings)


def steps_held_back(trial: Trial, log: Interactions) -> set[int]:
    return set((log.times_ms[trial.held_back] // 60_000).tolist())


def test_what_the_serving_model_has_not_learned_is_held_back(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    trial = prepared(serving, log, split)
    assert (trial.obstacle, steps_held_back(trial, log)) == ("", {12, 13, 14})
    assert trial.held_back.sum() == 3 * N_USERS


def test_of_what_an_old_model_has_not_learned_only_the_test_part_is(
    tmp_path: Path, log: Interactions, split: Split
) -> None:
    trial = prepared(serving_through(tmp_path, 0), log, split)
    assert steps_held_back(trial, log) == {10, 11, 12, 13, 14}


@pytest.mark.parametrize("missing", [{"min_queries": 24 * 3 + 1}, {"min_users": 25}])
def test_one_too_few_is_not_compared_and_nothing_is_held_back(
    serving: ModelUpdate, log: Interactions, split: Split, missing: dict[str, int]
) -> None:
    trial = prepared(serving, log, split, SETTINGS.model_copy(update=missing))
    assert "72 next events of 24 users, where gate.min_queries is" in trial.obstacle
    assert not trial.held_back.any()


def test_where_nothing_is_new_nothing_is_compared(tmp_path: Path, log: Interactions, split: Split) -> None:
    assert "0 next events of 0 users" in prepared(serving_through(tmp_path, len(log)), log, split).obstacle


def test_of_an_unknown_topic_the_serving_model_has_learned_nothing(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    trial = prepare(serving, log, split, "another", RULES, SETTINGS)
    assert steps_held_back(trial, log) == {10, 11, 12, 13, 14}


def test_without_a_serving_model_or_with_the_gate_off_nothing_is_compared(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    assert prepared(None, log, split).obstacle == "no model serves yet"
    off = prepared(serving, log, split, SETTINGS.model_copy(update={"enabled": False}))
    assert off.obstacle == "the gate is off (gate.enabled)"
    assert not off.held_back.any()


def test_a_serving_model_that_cannot_be_read_is_said_with_the_reason(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    shutil.rmtree(serving.uri)
    assert "cannot be read" in prepared(serving, log, split).obstacle
    assert "No such file" in prepared(serving, log, split).obstacle


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"catalogue": "films"}, "serves catalogue 'films', the new model is of 'default'"),
        ({"window_rule": WindowRule(max_len=7).model_dump(mode="json")}, 'another window rule, {"max_len":7,'),
    ],
    ids=["catalogue", "window rule"],
)
def test_a_serving_model_of_another_kind_is_not_compared(
    tmp_path: Path, log: Interactions, split: Split, changes: dict[str, object], said: str
) -> None:
    assert said in prepared(serving_through(tmp_path, 0, **changes), log, split).obstacle


def held(trial: Trial, log: Interactions, knows: bool, settings: GateSettings = SETTINGS):
    candidate = Party(Follower(knows), log.item_codes + 1, N_ITEMS)
    return hold(trial, candidate, log, RULE, settings, Silent())


def test_a_model_that_knows_more_is_promoted_and_one_that_knows_nothing_rejected(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    trial = prepared(serving, log, split)
    better, worse = held(trial, log, knows=True), held(trial, log, knows=False)
    assert (better.outcome, worse.outcome) == ("promoted", "rejected")
    assert better.comparison
    assert worse.comparison
    assert (better.comparison.candidate, worse.comparison.candidate) == (1, 0)
    assert better.comparison.serving == worse.comparison.serving > 0
    assert (better.comparison.n_queries, better.comparison.n_users, better.serving) == (72, 24, serving.version)


def test_a_bundle_that_breaks_before_it_is_asked_is_an_obstacle(
    serving: ModelUpdate, log: Interactions, split: Split
) -> None:
    trial = prepared(serving, log, split)
    (Path(serving.uri) / "weights.safetensors").write_bytes(b"")
    verdict = held(trial, log, knows=False)
    assert (verdict.outcome, verdict.comparison) == ("promoted", None)
    assert "weights.safetensors" in verdict.reason
    strict = SETTINGS.model_copy(update={"if_not_comparable": "reject"})
    assert held(trial, log, knows=True, settings=strict).outcome == "rejected"
