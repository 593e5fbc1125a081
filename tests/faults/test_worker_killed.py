"""Workers that die at the worst moment: state stays exact, no list is lost."""

from __future__ import annotations

from tests.exactness import check_exact
from tests.faults.kills import play
from tests.faults.staged_worker import COMMAND, CRASHED, Stage
from tests.processes import (
    Deployment,
    applied,
    clicks,
    committed,
    publish_interactions,
    read_lists,
)


def test_five_kills_under_load_leave_exact_state_and_lose_no_list(deployment: Deployment) -> None:
    summary, problems = play(deployment, deployment.serve(), 5, seed=4)
    assert problems == []
    assert summary.exact
    assert summary.kills == 5
    assert summary.events > 500


def test_crash_in_the_midst_of_producing_repeats_lists_with_the_same_ids(deployment: Deployment) -> None:
    model = deployment.serve()
    publish_interactions(deployment.kafka, clicks(600))
    worker = deployment.worker(COMMAND, STAGE=Stage.CRASH_PRODUCING, STAGE_AT="8")
    assert worker.wait() == CRASHED
    assert len(read_lists(deployment.kafka)) > sum(applied(deployment.settings).values())
    deployment.worker()
    assert check_exact(deployment.settings, model).repeated > 0


def test_crash_between_produce_and_script_repeats_lists_with_the_same_ids(deployment: Deployment) -> None:
    model = deployment.serve()
    publish_interactions(deployment.kafka, clicks(600))
    worker = deployment.worker(COMMAND, STAGE=Stage.CRASH_BEFORE, STAGE_AT="8")
    assert worker.wait() == CRASHED
    assert len(read_lists(deployment.kafka)) > sum(applied(deployment.settings).values())
    deployment.worker()
    assert check_exact(deployment.settings, model).repeated > 0


def test_crash_between_script_and_commit_repeats_nothing_that_was_applied(deployment: Deployment) -> None:
    """Lists of the other partitions' batches, which were under way, may come again."""
    model = deployment.serve()
    publish_interactions(deployment.kafka, clicks(600))
    worker = deployment.worker(COMMAND, STAGE=Stage.CRASH_AFTER, STAGE_AT="8")
    assert worker.wait() == CRASHED
    crashed_at = applied(deployment.settings)
    assert 0 < sum(crashed_at.values()) < 600
    assert sum(committed(deployment.kafka).values()) < sum(crashed_at.values())
    deployment.worker()
    lists = check_exact(deployment.settings, model).lists
    of_applied = [made.recommendation_id for made in lists if made.source_offset < crashed_at[made.source_partition]]
    assert len(of_applied) == len(set(of_applied)) == sum(crashed_at.values())
