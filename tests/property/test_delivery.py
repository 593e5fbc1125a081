"""State exactly once, lists at least once: many workers over one partition, and everything goes wrong.

Every await of a worker on its store, its producer or the clock stops at a gate. A seeded random choice decides
which worker goes through next, whether the call fails before or after it takes effect, and when a worker
crashes, is stopped and wakes later, or when the store comes back without its last writes. After each run the
state must be what the log amounts to, and every event must have its list.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from encoders.window import WindowRule
from streams.decode import Limits, decode
from streams.errors import OvertakenError
from streams.fold import differences, fold
from streams.output import OutgoingRecord
from streams.pipeline import Rules, Serving, Source
from streams.session import SessionKey, unpack
from streams.settings import TopicNames
from streams.store import Applied, Changes, LogBounds, MemoryStore, Ownership, StoredSession
from streams.worker import Handled, RecordBatch, WorkerRules
from tests.inmemory import NOW_MS, Bench, Fault, MemoryProducer, Record, batch, click, model, record, users_of

RUNS = 60
TOPICS = TopicNames()
RULES = WorkerRules(
    TOPICS,
    "cluster",
    2,
    Rules(window=WindowRule(max_len=6), max_seen=8, recent_events=4),
    dead_letter_patience_s=1e6,
    cached_sessions=3,
)
MODELS = [model("a", max_len=6), model("b", tuple(str(n) for n in range(40, 0, -1)), seed=1, max_len=6)]
SERVINGS = [Serving(), Serving(MODELS[0]), Serving(MODELS[1])]
HOME, ELSEWHERE = users_of(0, 2, 4), users_of(1, 2, 1)


class Gates:
    """Where workers wait until the simulation lets one of them go on."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.waiting: dict[Participant, asyncio.Future[None]] = {}
        self.calm = False
        """Nothing fails any more."""

    async def wait(self, who: Participant) -> None:
        """Stop here until let through."""
        self.waiting[who] = asyncio.get_running_loop().create_future()
        await self.waiting[who]

    def happens(self, probability: float) -> bool:
        return not self.calm and self.rng.random() < probability


class GatedStore(MemoryStore):
    """One participant's way to the state that all share."""

    def __init__(self, simulation: Simulation, who: Participant) -> None:
        super().__init__()
        self.partitions = simulation.store.partitions
        self._simulation, self._who = simulation, who

    async def _call(self, call: Callable[[], Awaitable[Any]]) -> Any:
        gates = self._simulation.gates
        await gates.wait(self._who)
        if gates.happens(0.05):
            raise RedisConnectionError("not reached")
        answer = await call()
        if gates.happens(0.05):
            raise RedisConnectionError("the answer was lost")
        return answer

    async def _write(self, call: Callable[[], Awaitable[Any]]) -> Any:
        before = copy.deepcopy(self.partitions[0])
        answer = await call()
        if self.partitions[0] != before:
            self._simulation.history.append(before)
        return answer

    async def acquire(self, partition: int, log: LogBounds) -> Ownership:
        return await self._call(lambda: self._write(lambda: super(GatedStore, self).acquire(partition, log)))

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        return await self._call(lambda: super(GatedStore, self).load(partition, keys))

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        return await self._call(lambda: super(GatedStore, self).popularity(partition))

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        return await self._call(lambda: self._write(lambda: super(GatedStore, self).apply(partition, token, changes)))


class GatedProducer(MemoryProducer):
    """One participant's way to the broker that all share."""

    def __init__(self, simulation: Simulation, who: Participant) -> None:
        super().__init__(self._fault)
        self.topics = simulation.broker.topics
        self._gates, self._who = simulation.gates, who

    def _fault(self, outgoing: OutgoingRecord) -> Fault:
        faults = [Fault.REFUSED, Fault.FAILED, Fault.UNANSWERED]
        return self._gates.rng.choice(faults) if self._gates.happens(0.05) else Fault.NONE

    async def send(self, *args: Any, **kwargs: Any) -> asyncio.Future[object]:
        await self._gates.wait(self._who)
        return await super().send(*args, **kwargs)

    async def send_batch(self, *args: Any, **kwargs: Any) -> asyncio.Future[object]:
        await self._gates.wait(self._who)
        return await super().send_batch(*args, **kwargs)


class Participant:
    """A worker process: it takes the partition, reads batches, and commits what is done."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        self.bench = Bench(RULES, GatedStore(simulation, self), sleep=lambda pause_s: simulation.gates.wait(self))
        self.bench.producer = GatedProducer(simulation, self)
        self.task = asyncio.create_task(self._live())

    async def _live(self) -> None:
        """A stopped worker that wakes fights for the partition twice before it hears that it left the group."""
        for _ in range(1000):
            try:
                await self.bench.worker.acquire(0, LogBounds(0, len(self.simulation.log), self.simulation.committed))
            except (RedisConnectionError, OvertakenError):
                continue
            await self._read()
            if self.simulation.owner is not self and self.simulation.gates.happens(0.5):
                return

    async def _read(self) -> None:
        """Batch after batch until the partition is lost; some overlap, and some leave records out."""
        worker, log, gates = self.bench.worker, self.simulation.log, self.simulation.gates
        at = worker.partitions[0].position
        while True:
            start = at + (gates.rng.choice([-2, -1, 1]) if gates.happens(0.1) else 0)
            start = min(max(start, 0), len(log))
            end = min(len(log), start + gates.rng.randrange(1, 8))
            if start == end:
                await gates.wait(self)
                at = worker.partitions[0].position
                if at == len(log) and self.simulation.gates.calm:
                    return
                continue
            self.bench.serving = gates.rng.choice(SERVINGS)
            handled = await worker.handle(RecordBatch(0, start, end, log[start:end]))
            if handled is Handled.LOST:
                return
            at = worker.partitions[0].position
            if handled is Handled.DONE:
                await gates.wait(self)
                if self.simulation.owner is self:
                    self.simulation.committed = end

    async def kill(self) -> None:
        """SIGKILL."""
        self.simulation.gates.waiting.pop(self, None)
        self.task.cancel()
        await asyncio.gather(self.task, return_exceptions=True)


class Simulation:
    """One run."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.gates = Gates(self.rng)
        self.log = self._log(self.rng.randrange(15, 60))
        self.store = MemoryStore()
        self.broker = MemoryProducer()
        self.history: list[Any] = []
        """The partition before each of its writes."""
        self.committed: int | None = None
        self.owner = Participant(self)
        self.asleep: list[Participant] = []

    def _log(self, n: int) -> list[Record]:
        log = []
        for offset in range(n):
            user = self.rng.choice(ELSEWHERE if self.rng.random() < 0.05 else HOME)
            item = str(self.rng.randrange(1, 45)) if self.rng.random() < 0.9 else None
            event_id = f"e{self.rng.randrange(n)}"
            made = record(offset, click(user, item, event_id, timestamp_ms=NOW_MS + 1000 * offset))
            log.append(Record(offset, b"bad") if self.rng.random() < 0.05 else made)
        return log

    async def run(self) -> None:
        """Trouble, then calm until the last worker has reached the end."""
        for _ in range(self.rng.randrange(100, 600)):
            await self._step()
        self.gates.calm = True
        for participant in [self.owner, *self.asleep]:
            await participant.kill()
        self.owner, self.asleep = Participant(self), []
        while not self.owner.task.done() and self.store.partitions[0].position != len(self.log):
            await self._let_go(self.owner)
        await self.owner.kill()

    async def _step(self) -> None:
        who = self.rng.choice(self.asleep) if self.asleep and self.rng.random() < 0.2 else self.owner
        chance = self.rng.random()
        if chance < 0.01:
            await self.owner.kill()
            self.owner = Participant(self)
        elif chance < 0.02:
            self.asleep.append(self.owner)
            self.owner = Participant(self)
        elif chance < 0.03 and self.history:
            lost = self.rng.randrange(1, min(4, len(self.history)) + 1)
            self.store.partitions[0] = self.history[-lost]
            del self.history[-lost:]
        else:
            await self._let_go(who)

    async def _let_go(self, who: Participant) -> None:
        """Let a worker through its gate, and wait until it stands at the next."""
        if gate := self.gates.waiting.pop(who, None):
            gate.set_result(None)
        while who not in self.gates.waiting and not who.task.done():  # noqa: ASYNC110  # either may come first
            await asyncio.sleep(0)
        if who.task.done():
            await who.task
            if who in self.asleep:
                self.asleep.remove(who)


async def undisturbed(log: Sequence[Record]) -> Bench:
    """One worker that nothing happens to."""
    bench = Bench(RULES, MemoryStore(n_partitions=2))
    await bench.acquire(len(log))
    assert await bench.worker.handle(batch(log)) is Handled.DONE
    return bench


async def check(simulation: Simulation) -> None:
    """State exactly once, every event answered, every repeat the same list to its consumer."""
    log, stored, topics = simulation.log, simulation.store.partitions[0], simulation.broker.topics
    reference = await undisturbed(log)
    assert isinstance(reference.store, MemoryStore)
    expected = reference.store.partitions[0]
    assert stored.position == len(log)
    assert stored.counters == expected.counters
    assert stored.popularity == expected.popularity

    folded = fold(log, partition=0, n_partitions=2, rules=RULES.pipeline, limits=Limits(), now_ms=NOW_MS)
    sessions = {key: unpack(blob, stored.seen.get(key)) for key, blob in stored.sessions.items()}
    assert differences(folded.sessions, sessions, {m.state_key: m for m in MODELS}.get) == []

    decoded = decode(log, partition=0, n_partitions=2, limits=Limits(), now_ms=NOW_MS)
    answers = simulation.broker.lists()
    source = Source(RULES.cluster, TOPICS.interactions, 0)
    assert {a["source_offset"] for a in answers} == {event.offset for event in decoded.events}
    for answer in answers:
        assert answer["recommendation_id"] == source.recommendation_id(answer["source_offset"])
    dead = {int(dict(d.headers)["source-offset"] or b"") for d in topics[TOPICS.dead_letters]}
    assert dead == {letter.record.offset for letter in decoded.dead}
    forwarded = {(f.value, f.partition) for f in topics[TOPICS.interactions]}
    assert forwarded == {(m.record.value, 1) for m in decoded.misplaced}


async def simulate(seed: int) -> None:
    """One run and its checks."""
    simulation = Simulation(seed)
    await simulation.run()
    await check(simulation)


@pytest.mark.parametrize("block", range(6))
async def test_whatever_happens_state_is_exactly_once_and_lists_at_least_once(block: int) -> None:
    for seed in range(block * RUNS // 6, (block + 1) * RUNS // 6):
        await simulate(seed)
