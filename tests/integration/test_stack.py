"""The embedded stack: up quickly, on loopback only, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
import redis

from streams.cli.config import load_settings
from streams.errors import DependencyError
from streams.processes import kafka_answers, redis_answers
from streams.settings import RedisSettings
from streams.stack import EmbeddedStack
from streams.topics import cluster_id
from tests.servers import REPOSITORY, Valkey


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and waits to be reaped does not."""
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return bool(state.strip()) and not state.startswith("Z")


def wait_for(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "did not happen in time"
        time.sleep(0.05)


def test_both_servers_answer_inside_and_are_gone_outside() -> None:
    with EmbeddedStack() as stack:
        broker, valkey = stack.broker_process.pid, stack.redis_process.pid
        assert cluster_id(stack.kafka).startswith("embedded-")
        assert stack.redis.sync_client().ping()
        assert alive(broker)
        assert alive(valkey)
    assert not alive(broker)
    assert not alive(valkey)


def test_each_start_is_another_cluster() -> None:
    with EmbeddedStack() as one, EmbeddedStack() as other:
        assert cluster_id(one.kafka) != cluster_id(other.kafka)
        assert one.brokers != other.brokers


def test_servers_end_when_the_body_fails() -> None:
    with pytest.raises(ZeroDivisionError), EmbeddedStack() as stack:  # noqa: PT012 - the body is what is tested
        pids = [stack.broker_process.pid, stack.redis_process.pid]
        raise ZeroDivisionError
    assert not any(map(alive, pids))


def test_paused_servers_are_ended_too() -> None:
    with EmbeddedStack() as stack:
        pids = [stack.broker_process.pid, stack.redis_process.pid]
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
    assert not any(map(alive, pids))


@pytest.mark.skipif(not Path("/proc/net/tcp").exists(), reason="reads Linux's list of sockets")
def test_only_loopback_is_listened_on() -> None:
    with EmbeddedStack() as stack:
        for process in (stack.broker_process, stack.redis_process):
            inodes = {
                str(link.readlink()).removeprefix("socket:[").rstrip("]")
                for link in Path(f"/proc/{process.pid}/fd").iterdir()
            }
            rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
            addresses = [row[1].split(":")[0] for row in rows if row[3] == "0A" and row[9] in inodes]
            assert addresses == ["0100007F"]  # 127.0.0.1, as the kernel writes it


def test_password_is_asked_for_and_stands_in_no_list_of_processes() -> None:
    password = 'a "quoted\\ one'
    with EmbeddedStack(redis_password=password) as stack:
        assert stack.redis.sync_client().ping()
        assert password not in stack.redis_url
        with pytest.raises(redis.AuthenticationError):
            RedisSettings(url=stack.redis_url).sync_client().ping()
        listed = subprocess.run(["ps", "-e", "-o", "args="], capture_output=True, text=True, check=True).stdout
        assert "quoted" not in listed
        assert tomllib.loads(stack.settings_file())["redis"]["password"] == password


def test_valkey_with_a_directory_keeps_its_data_and_evicts_nothing(tmp_path: Path) -> None:
    with EmbeddedStack(redis_dir=tmp_path / "data") as stack:
        client = stack.redis.sync_client()
        client.set("kept", "yes")
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
    with EmbeddedStack(redis_dir=tmp_path / "data") as stack:
        assert stack.redis.sync_client().get("kept") == b"yes"


def test_logs_stay_where_they_were_asked_for(tmp_path: Path) -> None:
    with EmbeddedStack(logs=tmp_path / "logs"):
        pass
    assert "ready" in (tmp_path / "logs" / "tansu.log").read_text().lower()
    assert (tmp_path / "logs" / "valkey.log").stat().st_size > 0


def test_server_that_cannot_start_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    (tmp_path / "appendonlydir").write_text("a file where Valkey wants a directory")
    with (
        pytest.raises(DependencyError, match=r"did not come up; the end of its valkey\.log: .*appendonlydir"),
        EmbeddedStack(redis_dir=tmp_path),
    ):
        pass


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_command_leaves_no_server_behind(how: signal.Signals, tmp_path: Path) -> None:
    settings = tmp_path / "streamrec.toml"
    command = [sys.executable, "-m", "streams.cli", "stack", "--write", str(settings)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY) as process:
        assert process.stdout
        wait_for(lambda: process.stdout.readline().startswith("Ctrl-C"))  # type: ignore[union-attr]
        written = load_settings(settings)
        assert written.kafka.rebalance_timeout_s == 6
        ports = int(written.kafka.brokers.split(":")[1]), int(written.redis.url.split(":")[2].split("/")[0])
        assert kafka_answers(ports[0])
        assert redis_answers(ports[1])
        process.send_signal(how)
        assert process.wait(15) == (-signal.SIGKILL if how is signal.SIGKILL else 0)
    wait_for(lambda: not kafka_answers(ports[0]) and not redis_answers(ports[1]))


def test_command_fails_when_a_server_ends_by_itself(tmp_path: Path) -> None:
    settings = tmp_path / "streamrec.toml"
    command = [sys.executable, "-m", "streams.cli", "stack", "--write", str(settings)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as process:
        assert process.stdout
        wait_for(lambda: process.stdout.readline().startswith("Ctrl-C"))  # type: ignore[union-attr]
        load_settings(settings).redis.sync_client().shutdown(nosave=True)
        _, errors = process.communicate(timeout=15)
    assert process.returncode == 1
    assert "Valkey ended by itself" in errors
    assert "Traceback" not in errors


def test_valkey_of_the_tests_has_its_data_back_after_sigkill(valkey: Valkey) -> None:
    valkey.redis.sync_client().set("kept", "yes")
    wait_for(lambda: valkey.redis.sync_client().info("persistence")["aof_pending_bio_fsync"] == 0)
    valkey.kill()
    with pytest.raises(redis.ConnectionError):
        valkey.redis.sync_client().ping()
    valkey.start()
    assert valkey.redis.sync_client().get("kept") == b"yes"
