"""That the labels of requests are bounded by the routes alone, whatever clients send."""

from __future__ import annotations

import asyncio
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from litestar import Litestar, get
from quart import Quart
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Host, Mount, Route, Router, WebSocketRoute

from aqltelemetry.hosts.asgi.frameworks import observe
from asgi_calls import scope_of, totals, twin

_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "OTHER")
_CONVERTERS = ("", ":str", ":int", ":float", ":path", ":uuid")
_NAMES = ("id", "user", "a", "b")


async def _ok(request: Any) -> PlainTextResponse:
    return PlainTextResponse("x")


async def _socket(websocket: Any) -> None:
    await websocket.close()


async def _raw(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body"})


Made = tuple[list[Any], set[str]]
"""Routes, and the templates that these can have."""


def _braced(path: str) -> str:
    for converter in _CONVERTERS[1:]:
        path = path.replace(f"{converter}}}", "}")
    return path


@st.composite
def _paths(draw: st.DrawFn, taken: frozenset[str]) -> tuple[str, frozenset[str]]:
    """Draw a path whose variable parts have names that those above it have not."""
    parts: list[str] = []
    for _ in range(draw(st.integers(1, 2))):
        names, is_variable = sorted({*_NAMES} - taken), draw(st.booleans())
        if names and is_variable:
            name = draw(st.sampled_from(names))
            taken |= {name}
            parts.append(f"{{{name}{draw(st.sampled_from(_CONVERTERS))}}}")
        else:
            parts.append(draw(st.sampled_from(["users", "api", "gr\u00f6\u00dfe", "007", "a.b"])))
    return "/" + "/".join(parts), taken


@st.composite
def _routes(
    draw: st.DrawFn, prefix: str = "", taken: frozenset[str] = frozenset(), depth: int = 3
) -> Made:
    """Draw routes, mounts and hosts, and applications in mounts."""
    routes: list[Any] = []
    templates: set[str] = set()
    for _ in range(draw(st.integers(1, 3))):
        path, names = draw(_paths(taken))
        template = prefix + _braced(path)
        kinds = ["route", "socket", "raw", *(("mount", "host", "again") if depth else ())]
        kind = draw(st.sampled_from(kinds))
        if kind in ("route", "socket"):
            routes.append(Route(path, _ok) if kind == "route" else WebSocketRoute(path, _socket))
            templates.add(template)
        elif kind == "raw":
            routes.append(Mount(path, app=_raw))
            templates.add(f"{template}/{{path}}")
        elif kind == "host":
            inner, found = draw(_routes(prefix, taken, depth - 1))
            routes.append(Host("api.example.org", app=Router(inner)))
            templates |= {
                f"api.example.org{each.removeprefix('api.example.org')}" for each in found
            }
        else:
            inner, found = draw(_routes("", names, depth - 1))
            router = Router(inner)
            routes.append(Mount(path, app=router))
            templates |= _below(template, found)
            if kind == "again":  # the same one at another place
                routes.append(Mount("/again", app=router))
                templates |= _below(f"{prefix}/again", found)
    return routes, templates


def _below(prefix: str, templates: set[str]) -> set[str]:
    host = "api.example.org"
    return {
        host + prefix + each.removeprefix(host) if each.startswith(host) else prefix + each
        for each in templates
    }


_TEXTS = st.text(max_size=8) | st.sampled_from(
    ["users", "api", "007", "7", "1.5", "..", "%2F", "%ff", "{id}", "gr\u00f6\u00dfe", "a.b", "//"]
)
_VALUES = st.sampled_from(["7", "007", "1.5", "x", "users", "gr\u00f6\u00dfe", "%2F", "a/b", ""])


@st.composite
def _filled(draw: st.DrawFn, templates: list[str]) -> str:
    """Draw a path that a route may match."""
    path = draw(st.sampled_from(templates)).removeprefix("api.example.org")
    return re.sub(r"{\w+}", lambda _: draw(_VALUES), path)


def _requests(templates: set[str]) -> st.SearchStrategy[list[Any]]:
    free = st.lists(_TEXTS, max_size=6).map(lambda parts: "/" + "/".join(parts))
    filled = _filled(sorted(templates))
    return st.lists(
        st.tuples(
            st.one_of(free, filled, filled, filled),
            st.sampled_from([*_METHODS, "GET", "FOO", "get", ""]) | st.text(max_size=4),
            st.sampled_from(["", "", "/users", "/x", "/{id}"]),
            st.sampled_from([b"api.example.org", b"x", b"\xff", b""]),
            st.sampled_from(["http", "http", "websocket"]),
        ),
        min_size=1,
        max_size=12,
    )


def _scopes(requests: list[Any]) -> list[dict[str, Any]]:
    return [
        scope_of(
            root_path + path,
            raw_path=b"/",
            method=method,
            root_path=root_path,
            headers=[(b"host", host)],
            type=kind,
        )
        for path, method, root_path, host, kind in requests
    ]


def _labels(templates: set[str]) -> set[str]:
    """Return all labels that there may be: of templates, methods and kinds alone."""
    named = {f"{template} [{method}]" for template in templates for method in _METHODS}
    return {f"{name}{kind}" for name in (*named, "unmatched") for kind in ("", " websocket")}


@settings(deadline=None, max_examples=60)
@given(made=_routes(), data=st.data())
@pytest.mark.parametrize("name", ["pure", "compiled"])
def test_labels_of_starlette_are_bounded_by_its_routes(
    name: str, made: Made, data: st.DataObject
) -> None:
    routes, templates = made
    requests = data.draw(_requests(templates))
    found = asyncio.run(totals(twin(name), Starlette(routes=routes), _scopes(requests)))
    assert found.total() == len(requests)
    assert {*found} <= _labels(templates)


@get(["/users/{user:int}", "/gr\u00f6\u00dfe/{a:path}"])
async def _litestar_handler() -> None:
    return None


_LITESTAR_TEMPLATES = {"/users/{user}", "/gr\u00f6\u00dfe/{a}"}
_LITESTAR = Litestar([_litestar_handler], openapi_config=None)


@settings(deadline=None, max_examples=20)
@given(_requests(_LITESTAR_TEMPLATES))
def test_labels_of_litestar_are_bounded_by_its_routes(requests: list[Any]) -> None:
    found = asyncio.run(totals(twin("pure"), _LITESTAR, _scopes(requests)))
    assert {*found} <= _labels(_LITESTAR_TEMPLATES)


_QUART_TEMPLATES = {"/users/{user}", "/api/{rest}"}
_QUART = Quart("bounded")


@_QUART.route("/users/<int:user>", methods=["GET", "POST"])
@_QUART.route("/api/<path:rest>")
async def _quart_handler(**parts: object) -> str:
    return "x"


@settings(deadline=None, max_examples=20)
@given(_requests(_QUART_TEMPLATES))
def test_labels_of_quart_are_bounded_by_its_routes(requests: list[Any]) -> None:
    observe(_QUART)
    found = asyncio.run(totals(twin("pure"), _QUART, _scopes(requests)))
    assert {*found} <= _labels(_QUART_TEMPLATES)
