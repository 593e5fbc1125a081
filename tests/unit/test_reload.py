"""Hot reload's decisions, without files, threads or a broker."""

from __future__ import annotations

import pytest

from encoders.records import BundleReference, ModelUpdate
from streams.reload import LEGAL_MOVES, Refused, ReloadPlan, ReloadState

VERIFYING, WARMING, ACTIVE = ReloadState.VERIFYING, ReloadState.WARMING, ReloadState.ACTIVE


def reference(version: str) -> BundleReference:
    return BundleReference(version=version, uri=f"/bundles/{version}", manifest_sha256=f"{ord(version[0]):064x}")


def update(version: str, previous: str | None = None) -> ModelUpdate:
    before = reference(previous) if previous else None
    return ModelUpdate(model="gru", previous=before, **reference(version).model_dump())


def begun(plan: ReloadPlan) -> str | None:
    """Version of the attempt that begins now."""
    attempt = plan.begin()
    return attempt.version if attempt else None


def serve(plan: ReloadPlan, version: str) -> None:
    """Offer a good model and carry it through."""
    plan.offer(update(version))
    assert begun(plan) == version
    finish(plan)


def finish(plan: ReloadPlan) -> None:
    """Carry the attempt under way through."""
    for state in (VERIFYING, WARMING, ACTIVE):
        plan.advance(state)


@pytest.fixture
def plan() -> ReloadPlan:
    return ReloadPlan()


def test_nothing_begins_before_an_update(plan: ReloadPlan) -> None:
    assert plan.begin() is None
    assert (plan.state, plan.settled) == (ReloadState.IDLE, True)


def test_a_good_model_goes_through_every_state_to_active(plan: ReloadPlan) -> None:
    plan.offer(update("a"))
    assert not plan.settled
    assert plan.begin() == reference("a")
    assert plan.state is ReloadState.LOADING
    finish(plan)
    assert (plan.state, plan.active, plan.refused, plan.settled) == (ACTIVE, reference("a"), None, True)


def test_every_move_outside_the_table_is_refused_and_changes_nothing(plan: ReloadPlan) -> None:
    plan.offer(update("a"))
    plan.begin()
    for start in ReloadState:
        for target in set(ReloadState) - LEGAL_MOVES[start]:
            plan.state = start
            with pytest.raises(ValueError, match=f"from {start.value} to {target.value}"):
                plan.advance(target)
            assert plan.state is start


def test_the_table_knows_every_state_and_none_is_a_dead_end() -> None:
    assert set(LEGAL_MOVES) == set(ReloadState)
    assert all(LEGAL_MOVES.values())


@pytest.mark.parametrize("steps", [0, 1, 2])
def test_a_bad_model_leaves_the_active_one_and_says_why(plan: ReloadPlan, steps: int) -> None:
    serve(plan, "a")
    plan.offer(update("b", previous="a"))
    plan.begin()
    for state in (VERIFYING, WARMING)[:steps]:
        plan.advance(state)
    plan.fail("wrong hash")
    assert (plan.state, plan.active, plan.refused) == (ReloadState.FAILED, reference("a"), Refused("b", "wrong hash"))
    assert plan.settled
    assert plan.begin() is None


def test_after_a_bad_model_the_next_good_one_is_served(plan: ReloadPlan) -> None:
    serve(plan, "a")
    plan.offer(update("b"))
    plan.begin()
    plan.fail("wrong hash")
    serve(plan, "c")
    assert (plan.active, plan.refused) == (reference("c"), None)


def test_a_refused_model_that_is_announced_again_is_tried_again(plan: ReloadPlan) -> None:
    plan.offer(update("a"))
    plan.begin()
    plan.fail("not there yet")
    serve(plan, "a")
    assert plan.active == reference("a")


def test_a_worker_without_a_model_falls_back_to_previous_and_still_says_what_it_refused(plan: ReloadPlan) -> None:
    plan.offer(update("b", previous="a"))
    plan.begin()
    plan.fail("NaN")
    assert (plan.fallback, plan.settled) == (reference("a"), False)
    assert begun(plan) == "a"
    finish(plan)
    assert (plan.state, plan.active, plan.refused) == (ACTIVE, reference("a"), Refused("b", "NaN"))
    assert plan.falling_back


def test_a_bad_previous_ends_the_attempts(plan: ReloadPlan) -> None:
    plan.offer(update("b", previous="a"))
    plan.begin()
    plan.fail("NaN")
    plan.begin()
    plan.fail("no such file")
    assert (plan.state, plan.active, plan.settled) == (ReloadState.FAILED, None, True)
    assert plan.refused == Refused("a", "no such file")


def test_a_previous_that_is_the_refused_model_itself_is_not_tried(plan: ReloadPlan) -> None:
    plan.offer(update("b", previous="b"))
    plan.begin()
    plan.fail("NaN")
    assert plan.begin() is None


def test_a_good_model_after_a_fallback_is_no_fallback(plan: ReloadPlan) -> None:
    plan.offer(update("b", previous="a"))
    plan.begin()
    plan.fail("NaN")
    plan.begin()
    finish(plan)
    serve(plan, "c")
    assert (plan.active, plan.refused, plan.falling_back) == (reference("c"), None, False)


def test_of_several_updates_while_loading_only_the_newest_is_loaded_next(plan: ReloadPlan) -> None:
    plan.offer(update("a"))
    plan.begin()
    plan.offer(update("b"))
    plan.offer(update("c"))
    assert plan.overtaken
    plan.abandon()
    assert plan.state is ReloadState.IDLE
    assert begun(plan) == "c"
    assert not plan.overtaken


def test_an_overtaken_attempt_goes_back_to_the_active_model(plan: ReloadPlan) -> None:
    serve(plan, "a")
    plan.offer(update("b"))
    plan.begin()
    plan.advance(VERIFYING)
    plan.offer(update("c"))
    plan.abandon()
    assert (plan.state, plan.active) == (ACTIVE, reference("a"))


def test_an_overtaken_attempt_that_fails_is_no_failure_and_needs_no_fallback(plan: ReloadPlan) -> None:
    plan.offer(update("b", previous="a"))
    plan.begin()
    plan.offer(update("c"))
    plan.fail("wrong hash")
    assert (plan.state, plan.refused) == (ReloadState.IDLE, None)
    assert begun(plan) == "c"


def test_an_update_that_is_offered_again_while_it_loads_goes_on_loading(plan: ReloadPlan) -> None:
    plan.offer(update("a"))
    plan.begin()
    plan.offer(update("b"))
    plan.offer(update("a"))
    assert not plan.overtaken
    finish(plan)
    assert (plan.active, plan.settled) == (reference("a"), True)


def test_the_active_model_is_not_loaded_again(plan: ReloadPlan) -> None:
    serve(plan, "a")
    plan.offer(update("a"))
    assert plan.begin() is None
    assert plan.state is ACTIVE


def test_going_back_to_the_active_model_stops_the_attempt_under_way(plan: ReloadPlan) -> None:
    serve(plan, "a")
    plan.offer(update("b"))
    plan.begin()
    plan.offer(update("a"))
    assert plan.overtaken
    plan.abandon()
    assert (plan.state, plan.begin()) == (ACTIVE, None)


def test_going_back_to_the_active_model_ends_a_failure(plan: ReloadPlan) -> None:
    serve(plan, "a")
    plan.offer(update("b"))
    plan.begin()
    plan.fail("wrong hash")
    plan.offer(update("a"))
    assert (plan.state, plan.refused) == (ACTIVE, None)
