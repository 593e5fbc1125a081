"""The reloader's loop: real bundles, real threads, no broker."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from streams.metrics import WorkerMetrics
from streams.reload import Reloader, ReloadState
from streams.serving import ModelSlot
from tests.bundles import DAMAGES, RULE, announced, write_model


class Worker:
    """What of a worker concerns reloads."""

    def __init__(self) -> None:
        self.slot = ModelSlot()
        self.metrics = WorkerMetrics()
        self.reloader = Reloader(self.slot, RULE, self.metrics)

    @property
    def version(self) -> str | None:
        return self.slot.current.version if self.slot.current else None

    async def until(self, holds: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not holds():  # noqa: ASYNC110  # what is waited for tells nobody
                await asyncio.sleep(0.005)

    async def settled(self) -> ReloadState:
        await self.until(lambda: self.reloader.plan.settled)
        return self.reloader.plan.state

    def figure(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"streamrec_{name}", labels)


@asynccontextmanager
async def running() -> AsyncIterator[Worker]:
    worker = Worker()
    async with worker.reloader:
        yield worker


async def test_an_offered_model_is_swapped_in_and_shown(tmp_path: Path) -> None:
    reference = write_model(tmp_path)
    async with running() as worker:
        assert worker.figure("reload_state", state="idle") == 1
        worker.reloader.offer(announced(reference))
        assert await worker.settled() is ReloadState.ACTIVE
        assert worker.version == reference.version
        assert worker.figure("model_info", version=reference.version) == 1
        assert worker.figure("reload_state", state="active") == 1
        assert worker.figure("reloads_total", outcome="active") == 1


@pytest.mark.parametrize("what", DAMAGES)
async def test_a_bad_bundle_is_refused_and_the_running_model_goes_on(
    tmp_path: Path, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = write_model(tmp_path, seed=1), write_model(tmp_path, seed=2)
    damage, message = DAMAGES[what]
    async with running() as worker:
        worker.reloader.offer(announced(good))
        await worker.settled()
        before = worker.slot.current
        worker.reloader.offer(announced(damage(bad), previous=good))
        assert await worker.settled() is ReloadState.FAILED
        assert worker.slot.current is before
        assert worker.figure("model_info", version=good.version) == 1
        assert worker.figure("reload_state", state="failed") == 1
        assert worker.figure("reloads_total", outcome="failed") == 1
        assert worker.reloader.plan.refused is not None
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(errors) == 1
    assert f"refused model {bad.version}" in errors[0]
    assert f"Model {good.version} goes on" in errors[0]
    assert re.search(message, errors[0])


async def test_a_new_worker_falls_back_to_previous_and_says_so(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    good, bad = write_model(tmp_path, seed=1), write_model(tmp_path, seed=2)
    damage, _ = DAMAGES["wrong hash of a file"]
    async with running() as worker:
        worker.reloader.offer(announced(damage(bad), previous=good))
        assert await worker.settled() is ReloadState.ACTIVE
        assert worker.version == good.version
        assert worker.reloader.plan.refused is not None
        assert worker.reloader.plan.refused.version == bad.version
        assert worker.figure("reloads_total", outcome="fallback") == 1
    assert f"its previous, {good.version}, is tried" in caplog.text


async def test_with_a_bad_previous_no_model_runs_and_the_next_good_one_is_served(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    damage, _ = DAMAGES["missing folder"]
    bad, worse, good = (write_model(tmp_path, seed=seed) for seed in (1, 2, 3))
    async with running() as worker:
        worker.reloader.offer(announced(damage(bad), previous=damage(worse)))
        assert await worker.settled() is ReloadState.FAILED
        assert worker.version is None
        assert "popularity answers" in caplog.text
        worker.reloader.offer(announced(good))
        assert await worker.settled() is ReloadState.ACTIVE
        assert worker.version == good.version


async def test_the_newest_of_many_updates_is_the_one_that_answers(tmp_path: Path) -> None:
    references = [write_model(tmp_path, seed=seed) for seed in range(5)]
    async with running() as worker:
        worker.reloader.offer(announced(references[0]))
        await asyncio.sleep(0)  # the first attempt begins
        for reference in references[1:]:
            worker.reloader.offer(announced(reference))
        assert await worker.settled() is ReloadState.ACTIVE
        assert worker.version == references[-1].version
        assert worker.figure("reloads_total", outcome="active") == 1


async def test_a_fault_that_nobody_foresaw_is_a_refusal_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An encoder may raise anything; the loop must live to load the next model."""

    def explode(model: object) -> None:
        raise MemoryError("no room for a model")

    first, second = write_model(tmp_path, seed=1), write_model(tmp_path, seed=2)
    async with running() as worker:
        with monkeypatch.context() as patched:
            patched.setattr("streams.reload.warm_up", explode)
            worker.reloader.offer(announced(first))
            assert await worker.settled() is ReloadState.FAILED
        assert worker.reloader.plan.refused is not None
        assert worker.reloader.plan.refused.reason == "no room for a model"
        worker.reloader.offer(announced(second))
        assert await worker.settled() is ReloadState.ACTIVE


async def test_the_event_loop_goes_on_while_a_model_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    release = threading.Event()
    monkeypatch.setattr("streams.reload.warm_up", lambda model: release.wait(10))
    async with running() as worker:
        worker.reloader.offer(announced(write_model(tmp_path)))
        await worker.until(lambda: worker.reloader.plan.state is ReloadState.WARMING)
        assert worker.version is None
        release.set()
        assert await worker.settled() is ReloadState.ACTIVE


async def test_stop_returns_while_nothing_is_offered() -> None:
    async with asyncio.timeout(5), running():
        pass
