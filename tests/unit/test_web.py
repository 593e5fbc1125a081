"""A worker's web server, on a free port of loopback."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager

import aiohttp
import pytest

from streams.errors import DependencyError
from streams.web import Condition, WebServer

Conditions = Callable[[], Iterable[Condition]]


def server(conditions: Conditions = lambda: (), port: int = 0, host: str = "127.0.0.1") -> WebServer:
    return WebServer(
        host, port, status=lambda: {"model_version": "v1"}, conditions=conditions, metrics=lambda: b"streamrec_up 1\n"
    )


@asynccontextmanager
async def answering(conditions: Conditions = lambda: ()) -> AsyncIterator[aiohttp.ClientSession]:
    web = server(conditions)
    async with web, aiohttp.ClientSession(web.url) as session:
        yield session


async def test_health_is_200_even_while_the_worker_is_not_ready() -> None:
    async with answering(lambda: [Condition("redis", False)]) as client, client.get("/health") as response:
        assert response.status == 200
        assert await response.json() == {"status": "ok", "model_version": "v1"}


async def test_ready_is_503_and_lists_every_condition_while_one_does_not_hold() -> None:
    conditions = [Condition("redis", True, "never shown"), Condition("broadcast", False, "40 records left")]
    async with answering(lambda: conditions) as client, client.get("/ready") as response:
        assert response.status == 503
        assert await response.json() == {
            "ready": False,
            "conditions": [
                {"name": "redis", "ok": True, "detail": ""},
                {"name": "broadcast", "ok": False, "detail": "40 records left"},
            ],
        }


async def test_ready_turns_200_with_the_last_condition_and_back() -> None:
    conditions = {"ok": False}
    async with answering(lambda: [Condition("redis", conditions["ok"])]) as client:
        for ok, status in ((False, 503), (True, 200), (False, 503)):
            conditions["ok"] = ok
            async with client.get("/ready") as response:
                assert (response.status, (await response.json())["ready"]) == (status, ok)


async def test_metrics_are_served_as_prometheus_text() -> None:
    async with answering() as client, client.get("/metrics") as response:
        assert response.content_type == "text/plain"
        assert await response.text() == "streamrec_up 1\n"


async def test_an_unknown_path_is_404() -> None:
    async with answering() as client, client.get("/") as response:
        assert response.status == 404


async def test_port_0_takes_a_free_port_for_each_server() -> None:
    async with server() as first, server() as second:
        assert 0 < first.port != second.port > 0


async def test_a_port_in_use_is_an_error_that_names_the_address_and_the_setting() -> None:
    async with server() as first:
        with pytest.raises(DependencyError, match=rf"http://127\.0\.0\.1:{first.port}.*web\.port"):
            await server(port=first.port).start()


async def test_the_port_is_free_again_after_stop() -> None:
    async with server() as first:
        port = first.port
    async with server(port=port) as second:
        assert second.port == port
