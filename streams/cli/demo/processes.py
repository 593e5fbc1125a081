"""The demo's own processes: workers and trainers, each with a log, none left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from streams.processes import Guard, end_process


@dataclass
class Child:
    """One process and where its output goes."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path | None

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.poll() is None

    def last_words(self) -> str:
        """How it ended, for messages."""
        lines = self.log.read_text(errors="replace").strip().splitlines() if self.log else []
        said = f", saying: {lines[-1]}" if lines else ""
        return f"{self.name} ended with exit code {self.process.returncode}{said}"


@dataclass
class Worker(Child):
    """A worker process and the address of its web pages."""

    address: str = ""

    @property
    def ready(self) -> bool:
        """Whether it says that it is."""
        return self._ask("/ready")[0] == 200

    def health(self) -> dict[str, Any]:
        """What it tells of itself: `partitions`, `model_version` and more; empty if it does not answer."""
        status, body = self._ask("/health")
        answer: dict[str, Any] = json.loads(body) if status == 200 else {}
        return answer

    def _ask(self, path: str) -> tuple[int, bytes]:
        if not self.address and not self._find_address():
            return 0, b""
        connection = HTTPConnection(self.address, timeout=2.0)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read()
        except (OSError, HTTPException):
            return 0, b""
        finally:
            connection.close()

    def _find_address(self) -> bool:
        """Look for the line in which a worker says where its pages are."""
        assert self.log
        for line in self.log.read_text(errors="replace").splitlines():
            if line.startswith("worker: http://"):
                self.address = line.split()[1].removeprefix("http://")
                return True
        return False


class Children:
    """Starts workers and trainers, and ends all of them on exit, however the demo ends.

    They are out of Ctrl-C's reach, so that the demo ends them in order; if the demo itself is killed, a
    guard ends them.

    Args:
        config: The settings file for all of them.
        logs: Where their logs go.
    """

    def __init__(self, config: Path, logs: Path) -> None:
        self._config = config
        self._logs = logs
        self.started: list[Child] = []

    def __enter__(self) -> Self:
        self._guard = Guard()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for child in self.started:
            if child.running:
                child.process.terminate()  # all at once, so that they end side by side
        for child in self.started:
            end_process(child.process)
        self._guard.dismiss()

    def worker(self, name: str) -> Worker:
        """Start a worker; it is not ready yet."""
        log = self._logs / f"{name.replace(' ', '-')}.log"
        child = Worker(name, self._start(["worker"], log), log)
        self.started.append(child)
        return child

    def trainer(self, name: str, *, log: Path | None) -> Child:
        """Start a training run; without a log it shows its progress on the terminal.

        Its model is announced whatever the gate says: what is to be seen is how it is swapped in.
        """
        child = Child(name, self._start(["train", "--force"], log), log)
        self.started.append(child)
        return child

    def _start(self, arguments: list[str], log: Path | None) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "streams.cli", *arguments, "--config", str(self._config)]
        # A variable would beat the settings file, and send the demo's processes to somebody's real servers.
        environment = {name: value for name, value in os.environ.items() if not name.startswith("STREAMREC_")}
        output = log.open("ab") if log else None
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT if output else None,
                start_new_session=True,
                env=environment,
            )
        finally:
            if output:
                output.close()
        self._guard.watch(process.pid)
        return process
