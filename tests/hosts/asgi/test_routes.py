"""A request that is being handled has its label once it has a route."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from starlette.requests import Request
from starlette.routing import Mount, Route, Router

from aqltelemetry.hosts.asgi.routes import running_label
from aqltelemetry.hosts.labels import TEMPLATE


async def _handle(request: Request) -> None: ...


_INNER = Route("/{name}", _handle)
_ROUTER = Router([Route("/users/{id}", _handle), Mount("/files", routes=[_INNER])])


def _scope(**more: Any) -> dict[str, Any]:
    return {"type": "http", "method": "GET", "path": "/users/7", "headers": [], **more}


@pytest.mark.parametrize(
    ("scope", "label"),
    [
        (_scope(), ""),
        (_scope(router=_ROUTER), ""),
        (_scope(router=_ROUTER, endpoint=_handle, route=_ROUTER.routes[0]), "/users/{id} [GET]"),
        (_scope(router=_ROUTER, route=_INNER, path="/files/a"), "/files/{name} [GET]"),
        (_scope(**{TEMPLATE: "/t/{id}"}, method="POST"), "/t/{id} [POST]"),
        (_scope(**{TEMPLATE: ""}), ""),
        (_scope(path_template="/l/{id}"), "/l/{id} [GET]"),
        ({"type": "websocket", "path": "/ws", TEMPLATE: "/ws"}, "/ws [GET] websocket"),
        ({"type": "lifespan"}, ""),
    ],
)
def test_a_scope_has_the_label_of_its_route(scope: dict[str, Any], label: str) -> None:
    assert running_label(scope) == label


def test_the_request_of_a_framework_has_the_label_of_its_scope() -> None:
    scope = _scope(**{TEMPLATE: "/t"})
    assert running_label(Request(scope)) == "/t [GET]"
    assert running_label(SimpleNamespace(scope=None)) == ""
    assert running_label(7) == ""
