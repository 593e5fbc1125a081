"""Workers as real processes, and the topics around them: what goes in, what comes out."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from itertools import count, takewhile
from pathlib import Path
from random import Random
from threading import Event, Thread
from types import TracebackType
from typing import Any, NamedTuple, Self, TypeVar

from kafka import KafkaConsumer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord
from pydantic import SecretStr
from redis.exceptions import RedisError

from encoders.records import BundleReference, Interaction, ModelUpdate, Recommendation
from streams.cli.config import Settings, setting_values, shown
from streams.inspection import StateReader
from streams.processes import Guard
from streams.publish import Pace, open_producer, publish
from streams.settings import KafkaSettings, ModelSettings, RedisSettings, Section
from streams.topics import partition_count
from tests.bundles import RULE, announced, write_model
from tests.servers import REPOSITORY

T = TypeVar("T")
WORKER = ("-m", "streams.cli", "worker")
PATIENCE_S = 60.0
"""How long anything may take before a test gives up; nothing is asserted about how long it took."""
START_MS = 1_700_000_000_000


class RawRecord(NamedTuple):
    """A record as any producer may write it."""

    value: bytes | None
    key: bytes | None = None
    partition: int | None = None
    """None leaves the choice to kafka-python's partitioner."""
    headers: Sequence[tuple[str, bytes]] = ()


def until(holds: Callable[[], T], what: str, seconds: float = PATIENCE_S) -> T:
    """Wait until something holds and return it.

    Raises:
        TimeoutError: Saying what did not come to hold.
    """
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if answer := holds():
            return answer
        time.sleep(0.05)
    raise TimeoutError(f"waited {seconds:.0f} s until {what}")


def settings_file(path: Path, settings: Settings) -> Path:
    """Write settings as a `streamrec.toml`, secrets included."""
    lines = []
    for key, value in setting_values(settings):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else shown(value)
        if plain is not None:
            lines.append(f"{key} = {json.dumps(plain)}")
    path.write_text("\n".join(lines) + "\n")
    return path


class WorkerProcess:
    """`streamrec worker` in a process of its own. Close it at the end.

    Args:
        config: Its settings file.
        log: Where its output goes.
        command: What Python runs, before `--config`; an entry module of a test may stand in.
        environment: What its environment has beside ours.
    """

    process: subprocess.Popen[bytes]

    def __init__(
        self, config: Path, log: Path, command: Sequence[str] = WORKER, environment: dict[str, str] | None = None
    ) -> None:
        self._config, self._log, self._command = config, log, command
        self._environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", **(environment or {})}
        self._guard = Guard()
        self.name = log.stem

    def start(self) -> Self:
        """Start the process, and do not wait for it."""
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, *self._command, "--config", str(self._config), "--port", "0"],
                stdout=output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                env=self._environment,
                cwd=REPOSITORY,
                start_new_session=True,
            )
        self._guard.watch(self.process.pid)
        return self

    @property
    def log(self) -> str:
        """All that it has printed."""
        return self._log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether the process has not ended."""
        return self.process.poll() is None

    @property
    def url(self) -> str:
        """Where its web pages are; waits until it says so."""

        def found() -> re.Match[str] | None:
            self._must_live()
            return re.search(r"^worker: (http://\S+)", self.log, re.MULTILINE)

        return until(found, "the worker names its address")[1]

    def page(self, path: str) -> str:
        """One of its web pages, whatever its status; empty while it does not answer."""
        try:
            with urllib.request.urlopen(self.url + path, timeout=5) as response:
                return str(response.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())
        except OSError:
            return ""

    def ready(self) -> dict[str, Any]:
        """What `/ready` says; empty while it does not answer."""
        return dict(json.loads(self.page("/ready") or "{}"))

    def health(self) -> dict[str, Any]:
        """What `/health` says; empty while it does not answer."""
        return dict(json.loads(self.page("/health") or "{}"))

    def metric(self, name: str, **labels: str) -> float:
        """Sum of a metric's samples that carry these labels, as `/metrics` shows it."""
        total = 0.0
        for line in self.page("/metrics").splitlines():
            match = re.fullmatch(rf"streamrec_{name}(?:\{{(.*)\}})? (\S+)", line)
            if match and all(f'{key}="{value}"' in (match[1] or "") for key, value in labels.items()):
                total += float(match[2])
        return total

    def wait_ready(self) -> Self:
        """Wait until `/ready` is content."""
        until(lambda: self._must_live() and self.ready().get("ready"), "the worker is ready")
        return self

    def wait_partitions(self, partitions: Iterable[int]) -> Self:
        """Wait until it owns exactly these partitions."""
        wanted = sorted(partitions)
        until(lambda: self._must_live() and self.health().get("partitions") == wanted, f"it owns {wanted}")
        return self

    def wait_log(self, text: str) -> Self:
        """Wait until it has printed this."""
        until(lambda: text in self.log, f"{self.name} says {text!r}")
        return self

    def kill(self) -> None:
        """SIGKILL."""
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """SIGSTOP: the process stands still and its connections stay open."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        self.process.send_signal(signal.SIGCONT)

    def terminate(self) -> int:
        """SIGTERM, and wait; the exit code."""
        self.process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Wait until it ends by itself; the exit code."""
        return self.process.wait(PATIENCE_S)

    def close(self) -> None:
        """Kill it if it still runs."""
        self.kill()
        self._guard.dismiss()

    def _must_live(self) -> bool:
        if not self.alive:
            raise AssertionError(f"the worker ended with code {self.process.returncode}:\n{self.log[-3000:]}")
        return True


class Deployment:
    """The workers of one test, over one broker and one Redis; leaving the context kills them all.

    Args:
        kafka: The broker and the topics, which exist.
        redis: The Redis.
        directory: Where settings files, logs and bundles go.
        sections: Other sections of the settings, such as `worker`.
    """

    def __init__(self, kafka: KafkaSettings, redis: RedisSettings, directory: Path, **sections: Section) -> None:
        model = ModelSettings(window=RULE, bundles=directory / "bundles")
        self.settings = Settings(**{"kafka": kafka, "redis": redis, "model": model, **sections})
        self.directory = directory
        self.workers: list[WorkerProcess] = []
        self._numbers = count()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for worker in self.workers:
            worker.close()
            print(f"--- {worker.name} said:\n{worker.log[-6000:]}")  # pytest shows it with a test that failed

    @property
    def kafka(self) -> KafkaSettings:
        """The broker and the topics."""
        return self.settings.kafka

    def worker(self, command: Sequence[str] = WORKER, **environment: str) -> WorkerProcess:
        """Start one more worker, and do not wait for it.

        Args:
            command: See `WorkerProcess`.
            environment: Variables for it alone.
        """
        log = self.directory / f"worker-{next(self._numbers)}.log"
        self.workers.append(WorkerProcess(self.config(), log, command, environment))
        return self.workers[-1].start()

    def config(self) -> Path:
        """The settings file, for commands."""
        return settings_file(self.directory / "streamrec.toml", self.settings)

    def serve(self, seed: int = 0) -> BundleReference:
        """Make a small model and announce it."""
        reference = write_model(self.directory / "bundles", seed)
        announce(self.kafka, announced(reference))
        return reference


def clicks(n: int, *, users: int = 30, items: int = 60, seed: int = 0) -> list[Interaction]:
    """Clicks of a few users on a few items, one second after the other, every event id once.

    The models of `tests.bundles` know the items "1" … "40", so they can answer for two thirds of the events.
    """
    random = Random(seed)
    return [
        Interaction(
            event_id=f"{seed}-{number}",
            user_id=f"user-{random.randrange(users)}",
            item_id=str(1 + random.randrange(items)),
            event_type="click",
            timestamp_ms=START_MS + 1000 * number,
        )
        for number in range(n)
    ]


def publish_interactions(kafka: KafkaSettings, interactions: Iterable[Interaction], rate: float | None = None) -> None:
    """Publish events as the demo does and wait until the broker has all of them.

    Args:
        kafka: Where to.
        interactions: The events.
        rate: Events a second; None for as fast as they go.
    """
    with closing(open_producer(kafka)) as producer:
        publish(producer, kafka.topics.interactions, interactions, pace=Pace(rate))


@contextmanager
def publishing(kafka: KafkaSettings, interactions: Iterable[Interaction], rate: float) -> Iterator[None]:
    """Publish events at a pace for as long as the body runs: whatever happens there happens in mid-stream.

    Args:
        kafka: Where to.
        interactions: More than the body can need; what is left over is not published.
        rate: Events a second.
    """
    with beside(lambda over: publish_interactions(kafka, takewhile(lambda _: not over.is_set(), interactions), rate)):
        yield


@contextmanager
def beside(work: Callable[[Event], None]) -> Iterator[None]:
    """Do something in a thread while the body runs; it is told when the body is over, and waited for.

    Raises:
        Exception: What went wrong in the thread, unless the body failed by itself.
    """
    over = Event()
    failures: list[Exception] = []

    def run() -> None:
        try:
            work(over)
        except Exception as error:  # raised again where it is waited for
            failures.append(error)

    thread = Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()
    if failures:
        raise failures[0]


def publish_raw(kafka: KafkaSettings, topic: str, records: Iterable[RawRecord]) -> None:
    """Publish records as they are and wait until the broker has all of them."""
    with closing(open_producer(kafka)) as producer:
        futures = [
            producer.send(topic, key=r.key, value=r.value, partition=r.partition, headers=list(r.headers))
            for r in records
        ]
        for future in futures:
            future.get(PATIENCE_S)


def announce(kafka: KafkaSettings, update: ModelUpdate) -> None:
    """Publish a model update."""
    publish_raw(kafka, kafka.topics.model_updates, [RawRecord(update.to_json(), update.model.encode())])


def read_topic(kafka: KafkaSettings, topic: str) -> list[ConsumerRecord]:
    """All committed records that the topic holds, each partition in the order of its offsets.

    Complete on every broker: Tansu names the beginning of the last batch (+ 1) as a log's end, so each partition is
    read up to the highwater that came with its last fetch.
    """
    with closing(
        KafkaConsumer(
            **kafka.kafka_python_config(),
            isolation_level="read_committed",
            enable_auto_commit=False,
            fetch_max_wait_ms=50,
            max_partition_fetch_bytes=10 * 1024 * 1024,
        )
    ) as consumer:
        places = [TopicPartition(topic, number) for number in range(partition_count(kafka, topic) or 0)]
        consumer.assign(places)
        consumer.seek_to_beginning(*places)
        begins, ends = consumer.beginning_offsets(places), consumer.end_offsets(places)
        unread = {place for place in places if ends[place] > begins[place]}
        records: list[ConsumerRecord] = []

        def all_read() -> bool:
            for place, found in consumer.poll(timeout_ms=200).items():
                records.extend(found)
                ends[place] = max(ends[place], consumer.highwater(place) or 0)
            unread.difference_update([place for place in unread if consumer.position(place) >= ends[place]])
            return not unread

        until(all_read, f"topic {topic} is read to its end")
    return sorted(records, key=lambda record: (record.partition, record.offset))


def read_lists(kafka: KafkaSettings) -> list[Recommendation]:
    """Every list that was published, repeats included."""
    return [
        Recommendation.model_validate_json(record.value) for record in read_topic(kafka, kafka.topics.recommendations)
    ]


def applied(settings: Settings) -> dict[int, int]:
    """Offset of the next record to apply, by partition; empty while Redis does not answer."""
    reader = StateReader.of(settings.redis, settings.kafka)
    try:
        found = {partition: reader.applied(partition) for partition in reader.partitions()}
    except (RedisError, OSError):
        return {}
    return {partition: state.offset for partition, state in found.items() if state}


def wait_applied(settings: Settings, n_records: int) -> None:
    """Wait until at least so many records are applied, over all partitions, of a topic that lost none."""
    until(lambda: sum(applied(settings).values()) >= n_records, f"{n_records} records are applied")


def committed(kafka: KafkaSettings) -> dict[int, int]:
    """What the worker's group has committed of `interactions`, by partition."""
    with closing(KafkaConsumer(**kafka.kafka_python_config(), group_id=kafka.group_id)) as consumer:
        topic = kafka.topics.interactions
        found = {number: consumer.committed(TopicPartition(topic, number)) for number in range(kafka.partitions)}
    return {number: offset for number, offset in found.items() if offset is not None}
