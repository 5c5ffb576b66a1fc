"""Calls of ASGI applications, and the labels that they record."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterable
from types import ModuleType
from typing import Any

from aqltelemetry.hosts.asgi import request_record as pure
from aqltelemetry.hosts.asgi.request_record import ScopeLabels
from aqltelemetry.hosts.request_record import InFlight
from twinned import compiled_twin, recorded

_OUTCOMES = (" 4xx", " 5xx", " disconnect", " ttfb")


def twin(name: str) -> ModuleType:
    """Return the pure or the compiled module of requests."""
    return compiled_twin("hosts.asgi._request_record") if name == "compiled" else pure


def scope_of(path: str, **more: Any) -> dict[str, Any]:
    """Return the scope of a request, or of a websocket if `type` says so."""
    scope = {
        "type": "http",
        "method": "GET",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": b"",
        "http_version": "1.1",
        "scheme": "http",
        "headers": [(b"host", b"testserver")],
        "server": ("x", 80),
        "client": ("y", 1),
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "extensions": {},
    }
    scope.update(more)
    if scope["type"] == "websocket":
        del scope["method"]
        scope.update(scheme="ws", subprotocols=[])
    return scope


async def call(requests: Any, app: Any, scope: dict[str, Any]) -> None:
    """Call an application as a server and the middleware do."""
    websocket = scope["type"] == "websocket"
    first = {"type": "websocket.connect"} if websocket else {"type": "http.request", "body": b""}
    messages = [first]
    is_answered = asyncio.Event()

    async def receive() -> Any:
        if messages:
            return messages.pop()
        await is_answered.wait()  # then servers report the end of the connection
        return {"type": "websocket.disconnect" if websocket else "http.disconnect"}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.body" and not message.get("more_body"):
            is_answered.set()

    record = requests.begin(scope, receive, send)
    try:
        await app(scope, record.receive, record.send)
    except Exception as exc:
        record.fail(exc)
    finally:
        record.leave()


async def totals(
    module: ModuleType, app: Any, scopes: Iterable[dict[str, Any]], template: Any = None
) -> Counter[str]:
    """Call an application, and return the labels of the requests' whole times."""
    requests = module.AsgiRequests(ScopeLabels(template), InFlight(), False)
    with recorded() as found:
        for scope in scopes:
            await call(requests, app, scope)
    return Counter({label: count for label, count in found if not label.endswith(_OUTCOMES)})
