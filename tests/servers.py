"""Servers that tests start, kill, pause and restart: the real Apache Kafka and a Valkey that keeps its data."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.processes import Guard, end_process, free_port, redis_answers, wait_until_up
from streams.settings import KafkaSettings, RedisSettings, TopicNames
from streams.stack import start_valkey

REPOSITORY = Path(__file__).resolve().parent.parent


def unique_names(kafka: KafkaSettings) -> KafkaSettings:
    """The same broker with topics and a group that no other test uses."""
    prefix = f"t{uuid.uuid4().hex[:8]}"
    names = {key: f"{prefix}-{name}" for key, name in TopicNames().model_dump().items()}
    return kafka.model_copy(update={"group_id": prefix, "topics": TopicNames(**names)})


def kafka_script() -> Path:
    """The script that starts and stops a real Kafka node."""
    home = Path(os.environ.get("STREAMREC_KAFKA_HOME") or REPOSITORY.parent / "shared" / "kafka")
    return home / "kafka"


def why_no_real_kafka() -> str | None:
    """What is missing for the real Apache Kafka; None if nothing is."""
    if not kafka_script().is_file():
        return f"no script {kafka_script()}; set STREAMREC_KAFKA_HOME"
    if not shutil.which("java"):
        return "no java on the PATH; install Java 17"
    return None


class RealKafka:
    """One node of Apache Kafka that survives being killed: the same port and the same data after `start`.

    Args:
        directory: Where its data, its log and its port live.
        sasl: Username and password that clients must log in with.
    """

    def __init__(self, directory: Path, sasl: tuple[str, str] | None = None) -> None:
        self._directory = directory
        self._sasl = sasl
        self._guard = Guard()

    def __enter__(self) -> Self:
        try:
            try:
                self.start()
            except RuntimeError:  # one cluster id in 64 begins with a dash, which Kafka's own tool takes for an option
                shutil.rmtree(self._directory)
                self._directory.mkdir()
                self.start()
        except BaseException:
            self._guard.dismiss()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        self._guard.dismiss()

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it answers."""
        login = ["--sasl", ":".join(self._sasl)] if self._sasl else []
        self.brokers = self._run("start", *login).split()[-1]
        self._guard.watch(self.pid)

    def stop(self) -> None:
        """Shut it down in order."""
        self._run("stop")

    def kill(self) -> None:
        """SIGKILL."""
        self._run("stop", "--signal", "KILL")

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        os.kill(self.pid, signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        os.kill(self.pid, signal.SIGCONT)

    @property
    def pid(self) -> int:
        """The broker's process."""
        return int((self._directory / "pid").read_text())

    @property
    def kafka(self) -> KafkaSettings:
        """How to reach it, credentials included."""
        login = {}
        if self._sasl:
            username, password = self._sasl
            login = {"security_protocol": "SASL_PLAINTEXT", "sasl_username": username, "sasl_password": password}
        return KafkaSettings.model_validate({"brokers": self.brokers, "partitions": 4, **login})

    def _run(self, command: str, *arguments: str) -> str:
        done = subprocess.run(
            [kafka_script(), command, "--dir", self._directory, *arguments], capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"kafka {command} failed: {done.stdout}{done.stderr}")
        return done.stdout


class Valkey:
    """A Valkey with an append-only file: after `kill` and `start` it has its data back, on the same port.

    Args:
        directory: Where its data and its log live.
        password: Password that clients must give.
    """

    process: subprocess.Popen[bytes]

    def __init__(self, directory: Path, password: str | None = None) -> None:
        self._directory = directory
        self._password = password
        self._guard = Guard()
        self.port = free_port()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        end_process(self.process)
        self._guard.dismiss()

    @property
    def data(self) -> Path:
        """The directory of the append-only file."""
        return self._directory / "data"

    @property
    def redis(self) -> RedisSettings:
        """How to reach it, password included."""
        return RedisSettings.model_validate({"url": f"redis://127.0.0.1:{self.port}/0", "password": self._password})

    def start(self) -> None:
        """Start it, for the first time or again, and wait until it has loaded its data."""
        self.data.mkdir(parents=True, exist_ok=True)
        log = self._directory / "valkey.log"
        self.process = start_valkey(self.port, log, self._password, self.data)
        self._guard.watch(self.process.pid)
        if not wait_until_up(self.process, self.port, redis_answers):
            end_process(self.process)
            self._guard.dismiss()
            raise RuntimeError(f"Valkey did not come up: {log.read_text()[-500:]}")

    def stop(self) -> None:
        """Shut it down in order."""
        end_process(self.process)

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: connections stay open and nothing answers."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)
