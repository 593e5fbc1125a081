"""What the demo's steps share: servers, processes, traffic, and waiting with open eyes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from math import inf
from pathlib import Path

from rich.console import Console

from streams.cli.demo.errors import DemoError
from streams.cli.demo.processes import Child, Children, Worker
from streams.cli.demo.traffic import Announced, Ledger, Receiver
from streams.stack import EmbeddedStack

TICK_S = 0.1
ANNOUNCEMENT_TIMEOUT_S = 10.0


class Stage:
    """Servers and processes of one run. Leaving the context ends everything that it started.

    Args:
        console: Where everything is shown.
        directory: For bundles, logs and the settings file.
        top_n: Length of a list.
    """

    def __init__(self, console: Console, directory: Path, top_n: int) -> None:
        self.console = console
        self.logs = directory / "logs"
        self.config = directory / "streamrec.toml"
        self.top_n = top_n
        self.ledger = Ledger()
        self.workers: list[Worker] = []
        self._bundles = directory / "bundles"

    def __enter__(self) -> Stage:
        with ExitStack() as stack:
            self.servers = stack.enter_context(EmbeddedStack(logs=self.logs))
            self.kafka = self.servers.kafka
            self.config.write_text(
                f"{self.servers.settings_file()}\n[worker]\ntop_n = {self.top_n}\n"
                f"\n[model]\nbundles = {json.dumps(str(self._bundles))}\n"
            )
            self.children = stack.enter_context(Children(self.config, self.logs))
            self.receiver = Receiver(self.kafka, self.ledger)
            stack.callback(self.receiver.end)
            self._exits = stack.pop_all()
        return self

    def __exit__(self, *details: object) -> None:
        self._exits.close()

    def step(self, number: int, words: str) -> None:
        """Say which of the demo's steps begins."""
        self.console.print(f"\n{number}. {words}", style="bold", highlight=False, soft_wrap=True)

    def say(self, words: str) -> None:
        """Say something about the step that goes on."""
        self.console.print(f"   {words}", highlight=False, soft_wrap=True)

    def fail(self, complaint: str) -> DemoError:
        """The error for something that did not work out, with the place to look."""
        return DemoError(f"{complaint}; the logs are in {self.logs}")

    def wait(self, until: Callable[[], bool], complaint: str = "", timeout_s: float = inf) -> None:
        """Wait until something has come about, and notice what breaks meanwhile.

        Raises:
            DemoError: If it takes too long, or a worker ends by itself.
        """
        deadline_s = time.monotonic() + timeout_s
        while not until():
            self.check()
            if time.monotonic() > deadline_s:
                raise self.fail(f"{complaint} within {timeout_s:.0f} s")
            time.sleep(TICK_S)

    def wait_for_lists(self, stall_s: float, tick: Callable[[], object]) -> None:
        """Wait until every published event has a list, or no list has come for ``stall_s`` seconds."""
        n_received, moved_s = -1, time.monotonic()
        while self.ledger.n_unanswered and time.monotonic() - moved_s < stall_s:
            self.check()
            if len(self.ledger.received) != n_received:
                n_received, moved_s = len(self.ledger.received), time.monotonic()
            tick()
            time.sleep(TICK_S)
        tick()

    def wait_for_model(self, trainer: Child, nth: int, tick: Callable[[], object]) -> Announced:
        """Wait until a training run has announced the ``nth`` model, counted from 1.

        Raises:
            DemoError: If the run ends without.
        """
        models = self.ledger.models

        def announced_or_over() -> bool:
            tick()
            return len(models) >= nth or not trainer.running

        self.wait(announced_or_over)
        if not trainer.running and trainer.process.returncode:
            raise self.fail(trainer.last_words())
        self.wait(lambda: len(models) >= nth, f"{trainer.name} announced no model", ANNOUNCEMENT_TIMEOUT_S)
        return models[nth - 1]

    def check(self) -> None:
        """Notice what has ended by itself.

        Raises:
            DemoError: If a worker has ended.
        """
        if self.receiver.failure:
            raise self.receiver.failure
        for worker in self.workers:
            if not worker.running:
                raise self.fail(worker.last_words())
