"""Local server processes: start, wait until they answer, end, and leave none behind."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

START_TIMEOUT_S = 20.0
STOP_TIMEOUT_S = 5.0
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
