"""State exactly once, lists at least once: many workers over one partition, and everything goes wrong.

A worker works batches out ahead of their deliveries, as the service does. Each of its awaits on the store, the
producer, the clock and the commit stops at a gate, so several may stand there at a time. A seeded random choice
decides who goes through next, whether the call fails before or after it takes effect, and when a worker
crashes, is stopped and wakes later, or when the store comes back without its last writes. After each run the
state must be what the log amounts to, and every event must have its list.
"""

from __future__ import annotations

import asyncio
import copy
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from itertools import count
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from encoders.window import WindowRule
from streams.batches import Computed, Handled, RecordBatch
from streams.decode import Limits, decode
from streams.errors import OvertakenError, StreamsError
from streams.fold import differences, fold
from streams.lanes import Lanes
from streams.output import OutgoingRecord
from streams.pipeline import Rules, Serving, Source
from streams.session import SessionKey, StoredSession, unpack
from streams.settings import TopicNames
from streams.store import Applied, Changes, LogBounds, MemoryStore, Ownership
from streams.worker import WorkerRules
from tests.inmemory import NOW_MS, Bench, Fault, MemoryProducer, Record, batch, click, model, record, users_of

CRASH_POINTS = 1000
"""Kills of an owner that has worked out more than it has committed, in each of the two tests."""
BLOCKS = 5
MOST_AHEAD = 4
"""Batches that are worked out and not durable, at most."""
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


class Step(StrEnum):
    """What a worker is about to do where it stands at a gate."""

    ACQUIRE = "acquire"
    LOAD = "load"
    PRODUCE = "produce"
    SCRIPT = "script"
    HEAR = "hear"
    """The script has run; its answer is on its way."""
    COMMIT = "commit"
    WAIT = "wait"
    """For the log to go on, or for a dependency."""


CRASH_STEPS = {Step.LOAD, Step.PRODUCE, Step.SCRIPT, Step.HEAR, Step.COMMIT}
"""Where a worker may stand that has begun a batch and not committed it."""


class Gates:
    """Where workers wait until the simulation lets one of them go on."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.waiting: dict[Participant, list[tuple[Step, asyncio.Future[None]]]] = {}
        self.calm = False
        """Nothing fails any more."""

    async def wait(self, who: Participant, step: Step) -> None:
        """Stop here until let through."""
        gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.waiting.setdefault(who, []).append((step, gate))
        await gate

    def steps(self, who: Participant) -> list[Step]:
        """Where a worker stands."""
        return [step for step, _ in self.waiting.get(who, [])]

    async def let_go(self, who: Participant) -> None:
        """Let a worker through one of its gates, and wait until nothing moves any more."""
        if gates := self.waiting.get(who):
            gates.pop(self.rng.randrange(len(gates)))[1].set_result(None)
        await settle()

    def happens(self, probability: float) -> bool:
        return not self.calm and self.rng.random() < probability


async def settle() -> None:
    """Wait until every task stands at a gate or waits for another one."""
    ready = asyncio.get_running_loop()._ready  # type: ignore[attr-defined]  # nothing public says so
    await asyncio.sleep(0)
    while ready:  # noqa: ASYNC110  # no event can tell
        await asyncio.sleep(0)


class GatedStore(MemoryStore):
    """One participant's way to the state that all share."""

    def __init__(self, simulation: Simulation, who: Participant) -> None:
        super().__init__()
        self.partitions = simulation.store.partitions
        self._simulation, self._who = simulation, who

    async def _call(self, step: Step, call: Callable[[], Awaitable[Any]]) -> Any:
        gates = self._simulation.gates
        await gates.wait(self._who, step)
        if gates.happens(0.05):
            raise RedisConnectionError("not reached")
        answer = await call()
        if step is Step.SCRIPT:
            await gates.wait(self._who, Step.HEAR)
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
        whole = super()
        return await self._call(Step.ACQUIRE, lambda: self._write(lambda: whole.acquire(partition, log)))

    async def load(self, partition: int, keys: Sequence[SessionKey]) -> list[StoredSession | None]:
        whole = super()
        return await self._call(Step.LOAD, lambda: whole.load(partition, keys))

    async def popularity(self, partition: int) -> dict[tuple[str, str], float]:
        whole = super()
        return await self._call(Step.ACQUIRE, lambda: whole.popularity(partition))

    async def apply(self, partition: int, token: str, changes: Changes) -> Applied:
        whole = super()
        step = Step.SCRIPT if changes.end > changes.start else Step.ACQUIRE
        return await self._call(step, lambda: self._write(lambda: whole.apply(partition, token, changes)))


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
        await self._gates.wait(self._who, Step.PRODUCE)
        return await super().send(*args, **kwargs)

    async def send_batch(self, *args: Any, **kwargs: Any) -> asyncio.Future[object]:
        await self._gates.wait(self._who, Step.PRODUCE)
        return await super().send_batch(*args, **kwargs)


class Participant:
    """A worker process: it takes the partition, works batches out, makes them durable and commits what is done."""

    def __init__(self, simulation: Simulation) -> None:
        self.simulation, self.gates = simulation, simulation.gates
        store = GatedStore(simulation, self)
        self.bench = Bench(RULES, store, sleep=lambda pause_s: self.gates.wait(self, Step.WAIT))
        self.bench.producer = GatedProducer(simulation, self)
        self.worker = self.bench.worker
        self.lanes = Lanes(self.worker.deliver, self._handled, self, 10**9, self._fatal)
        self.lost = False
        self.done, self.ledger = 0, asyncio.Event()
        self.task = asyncio.create_task(self._live())
        self.committer = asyncio.create_task(self._commit())

    async def _live(self) -> None:
        """A stopped worker that wakes fights for the partition twice before it hears that it left the group."""
        for _ in range(1000):
            try:
                await self.worker.acquire(0, LogBounds(0, len(self.simulation.log), self.simulation.committed))
            except (RedisConnectionError, OvertakenError):
                continue
            self.lost = False
            await self._read()
            if self.simulation.owner is not self and self.gates.happens(0.5):
                return

    async def _read(self) -> None:
        """Batch after batch until the partition is lost; some overlap, and some leave records out."""
        log, gates = self.simulation.log, self.gates
        while not self.lost:
            owned = self.worker.partitions[0]
            start = owned.computed + (gates.rng.choice([-2, -1, 1]) if gates.happens(0.1) else 0)
            start = min(max(start, 0), len(log))
            end = min(len(log), start + gates.rng.randrange(1, 8))
            if start == end or self.ahead >= MOST_AHEAD:
                await gates.wait(self, Step.WAIT)
                continue
            self.bench.serving = gates.rng.choice(SERVINGS)
            computed, others = await self.worker.compute([RecordBatch(0, start, end, log[start:end])])
            for each in computed:
                self.lanes.push(each)
            if others.get(0) is Handled.LOST:
                return
            self.lost = self.lost or 0 not in self.worker.partitions

    @property
    def ahead(self) -> int:
        """Batches on their way."""
        lane = self.lanes._lanes.get(0)
        return len(lane.waiting) if lane and lane.owned is self.worker.partitions.get(0) else 0

    async def _handled(self, computed: Computed, handled: Handled) -> None:
        if handled is Handled.LOST:
            self.lost = True
        elif handled is Handled.DONE:
            self.done = computed.changes.end
            self.ledger.set()

    async def _commit(self) -> None:
        """Commit what is done, beside everything else; what is done meanwhile goes with it."""
        while True:
            await self.ledger.wait()
            await self.gates.wait(self, Step.COMMIT)
            self.ledger.clear()
            if self.simulation.owner is self:
                self.simulation.committed = self.done

    def pause(self, partition: int) -> None:
        """See `Valve.pause`; never, the limit is out of reach."""

    def resume(self, partition: int) -> None:
        """See `Valve.resume`."""

    def _fatal(self, error: StreamsError) -> None:
        raise AssertionError("no delivery meets what would stop a worker") from error

    @property
    def underway(self) -> bool:
        """Whether it has worked out more than is committed."""
        owned = self.worker.partitions.get(0)
        return owned is not None and owned.computed > (self.simulation.committed or 0)

    @property
    def finished(self) -> bool:
        """Whether all of the log is durable, and committed as far as it was this worker that made it so."""
        owned = self.worker.partitions.get(0)
        return owned is not None and owned.position == len(self.simulation.log) and not self.ledger.is_set()

    async def kill(self) -> None:
        """SIGKILL."""
        self.gates.waiting.pop(self, None)
        self.lanes.abandon()
        for task in (self.task, self.committer):
            task.cancel()
        await settle()
        self.gates.waiting.pop(self, None)


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
        self.crash_points = 0
        """Owners that were killed with something under way."""
        self.stood_at: Counter[Step] = Counter()
        """Where they stood; one that works ahead stands at several gates."""
        self.deepest = 0
        """Batches that one of them had on their way, at most."""
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

    async def storm(self) -> None:
        """Trouble, then calm until the last worker has reached the end."""
        for _ in range(self.rng.randrange(100, 600)):
            await self._step()
        self.gates.calm = True
        for participant in self.asleep:
            await participant.kill()
        self.asleep = []
        await self.replace_owner()
        await self.finish()

    async def crash_after(self, steps: int) -> bool:
        """Nothing but one crash: the owner is killed after so many steps, and another one goes on to the end.

        Returns:
            Whether there were so many.
        """
        self.gates.calm = True
        for _ in range(steps):
            if self.owner.finished:
                return False
            await self._let_go(self.owner)
        await self.replace_owner()
        await self.finish()
        return True

    async def finish(self) -> None:
        """Let the owner go on until everything is committed."""
        for _ in range(10_000):
            if self.owner.finished:
                break
            await self._let_go(self.owner)
        else:
            raise AssertionError("it does not come to its end")
        await self.owner.kill()

    async def replace_owner(self) -> None:
        """SIGKILL, and another one takes over."""
        if self.owner.underway:
            self.crash_points += 1
            self.stood_at.update(set(self.gates.steps(self.owner)))
            self.deepest = max(self.deepest, self.owner.ahead)
        await self.owner.kill()
        self.owner = Participant(self)

    async def _step(self) -> None:
        who = self.rng.choice(self.asleep) if self.asleep and self.rng.random() < 0.2 else self.owner
        chance = self.rng.random()
        if chance < 0.02:
            await self.replace_owner()
        elif chance < 0.03:
            self.asleep.append(self.owner)
            self.owner = Participant(self)
        elif chance < 0.04 and self.history:
            lost = self.rng.randrange(1, min(4, len(self.history)) + 1)
            self.store.partitions[0] = self.history[-lost]
            del self.history[-lost:]
        else:
            await self._let_go(who)

    async def _let_go(self, who: Participant) -> None:
        await self.gates.let_go(who)
        if who.task.done():
            await who.task
            await who.kill()
            if who in self.asleep:
                self.asleep.remove(who)


async def undisturbed(log: Sequence[Record]) -> Bench:
    """One worker that nothing happens to."""
    bench = Bench(RULES, MemoryStore(n_partitions=2))
    await bench.acquire(len(log))
    assert await bench.worker.handle(batch(log)) is Handled.DONE
    return bench


async def check(simulation: Simulation, reference: Bench) -> None:
    """State exactly once, every event answered, every repeat the same list to its consumer."""
    log, stored, topics = simulation.log, simulation.store.partitions[0], simulation.broker.topics
    assert isinstance(reference.store, MemoryStore)
    expected = reference.store.partitions[0]
    assert stored.position == len(log)
    assert stored.counters == expected.counters
    assert stored.popularity == expected.popularity

    folded = fold(log, partition=0, n_partitions=2, rules=RULES.pipeline, limits=Limits(), now_ms=NOW_MS)
    sessions = {key: unpack(blob, stored.seen.get(key, b"")) for key, blob in stored.sessions.items()}
    assert differences(folded.sessions, sessions, {m.state_key: m for m in MODELS}.get) == []

    decoded = decode(log, partition=0, n_partitions=2, limits=Limits(), now_ms=NOW_MS)
    answers = simulation.broker.lists()
    source = Source(RULES.cluster, TOPICS.interactions, 0)
    assert {a["source_offset"] for a in answers} == {*decoded.events.offset_B.tolist()}
    for answer in answers:
        assert answer["recommendation_id"] == source.recommendation_id(answer["source_offset"])
    dead = {int(dict(d.headers)["source-offset"] or b"") for d in topics[TOPICS.dead_letters]}
    assert dead == {letter.record.offset for letter in decoded.dead}
    forwarded = {(f.value, f.partition) for f in topics[TOPICS.interactions]}
    assert forwarded == {(m.record.value, 1) for m in decoded.misplaced}


class Played:
    """Crash points of several runs."""

    def __init__(self) -> None:
        self.crash_points = self.deepest = 0
        self.stood_at: Counter[Step] = Counter()

    async def check(self, simulation: Simulation, reference: Bench) -> None:
        """Check what a run has left behind, and count its crashes."""
        await check(simulation, reference)
        self.crash_points += simulation.crash_points
        self.deepest = max(self.deepest, simulation.deepest)
        self.stood_at += simulation.stood_at

    @property
    def enough(self) -> bool:
        """Whether a block has had its share."""
        return self.crash_points >= CRASH_POINTS // BLOCKS

    def assert_all_met(self) -> None:
        """Workers were killed at every step that they take, and with as many batches on their way as there may be."""
        assert self.enough
        assert self.stood_at.keys() >= CRASH_STEPS
        assert self.deepest == MOST_AHEAD


@pytest.mark.parametrize("block", range(BLOCKS))
async def test_whatever_happens_state_is_exactly_once_and_lists_at_least_once(block: int) -> None:
    """One thousand crashes in the midst of everything else that can go wrong."""
    played = Played()
    seeds = count(1_000 * block)
    while not played.enough:
        simulation = Simulation(next(seeds))
        await simulation.storm()
        await played.check(simulation, await undisturbed(simulation.log))
    played.assert_all_met()


@pytest.mark.parametrize("block", range(BLOCKS))
async def test_a_crash_at_any_await_leaves_what_an_undisturbed_run_leaves(block: int) -> None:
    """One thousand runs with one crash each: at every await between the first batch and the last commit."""
    played = Played()
    seeds = count(1_000 * block)
    while not played.enough:
        seed = next(seeds)
        reference = await undisturbed(Simulation(seed).log)
        for steps in count(1):
            simulation = Simulation(seed)
            if not await simulation.crash_after(steps) or played.enough:
                break
            await played.check(simulation, reference)
    played.assert_all_met()
