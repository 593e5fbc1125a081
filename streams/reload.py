"""Hot reload: a newer model is loaded beside the running one and takes its place between two batches.

`ReloadPlan` decides and does no I/O; `Reloader` does the work in threads. Workers check only that a
model is safe to serve. Whether it is better was decided before it was announced.
"""

from __future__ import annotations

import asyncio
import gc
import logging
from enum import Enum
from functools import partial
from typing import NamedTuple

from mode import Service

from encoders.errors import BundleError
from encoders.records import BundleReference, ModelUpdate
from encoders.window import WindowRule
from streams.metrics import WorkerMetrics
from streams.serving import ModelSlot, ServingModel, open_model, verify, warm_up

log = logging.getLogger(__name__)


class ReloadState(Enum):
    """Where the newest attempt to load a model stands; in every state the running model answers."""

    IDLE = "idle"
    """No model, and none on its way."""
    LOADING = "loading"
    """Reading files and checking their hashes."""
    VERIFYING = "verifying"
    """Checking that the parts fit together, and fit this worker."""
    WARMING = "warming"
    """Answering for the first time, to nobody."""
    ACTIVE = "active"
    FAILED = "failed"
    """The newest model was refused; `ReloadPlan.refused` says why."""


IDLE, LOADING, VERIFYING, WARMING, ACTIVE, FAILED = ReloadState

LEGAL_MOVES: dict[ReloadState, frozenset[ReloadState]] = {
    IDLE: frozenset({LOADING}),
    LOADING: frozenset({VERIFYING, FAILED, ACTIVE, IDLE}),
    VERIFYING: frozenset({WARMING, FAILED, ACTIVE, IDLE}),
    WARMING: frozenset({ACTIVE, FAILED, IDLE}),
    ACTIVE: frozenset({LOADING}),
    FAILED: frozenset({LOADING, ACTIVE}),
}
"""What is absent is illegal. An attempt that was overtaken goes back to active, or to idle without a model."""


class Refused(NamedTuple):
    """A model that this worker would not serve."""

    version: str
    reason: str


class ReloadPlan:
    """Which model to load next, and what becomes of it.

    The newest update wins: an attempt under way is given up at its next step. A bundle that is refused
    changes nothing, except that a worker without any model turns to the update's `previous`.

    Example:
        >>> plan = ReloadPlan()
        >>> plan.offer(ModelUpdate(model="gru", version="a", uri="/bundles/a", manifest_sha256="0" * 64))
        >>> plan.begin().version, plan.state
        ('a', <ReloadState.LOADING: 'loading'>)
        >>> plan.fail("no such file")
        >>> plan.refused
        Refused(version='a', reason='no such file')
    """

    def __init__(self) -> None:
        self.state = IDLE
        self.active: BundleReference | None = None
        self.refused: Refused | None = None
        """The newest update, if it cannot be served."""
        self.overtaken = False
        """Whether the attempt under way is no longer wanted."""
        self.falling_back = False
        """Whether the attempt under way, or the active model, stands in for a refused one."""
        self._attempt: BundleReference | None = None
        self._waiting: BundleReference | None = None
        self._previous: BundleReference | None = None

    @property
    def settled(self) -> bool:
        """Whether nothing is under way and nothing waits."""
        return self._attempt is None and self._waiting is None

    @property
    def fallback(self) -> BundleReference | None:
        """What waits in place of a refused model."""
        return self._waiting if self.falling_back else None

    def offer(self, update: ModelUpdate) -> None:
        """Want this model from now on. One that is active, or already under way, is not loaded again."""
        wanted = BundleReference(version=update.version, uri=update.uri, manifest_sha256=update.manifest_sha256)
        self._previous = update.previous
        self._waiting = None
        if self.active is not None and self.active.manifest_sha256 == wanted.manifest_sha256:
            self.overtaken = self._attempt is not None
            self.refused = None
            if self.state is FAILED:
                self._move(ACTIVE)
        elif wanted == self._attempt:
            self.overtaken = False
        else:
            self._waiting = wanted
            self.overtaken = self._attempt is not None
        self.falling_back = False

    def begin(self) -> BundleReference | None:
        """Start the next attempt; None if nothing waits."""
        if self._waiting is None:
            return None
        self._move(LOADING)
        self._attempt, self._waiting, self.overtaken = self._waiting, None, False
        return self._attempt

    def advance(self, state: ReloadState) -> None:
        """The attempt under way reached its next step; at `ACTIVE` its model is the one that answers."""
        self._move(state)
        if state is ACTIVE:
            self.active, self._attempt = self._attempt, None
            if not self.falling_back:
                self.refused = None

    def abandon(self) -> None:
        """Give up the attempt under way because it was overtaken."""
        self._move(IDLE if self.active is None else ACTIVE)
        self._attempt, self.overtaken = None, False

    def fail(self, reason: str) -> None:
        """The attempt under way was refused. If it was overtaken, that is all the same."""
        if self.overtaken:
            return self.abandon()
        attempt, previous = self._attempt, self._previous
        self._move(FAILED)
        assert attempt is not None, "where failing is legal, an attempt is under way"
        self._attempt, self._previous, self.falling_back = None, None, False
        self.refused = Refused(attempt.version, reason)
        if self.active is None and previous is not None and previous.manifest_sha256 != attempt.manifest_sha256:
            self._waiting, self.falling_back = previous, True

    def _move(self, state: ReloadState) -> None:
        if state not in LEGAL_MOVES[self.state]:
            raise ValueError(f"reload cannot go from {self.state.value} to {state.value}")
        self.state = state


class Reloader(Service):
    """Carries out a `ReloadPlan`: reads, verifies and warms up models in a thread, then swaps.

    Args:
        slot: Where the worker finds its model.
        rule: The window rule under which the worker keeps its sessions.
        metrics: Told the state, the version and every outcome.
    """

    def __init__(self, slot: ModelSlot, rule: WindowRule, metrics: WorkerMetrics) -> None:
        super().__init__()
        self.plan = ReloadPlan()
        self._slot = slot
        self._rule = rule
        self._metrics = metrics
        self._offered = asyncio.Event()
        metrics.reload_is(IDLE.value)

    def offer(self, update: ModelUpdate) -> None:
        """Want this model from now on. Returns at once; call it on the event loop."""
        self.plan.offer(update)
        self._show()
        self._offered.set()

    @Service.task
    async def _reload(self) -> None:
        while not self.should_stop:
            await self._offered.wait()
            self._offered.clear()
            while reference := self.plan.begin():
                await self._attempt(reference)

    async def _attempt(self, reference: BundleReference) -> None:
        self._show()
        log.info("loading model %s from %s", reference.version, reference.uri)
        try:
            model = await self._prepare(reference)
        except Exception as error:  # whatever a bundle makes torch or FAISS raise, the running model goes on
            if not isinstance(error, BundleError):
                log.exception("loading model %s failed in an unforeseen way", reference.version)
            # In one line: torch and FAISS explain themselves in several.
            self._refuse(reference, " ".join(str(error).split()) or type(error).__name__)
        else:
            if model is None:
                self._abandon(reference)
            else:
                self._activate(model)
        self._show()

    async def _prepare(self, reference: BundleReference) -> ServingModel | None:
        """Load, verify and warm up, each in a thread; None if a newer update came meanwhile."""
        model = await asyncio.to_thread(open_model, reference)
        checks = ((VERIFYING, partial(verify, model, reference, self._rule)), (WARMING, partial(warm_up, model)))
        for state, check in checks:
            if self.plan.overtaken:
                return None
            self.plan.advance(state)
            self._show()
            await asyncio.to_thread(check)
        return None if self.plan.overtaken else model

    def _activate(self, model: ServingModel) -> None:
        self.plan.advance(ACTIVE)
        self._slot.swap(model)
        self._metrics.serves(model.version)
        self._metrics.reloads.labels("fallback" if self.plan.falling_back else "active").inc()
        log.info("model %s answers from the next batch on: %d items", model.version, model.bundle.manifest.n_items)
        # What was loaded stays for long; the collector need not walk it again. Collecting first, over what came
        # since the last swap, keeps garbage from being frozen for ever.
        gc.collect()
        gc.freeze()

    def _abandon(self, reference: BundleReference) -> None:
        self.plan.abandon()
        self._metrics.reloads.labels("superseded").inc()
        log.info("gave up loading model %s: a newer update came", reference.version)

    def _refuse(self, reference: BundleReference, reason: str) -> None:
        self.plan.fail(reason)
        self._metrics.reloads.labels("failed").inc()
        log.error("refused model %s: %s. %s", reference.version, reason, self._consequence())

    def _consequence(self) -> str:
        """What answers instead of a refused model."""
        if self.plan.state is not FAILED:
            return "A newer update came meanwhile."
        if self.plan.active is not None:
            return f"Model {self.plan.active.version} goes on."
        if self.plan.fallback is not None:
            return f"No model is running, so its previous, {self.plan.fallback.version}, is tried."
        return "No model is running: popularity answers until another one is announced."

    def _show(self) -> None:
        self._metrics.reload_is(self.plan.state.value)
