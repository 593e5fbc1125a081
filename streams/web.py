"""A worker's own web server: `/health`, `/ready` and `/metrics`."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from aiohttp import web
from mode import Service
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

from streams.errors import DependencyError

log = logging.getLogger(__name__)


class Condition(NamedTuple):
    """One thing that has to hold before a worker is ready."""

    name: str
    ok: bool
    detail: str = ""
    """What is missing, or how far it is; shown as long as the condition does not hold."""


class WebServer(Service):
    """Serves what three callables say; knows nothing of the worker behind them.

    The callables run on the event loop for each request: they must not block and must not raise.

    Args:
        host: The address to listen on.
        port: 0 takes a free one, which `port` holds once the server has started.
        status: What `/health` reports beside ``status``.
        conditions: What `/ready` judges by; ready is when all are ok.
        metrics: The body of `/metrics`, in Prometheus's text format.
    """

    def __init__(
        self,
        host: str,
        port: int,
        *,
        status: Callable[[], Mapping[str, object]],
        conditions: Callable[[], Iterable[Condition]],
        metrics: Callable[[], bytes],
    ) -> None:
        super().__init__()
        self.host = host
        self.port = port
        self._status = status
        self._conditions = conditions
        self._metrics = metrics
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        """Where the server answers."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{self.port}"

    async def on_start(self) -> None:
        """Listen.

        Raises:
            DependencyError: If the address is taken or not one of this machine.
        """
        app = web.Application()
        app.add_routes(
            [web.get("/health", self._health), web.get("/ready", self._ready), web.get("/metrics", self._exposition)]
        )
        self._runner = web.AppRunner(app, access_log=None, handle_signals=False)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port).start()
        except OSError as error:
            raise DependencyError(
                f"the web server cannot listen on {self.url}: {error.strerror}; "
                "set web.port to a free port, or to 0 to take any, and web.host to an address of this machine"
            ) from error
        self.port = self._runner.addresses[0][1]
        log.info("web server on %s: /health /ready /metrics", self.url)

    async def on_stop(self) -> None:
        """Close the listener and the open connections."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _health(self, _: web.Request) -> web.Response:
        """200 as long as the event loop lives, whatever else is missing."""
        return web.json_response({"status": "ok", **self._status()})

    async def _ready(self, _: web.Request) -> web.Response:
        """200 when every condition holds, else 503; the body lists each of them either way."""
        conditions = list(self._conditions())
        ready = all(condition.ok for condition in conditions)
        listed = [{"name": c.name, "ok": c.ok, "detail": "" if c.ok else c.detail} for c in conditions]
        body = {"ready": ready, "conditions": listed}
        return web.json_response(body, status=200 if ready else 503)

    async def _exposition(self, _: web.Request) -> web.Response:
        return web.Response(body=self._metrics(), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
