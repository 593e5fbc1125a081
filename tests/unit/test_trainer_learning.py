"""Retrievers learn a log once, factors are fitted anew; both are measured before they know its newest part."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from encoders.bundle import RETRIEVERS, BundledRetriever, EncoderDraft, RetrieverDraft
from encoders.markov import MarkovConfig
from encoders.popularity import PopularityConfig
from encoders.session_knn import SessionKNNConfig
from encoders.window import WindowRule
from tests.logs import make_log
from trainer.checkpoint import Checkpoint
from trainer.cleaning import CleaningRules
from trainer.factors import fit_factors
from trainer.interactions import BoolArray, Interactions
from trainer.learning import Lessons, new_retriever
from trainer.log import Log
from trainer.making import MAKERS, Clock, Made, Material
from trainer.plan import TrainingPlan
from trainer.replay import KafkaSource
from trainer.settings import FactorsSettings, TrainerSettings
from trainer.split import split_by_time
from trainer.trial import Trial

RULE, WEEK = WindowRule(max_len=6), timedelta(weeks=1)


class Silent:
    def say(self, text: str) -> None: ...

    def progress(self, label: str, done: int, total: int, note: str = "") -> None: ...


def chain(n_users: int = 60, n_items: int = 9) -> Interactions:
    """Users who come one after the other; item ``i`` is followed by ``i + 1``."""
    return make_log([(user, (user + n) % n_items, 100 * user + n) for user in range(n_users) for n in range(6)])


def settings(kind: str, **given: object) -> TrainerSettings:
    return TrainerSettings.model_validate({"model": kind, **given})


def made(
    kind: str, log: Interactions, test_fraction: float, held_back: BoolArray | None = None, **given: object
) -> Made:
    """What a run makes of a log when no model serves."""
    plan = TrainingPlan(
        KafkaSource({}),
        "default",
        Path(),
        settings(kind, **given),
        CleaningRules(window_rule=RULE),
        popularity_half_life=WEEK,
    )
    nothing = np.zeros(len(log), dtype=bool)
    material = Material(
        plan,
        Log(log, len(log), {}, {0: len(log)}, {}),
        split_by_time(log, 0.1, test_fraction),
        Trial(None, nothing if held_back is None else held_back, "no model serves yet"),
    )
    run = Checkpoint(None, {}, None, 60.0, lambda text: None)
    return MAKERS[kind](material, run, Clock(), Silent())


def learned(made: Made) -> BundledRetriever:
    assert isinstance(made.draft, RetrieverDraft)
    return made.draft.retriever


@pytest.mark.parametrize(
    ("kind", "section", "values", "config"),
    [
        ("popularity", "popularity", {"half_life_s": 60}, PopularityConfig(half_life_s=60)),
        ("markov", "markov", {"max_rules": 7}, MarkovConfig(max_rules=7)),
        ("session-knn", "session_knn", {"window_len": 2}, SessionKNNConfig(window_len=2)),
    ],
)
def test_each_kind_is_made_with_the_configuration_of_its_section(
    kind: str, section: str, values: dict[str, object], config: object
) -> None:
    assert new_retriever(settings(kind, **{section: values})).config == config
    assert new_retriever(settings(kind)).config == type(config)()


@pytest.mark.parametrize("kind", RETRIEVERS)
def test_a_retriever_ends_with_all_events_learned_once(kind: str) -> None:
    log = chain()
    expected, ours = RETRIEVERS[kind](), learned(made(kind, log, 0.1))
    lessons = Lessons.of(log, RULE)
    assert len(lessons) == len(log)
    expected.learn(lessons.session_W, lessons.item_W, lessons.time_s_W)
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(ours.arrays()[name], array)


def test_figures_are_those_of_one_that_has_learned_everything_before_the_test_part_and_nothing_of_it() -> None:
    """In the newest tenth 1 is followed by 5: a chain that knew that would find it, one that does not finds 2."""
    old = [(user, n, 100 * user + n) for user in range(90) for n in (1, 2)]
    new = [(user, n, 100 * user + n) for user in range(90, 100) for n in (1, 5)]
    log = make_log(old + new)
    model = made("markov", log, 0.1)
    assert (model.figures["n_test_events"], model.figures["recall@10"]) == (10, 0)
    assert learned(model).retrieve(np.array([[2]]), 2)[0].tolist() == [[3, 6]]


@pytest.mark.parametrize("kind", ["markov", "session-knn"])
def test_what_follows_is_found_far_better_than_by_popularity(kind: str) -> None:
    log = chain(n_users=120, n_items=80)
    figures = made(kind, log, 0.2).figures
    assert figures["mrr@10"] > 0.5 > 2 * figures["popularity_mrr@10"]


def test_without_a_test_part_all_is_learned_and_nothing_measured() -> None:
    log = chain()
    model = made("popularity", log, 0.0)
    assert model.figures == {}
    assert (learned(model).retrieve(np.array([[1]]), 9)[0] > 0).all()


def test_what_is_held_back_for_the_gate_is_learned_last() -> None:
    log = chain()
    held_back = np.zeros(len(log), dtype=bool)
    held_back[-4:-2] = True
    lessons, expected = Lessons.of(log, RULE), RETRIEVERS["session-knn"]()
    for which in (~held_back, held_back):
        lessons.teach(expected, which, "", Silent())
    ours = learned(made("session-knn", log, 0.1, held_back))
    for name, array in expected.arrays().items():
        np.testing.assert_array_equal(ours.arrays()[name], array)


def test_factors_end_with_all_events_and_their_figures_are_of_before_the_test_part() -> None:
    """In the newest tenth there are users who choose 1 and 9 together, and nobody did so before."""
    old = [(user, n + 4 * (user % 2), 100 * user + n) for user in range(90) for n in (1, 2, 3, 4)]
    new = [(user, n, 100 * user + n) for user in range(90, 100) for n in (1, 9)]
    log, small = make_log(old + new), {"embedding_dim": 4, "regularization": 1.0}
    model = made("mf", log, 20 / 380, mf=small)
    assert isinstance(model.draft, EncoderDraft)
    assert (model.figures["n_test_events"], model.figures["recall@10"]) == (10, 0)
    expected = fit_factors(log, len(log.item_ids), FactorsSettings.model_validate(small), seed=0)
    np.testing.assert_array_equal(model.draft.encoder.item_vectors, expected.item_vectors)
    assert model.index is not None


def test_the_gate_asks_factors_that_have_not_learned_what_is_held_back(monkeypatch: pytest.MonkeyPatch) -> None:
    log, learned_of = chain(), []

    def spy(events: Interactions, *given: object) -> object:
        learned_of.append(len(events))
        return fit_factors(events, *given)  # type: ignore[arg-type]

    monkeypatch.setattr("trainer.making.fit_factors", spy)
    held_back = np.zeros(len(log), dtype=bool)
    held_back[-4:] = True
    n_test = int(split_by_time(log, 0.1, 0.2).test.sum())
    made("mf", log, 0.2, held_back, mf={"embedding_dim": 4})
    assert learned_of == [len(log) - n_test, len(log) - 4, len(log)]
