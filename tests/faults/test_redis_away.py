"""Redis that is down, stands still, forgets or loses its answers."""

from __future__ import annotations

import shutil

from tests.exactness import check_exact
from tests.faults.staged_worker import COMMAND, Stage
from tests.processes import (
    Deployment,
    applied,
    clicks,
    committed,
    publish_interactions,
    publishing,
    until,
    wait_applied,
)
from tests.servers import Valkey

WAITING, GOING_ON = "Redis does not take offset", "Redis answers again; going on"


def test_redis_down_at_start_is_an_error_that_names_the_address(with_valkey: Deployment, valkey: Valkey) -> None:
    valkey.stop()
    worker = with_valkey.worker()
    assert worker.wait() == 1
    assert f"cannot use Redis at redis://127.0.0.1:{valkey.port}/0" in worker.log
    assert "correct redis.url" in worker.log
    assert "Traceback" not in worker.log


def test_redis_that_stands_still_at_start_is_the_same_error(with_valkey: Deployment, valkey: Valkey) -> None:
    valkey.pause()
    worker = with_valkey.worker()
    assert worker.wait() == 1
    assert f"cannot use Redis at redis://127.0.0.1:{valkey.port}/0" in worker.log


def test_worker_waits_with_its_partitions_until_redis_is_there(with_valkey: Deployment, valkey: Valkey) -> None:
    model = with_valkey.serve()
    publish_interactions(with_valkey.kafka, clicks(200))
    worker = with_valkey.worker()
    assert worker.url
    valkey.kill()
    worker.wait_log("partitions cannot be acquired yet, waiting: ConnectionError")
    conditions = until(lambda: worker.ready().get("conditions"), "/ready answers")
    partitions = next(condition for condition in conditions if condition["name"] == "partitions")
    assert not partitions["ok"]
    assert "ConnectionError" in partitions["detail"]
    assert worker.health()["status"] == "ok"
    valkey.start()
    worker.wait_log("partitions can be acquired again; going on")
    check_exact(with_valkey.settings, model)


def test_redis_that_stands_still_in_mid_stream_is_waited_for(with_valkey: Deployment, valkey: Valkey) -> None:
    model = with_valkey.serve()
    worker = with_valkey.worker().wait_ready()
    with publishing(with_valkey.kafka, clicks(50_000), rate=400):
        wait_applied(with_valkey.settings, 100)
        valkey.pause()
        worker.wait_log(WAITING)
        valkey.resume()
        worker.wait_log(GOING_ON)
    assert check_exact(with_valkey.settings, model).repeated == 0


def test_redis_killed_and_restarted_in_mid_stream_is_waited_for(with_valkey: Deployment, valkey: Valkey) -> None:
    model = with_valkey.serve()
    worker = with_valkey.worker().wait_ready()
    with publishing(with_valkey.kafka, clicks(50_000), rate=400):
        wait_applied(with_valkey.settings, 100)
        valkey.kill()
        worker.wait_log(WAITING)
        valkey.start()
        worker.wait_log(GOING_ON)
    check_exact(with_valkey.settings, model)


def test_lost_answers_of_the_script_count_nothing_twice(deployment: Deployment) -> None:
    model = deployment.serve()
    publish_interactions(deployment.kafka, clicks(600))
    worker = deployment.worker(COMMAND, STAGE=Stage.LOSE_ANSWERS)
    assert check_exact(deployment.settings, model).repeated == 0
    assert WAITING in worker.log


def test_redis_back_without_its_last_second_is_brought_up_to_date(with_valkey: Deployment, valkey: Valkey) -> None:
    model = with_valkey.serve()
    worker = with_valkey.worker().wait_ready()
    with publishing(with_valkey.kafka, clicks(50_000), rate=400):
        wait_applied(with_valkey.settings, 200)
        saved = shutil.copytree(valkey.data, valkey.data.with_name("saved"))
        saved_until = sum(applied(with_valkey.settings).values())
        until(lambda: sum(committed(with_valkey.kafka).values()) > saved_until, "what is to be lost is committed")
        valkey.kill()
        shutil.rmtree(valkey.data)
        saved.rename(valkey.data)
        valkey.start()
        worker.wait_log("rebuilding state from offset")
    publish_interactions(with_valkey.kafka, clicks(200, seed=1))  # into every partition, so that each is looked at
    check_exact(with_valkey.settings, model)


def test_after_losing_redis_altogether_state_is_rebuilt_and_no_list_is_sent_again(
    with_valkey: Deployment, valkey: Valkey
) -> None:
    model = with_valkey.serve()
    worker = with_valkey.worker().wait_ready()
    publish_interactions(with_valkey.kafka, clicks(600))
    until(lambda: sum(committed(with_valkey.kafka).values()) == 600, "everything is committed")
    valkey.kill()
    shutil.rmtree(valkey.data)
    valkey.start()
    publish_interactions(with_valkey.kafka, clicks(600, seed=1))
    outcome = check_exact(with_valkey.settings, model)
    assert "rebuilding state from offset 0 to" in worker.log
    assert len([made for made in outcome.lists if made.event_id.startswith("0-")]) == 600
