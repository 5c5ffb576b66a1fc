"""A stall of a service has the route of the request that blocked, and its open blocks."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from aqltelemetry import TelemetryDB, time_block
from aqltelemetry.asgi import TelemetryMiddleware

pytestmark = pytest.mark.system
_LONG_S = 0.4
_LIMIT_S = 30.0


class _InAnotherTask(BaseHTTPMiddleware):
    """Calls the application in a task of its own, as middlewares of Starlette do."""

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        return await call_next(request)


async def _blocking(_: Request) -> Response:
    with time_block("load"):
        async with time_block("parse"):
            time.sleep(_LONG_S)
    return PlainTextResponse("done")


async def _waiting(request: Request) -> Response:
    with time_block("wait for an event"):
        await request.app.state.event.wait()
    return PlainTextResponse("done")


class _Service:
    """An application, without a server."""

    def __init__(self, directory: Path) -> None:
        routes = [Route("/users/{id}", _blocking), Route("/events", _waiting)]
        self._app = Starlette(routes=routes, middleware=[Middleware(_InAnotherTask)])
        self._app.state.event = asyncio.Event()
        self._directory = directory
        self._recorded = TelemetryMiddleware(self._app, directory, with_stalls=True)

    async def run(self) -> None:
        """Handle a request that waits, and one that blocks meanwhile, within a lifespan."""
        events: asyncio.Queue[str] = asyncio.Queue()
        sent: asyncio.Queue[str] = asyncio.Queue()
        lifespan = asyncio.create_task(
            self._recorded({"type": "lifespan"}, self._receiver(events), self._sender(sent))
        )
        await events.put("lifespan.startup")
        assert await sent.get() == "lifespan.startup.complete"
        waiting = asyncio.create_task(self._request("/events"))
        await asyncio.sleep(0.1)
        await asyncio.create_task(self._request("/users/7"))
        self._app.state.event.set()
        await waiting
        until_s = time.monotonic() + _LIMIT_S
        while not self._is_recorded() and time.monotonic() < until_s:
            await asyncio.sleep(0.01)
        await events.put("lifespan.shutdown")
        await lifespan

    def _is_recorded(self) -> bool:
        """Return whether the details of the stall, which are written last, are there."""
        details = self._directory.glob("stall-details.*")
        return any(_blocking.__name__ in path.read_text() for path in details)

    async def _request(self, path: str) -> None:
        scope = {
            "type": "http",
            "method": "GET",
            "path": path,
            "raw_path": path.encode(),
            "query_string": b"",
            "headers": [],
            "root_path": "",
            "scheme": "http",
            "http_version": "1.1",
            "server": ("localhost", 80),
            "client": ("localhost", 1),
        }
        messages: asyncio.Queue[str] = asyncio.Queue()
        await messages.put("http.request")
        await self._recorded(scope, self._receiver(messages), self._sender(asyncio.Queue()))

    def _receiver(self, messages: asyncio.Queue[str]) -> Callable[[], Any]:
        async def receive() -> dict[str, Any]:
            return {"type": await messages.get(), "body": b"", "more_body": False}

        return receive

    def _sender(self, messages: asyncio.Queue[str]) -> Callable[[Any], Any]:
        async def send(message: dict[str, Any]) -> None:
            await messages.put(message["type"])

        return send


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_blocking_handler_is_named_by_its_route_and_blocks(
    directory: Path, new_loop: Callable[[], asyncio.AbstractEventLoop]
) -> None:
    async def main() -> None:
        await _Service(directory).run()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
    found = TelemetryDB(directory).stalls()
    (stall,) = found[found["function"] == _blocking.__name__].to_dict("records")
    assert stall["route"] == "/users/{id} [GET]"
    assert [*stall["blocks"]] == ["load", "parse"]
