"""The demo's workers and trainers as processes."""

from __future__ import annotations

import subprocess
import sys
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from streams.cli.demo.processes import Child, Children, Worker


class Pages(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b'{"partitions": [1, 3], "model_version": "v1"}' if self.path == "/health" else b"{}"
        self.send_response(503 if self.path == "/ready" else 200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def sleeper():
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    yield process
    process.kill()
    process.wait()


def test_a_worker_is_asked_where_its_log_says(tmp_path: Path, sleeper) -> None:
    server = HTTPServer(("127.0.0.1", 0), Pages)
    Thread(target=server.serve_forever, daemon=True).start()
    log = tmp_path / "worker.log"
    log.write_text("a warning first\n")
    worker = Worker("worker 1", sleeper, log)
    assert not worker.ready
    assert worker.health() == {}
    log.write_text(f"a warning first\nworker: http://127.0.0.1:{server.server_port}  cluster c, 8 partitions\n")
    assert not worker.ready
    assert worker.health() == {"partitions": [1, 3], "model_version": "v1"}
    server.shutdown()
    server.server_close()


def test_last_words_name_the_exit_code_and_the_end_of_the_log(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    log.write_text("starting\nstreamrec: cannot reach Kafka\n\n")
    process = subprocess.Popen([sys.executable, "-c", "raise SystemExit(1)"])
    process.wait()
    assert Child("the trainer", process, log).last_words() == (
        "the trainer ended with exit code 1, saying: streamrec: cannot reach Kafka"
    )
    assert Child("the trainer", process, None).last_words() == "the trainer ended with exit code 1"


def test_leaving_ends_every_process_also_after_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The real commands would end by themselves for want of a settings file, so others stand in."""
    script = tmp_path / "sleep.sh"
    script.write_text("sleep 60\n")
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        return real(["/bin/sh", str(script)] if "streams.cli" in command else command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    children = Children(tmp_path / "streamrec.toml", tmp_path)
    with suppress(RuntimeError), children:
        children.worker("worker 1")
        children.trainer("the trainer", log=tmp_path / "t.log")
        assert [child.running for child in children.started] == [True, True]
        raise RuntimeError
    assert [child.running for child in children.started] == [False, False]


def test_the_environment_does_not_reach_the_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STREAMREC_KAFKA__BROKERS", "production:9092")
    seen: dict[str, str] = {}
    real = subprocess.Popen

    def popen(command: list[str], **options: object) -> subprocess.Popen[bytes]:
        if "streams.cli" in command:
            seen.update(options.pop("env"))  # type: ignore[call-overload]
            command = ["/bin/true"]
        return real(command, **options)

    monkeypatch.setattr(subprocess, "Popen", popen)
    with Children(tmp_path / "streamrec.toml", tmp_path) as children:
        children.worker("worker 1")
    assert seen
    assert not [name for name in seen if name.startswith("STREAMREC_")]
