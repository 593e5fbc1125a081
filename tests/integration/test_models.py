"""A worse model is kept and not served; models are promoted by hand and rolled back while a worker serves."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from encoders.bundle import bundle_reference
from encoders.records import Interaction
from streams.processes import free_port
from streams.settings import KafkaSettings
from tests.exactness import check_exact
from tests.integration.asking import ask
from tests.integration.commands import CommandLine
from tests.integration.conftest import Deployments
from tests.processes import Deployment, WorkerProcess, publish_interactions, until
from trainer.settings import TrainerSettings

N_USERS, N_ITEMS = 60, 100
NOW_MS = time.time_ns() // 1_000_000
TRAINER = TrainerSettings(embedding_dim=16, hidden_dim=32, max_epochs=8, patience=8, batch_size=8)
ONE_STEP_TOO_FEW = ("--max-epochs", "1", "--set", "trainer.learning_rate=1e-9")
"""A fit that leaves the weights as they were drawn."""
pytestmark = pytest.mark.timeout(300)


def walks(wave: int, n_steps: int) -> Iterator[Interaction]:
    """New users who walk through the items in a circle, a step a minute, after those of the wave before."""
    for step in range(n_steps):
        for user in range(N_USERS):
            yield Interaction(
                event_id=f"{wave}-{step}",
                user_id=f"user-{wave}-{user}",
                item_id=f"item-{(7 * user + step) % N_ITEMS}",
                event_type="click",
                timestamp_ms=NOW_MS - 60_000 * (600 - 100 * wave - step),
            )


@pytest.fixture(scope="module")
def deployment(deployments: Deployments, broker: KafkaSettings) -> Iterator[Deployment]:
    with deployments.on(broker, trainer=TRAINER) as shared:
        yield shared


@pytest.fixture(scope="module")
def streamrec(deployment: Deployment) -> CommandLine:
    return CommandLine(deployment.settings, deployment.directory)


@pytest.fixture(scope="module")
def worker(deployment: Deployment) -> WorkerProcess:
    return deployment.worker().wait_ready()


def serves(worker: WorkerProcess, version: str) -> None:
    until(lambda: worker.health().get("model_version") == version, f"{version} answers")


def roles(streamrec: CommandLine) -> dict[str, tuple[str | None, str | None]]:
    """By version, what the gate said and what the bundle is to the workers."""
    listed = json.loads(streamrec.output("models", "list", "--json"))
    return {bundle["version"]: (bundle["verdict"], bundle["role"]) for bundle in listed["bundles"]}


def trained(streamrec: CommandLine, directory: Path, *options: str, code: int = 0) -> dict[str, Any]:
    """What a training run writes of itself."""
    figures = directory / "train.json"
    done = streamrec.run("train", "--json", figures, *options)
    assert done.returncode == code, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return {**json.loads(figures.read_text()), "said": done.stdout}


@pytest.fixture(scope="module")
def good(
    deployment: Deployment, worker: WorkerProcess, streamrec: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """The first model, which the worker serves."""
    publish_interactions(deployment.kafka, walks(1, 40))
    made = trained(streamrec, tmp_path_factory.mktemp("good"))
    serves(worker, made["version"])
    return made


@pytest.fixture(scope="module")
def bad(
    deployment: Deployment, good: dict[str, Any], streamrec: CommandLine, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Any]:
    """A model that has learned nothing, trained when there is something new to compare it on."""
    publish_interactions(deployment.kafka, walks(2, 20))
    return trained(streamrec, tmp_path_factory.mktemp("bad"), *ONE_STEP_TOO_FEW, code=3)


def test_the_first_model_is_promoted_since_none_serves(good: dict[str, Any]) -> None:
    assert (good["announced"], good["previous"]) == (True, None)
    assert good["gate"]["outcome"] == "promoted"
    assert "gate: promoted: no model serves yet" in good["said"]


def test_a_worse_model_is_rejected_and_kept_and_the_worker_goes_on(
    worker: WorkerProcess, streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    comparison = bad["gate"]["comparison"]
    assert (bad["announced"], bad["gate"]["outcome"], bad["gate"]["serving"]) == (False, "rejected", good["version"])
    assert comparison["n_queries"] == 6 * N_USERS  # the newest tenth of 60 steps of 60 users
    assert comparison["candidate"] < comparison["serving"] / 2
    assert comparison["high"] < 0
    assert f"gate: {comparison['metric']} {comparison['candidate']:.4f} against" in bad["said"]
    assert f"`streamrec models promote {bad['version']}` announces it all the same" in bad["said"]
    assert roles(streamrec) == {bad["version"]: ("rejected", None), good["version"]: ("promoted", "serving")}
    assert worker.health()["model_version"] == good["version"]
    assert worker.metric("reloads_total", outcome="active") == 1


def test_its_report_tells_all_and_is_no_part_of_what_is_verified(
    streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    shown = json.loads(streamrec.output("models", "show", bad["version"], "--json"))
    assert shown["report"]["verdict"] == bad["gate"]
    assert shown["report"]["settings"]["settings"]["learning_rate"] == 1e-9
    assert shown["report"]["log"]["n_events"] == 60 * N_USERS
    assert shown["manifest"]["version"] == bad["version"]
    assert "report.json" not in shown["manifest"]["files"]
    text = streamrec.output("models", "show", bad["version"][-6:])
    for part in (
        "not announced",
        f"against {bad['gate']['comparison']['serving']:.4f} of",
        "gate: rejected",
        "recall@10",
    ):
        assert part in text


def test_the_list_says_which_one_serves(streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any]) -> None:
    heading, first, second = streamrec.output("models", "list").splitlines()
    assert heading.split()[0] == "version"
    assert first.split()[0] == bad["version"]
    assert first.split()[-1] == "rejected"
    assert second.split()[0] == good["version"]
    assert second.split()[-2:] == ["promoted", "serving"]


def test_one_that_is_promoted_by_hand_serves_and_a_rollback_brings_the_other_back(
    deployment: Deployment, worker: WorkerProcess, streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    said = streamrec.output("models", "promote", bad["version"])
    assert f"it replaces {good['version']}" in said
    assert "the gate had rejected it: it is worse by more than 2 %" in said
    serves(worker, bad["version"])
    assert ask(deployment.kafka, "user-2-1", "item-1").model_version == bad["version"]
    assert roles(streamrec) == {bad["version"]: ("rejected", "serving"), good["version"]: ("promoted", "previous")}

    assert f"{good['version']} is announced" in streamrec.output("models", "rollback")
    serves(worker, good["version"])
    assert ask(deployment.kafka, "user-2-2", "item-2").model_version == good["version"]

    once_more = json.loads(streamrec.output("models", "rollback", "--json"))
    assert (once_more["version"], once_more["previous"]["version"]) == (bad["version"], good["version"])
    serves(worker, bad["version"])
    streamrec.output("models", "rollback")
    serves(worker, good["version"])
    models = [bundle_reference(Path(made["uri"])) for made in (good, bad)]
    assert check_exact(deployment.settings, *models).repeated == 0
    assert worker.metric("reloads_total", outcome="failed") == 0


def test_what_serves_is_announced_again_with_the_previous_that_it_had(
    streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any]
) -> None:
    update = json.loads(streamrec.output("models", "promote", good["version"], "--json"))
    assert (update["version"], update["previous"]["version"]) == (good["version"], bad["version"])


def test_an_order_announces_what_the_gate_rejects(
    worker: WorkerProcess, streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any], tmp_path: Path
) -> None:
    forced = trained(streamrec, tmp_path, *ONE_STEP_TOO_FEW, "--force")
    assert (forced["announced"], forced["gate"]["outcome"]) == (True, "forced")
    assert forced["gate"]["comparison"]["high"] < 0
    serves(worker, forced["version"])
    streamrec.output("models", "rollback")
    serves(worker, good["version"])


def test_old_bundles_go_but_for_those_that_are_announced(
    streamrec: CommandLine, good: dict[str, Any], bad: dict[str, Any], tmp_path: Path
) -> None:
    """Of three, the newest is the previous of the oldest, which serves."""
    assert list(roles(streamrec).values())[::2] == [("forced", "previous"), ("promoted", "serving")]
    would = streamrec.output("models", "prune", "--keep", "1", "--dry-run")
    assert would == f"would remove  gru  {bad['version']}\n"
    assert Path(bad["uri"]).is_dir()
    assert streamrec.output("models", "prune", "--keep", "1") == f"removed  gru  {bad['version']}\n"
    assert not Path(bad["uri"]).exists()
    assert "nothing to remove" in streamrec.output("models", "prune", "--keep", "1")
    unfit = trained(streamrec, tmp_path, *ONE_STEP_TOO_FEW, "--set", "trainer.keep_bundles=1", code=3)
    assert (Path(unfit["uri"]) / "report.json").is_file()
    assert [role for _, role in roles(streamrec).values()] == [None, "previous", "serving"]


class TestRefusals:
    def test_an_unknown_version(self, streamrec: CommandLine, good: dict[str, Any]) -> None:
        for command in ("show", "promote"):
            error = streamrec.refusal("models", command, "20200101T000000Z-abcdef")
            assert "no model 20200101T000000Z-abcdef" in error
            assert good["version"] in error

    def test_a_bundle_that_a_worker_would_refuse(
        self, streamrec: CommandLine, good: dict[str, Any], worker: WorkerProcess
    ) -> None:
        copied = Path(good["uri"]).parent / "copied"
        shutil.copytree(good["uri"], copied)
        manifest = json.loads((copied / "manifest.json").read_text())
        (copied / "manifest.json").write_text(json.dumps({**manifest, "version": "copied"}))
        (copied / "index.faiss").write_bytes(b"noise")
        assert "index.faiss has 5 bytes" in streamrec.refusal("models", "promote", "copied")
        shutil.rmtree(copied)
        assert worker.health()["model_version"] == good["version"]

    def test_a_folder_that_is_missing(self, streamrec: CommandLine, tmp_path: Path) -> None:
        assert "there is no folder of bundles" in streamrec.refusal("models", "list", "--bundles", tmp_path / "none")

    def test_a_broker_that_is_away(self, streamrec: CommandLine, good: dict[str, Any]) -> None:
        address = f"127.0.0.1:{free_port()}"
        for command in (("list",), ("promote", good["version"]), ("rollback",), ("prune",)):
            error = streamrec.refusal("models", *command, "--set", f"kafka.brokers={address}")
            assert f"cannot reach Kafka at {address}" in error

    def test_a_rollback_of_what_was_never_announced(self, streamrec: CommandLine, good: dict[str, Any]) -> None:
        assert "no model 'other' is announced" in streamrec.refusal("models", "rollback", "--model", "other")


def test_a_first_model_has_nothing_to_roll_back_to(
    deployments: Deployments, broker: KafkaSettings, tmp_path: Path
) -> None:
    with deployments.on(broker) as alone:
        reference = alone.serve()
        error = CommandLine(alone.settings, tmp_path).refusal("models", "rollback")
    assert f"{reference.version} is the first that was announced" in error
