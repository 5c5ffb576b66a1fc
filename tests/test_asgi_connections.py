"""That the compiled twin records a connection as the pure one does, whatever happens amid it."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry import asgi_connections
from aqltelemetry.asgi_connections import ScopeLabels
from aqltelemetry.exchange import InFlight
from aqltelemetry.request_labels import ANSWERING, ASKED
from twinned import RAISED, compiled_twin, raise_if_told, recorded

Step = tuple[str, Any, str]
"""What an application does, with what, and what the server raises or returns then."""


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return compiled_twin("_asgi_connections")


@pytest.fixture(params=[True, False], autouse=True)
def _is_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Have a WSGI middleware ask for the scope being answered, or none."""
    before = list(ASKED)
    ASKED[:] = [object()] if request.param else []
    yield
    ASKED[:] = before


class _Route:
    def __init__(self, path: str) -> None:
        self.path_format = path


class _Mounted(_Route):
    routes = ()


_ROUTES = {"plain": _Route("/x/{y}"), "other": _Route("/z"), "mount": _Mounted("/m"), "none": None}
_CONTEXT = SimpleNamespace(original_route=_ROUTES["plain"], path_format="/included/{y}")


def _scope(kind: str, method: str, where: str) -> dict[str, Any]:
    return {"type": kind, "method": method, "root_path": "/root" * (where == "below")}


def _routed(scope: dict[str, Any], route: str, where: str) -> None:
    """Do to a scope what a framework does on its way to a route."""
    if _ROUTES[route] is not None:
        scope["route"] = _ROUTES[route]
    scope["path"] = "/x/1"
    scope["path_params"] = {"y": "1"}
    if where == "mounted":
        scope["root_path"] += "/mounted"
    elif where == "included":
        scope["fastapi"] = {"effective_route_context": _CONTEXT}
    elif where == "litestar":
        scope["path_template"] = "/l/{y}"
    elif where == "inner":
        scope["aqltelemetry.template"] = "/wsgi/{y}"


async def _serve(connections: Any, way: list[str], steps: list[Step], end: str) -> list[object]:
    """Be server and middleware to an application that takes some steps; tell what it met."""
    kind, method, route, where = way
    trace: list[object] = []
    answers: list[str] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return {"type": answers.pop()}

    async def send(message: Any) -> None:
        outcome = answers.pop()
        await asyncio.sleep(0)
        raise_if_told(outcome)

    scope = _scope(kind, method, where)
    connection = connections.begin(scope, receive, send)
    trace.append((connection is None, ANSWERING.get() is scope))
    if connection is None:
        return trace
    _routed(scope, route, where)
    try:
        for what, message, outcome in steps:
            answers.append(outcome)
            if what == "receive":
                trace.append(await connection.receive())
            else:
                trace.append(await connection.send(message))
        raise_if_told(end)
    except BaseException as exc:
        connection.fail(exc)
        trace.append((type(exc), str(exc)))
    finally:
        connection.leave()
    trace.append(ANSWERING.get())
    return trace


_STARTS = st.builds(
    lambda status, headers: {"type": "http.response.start", "status": status, "headers": headers},
    st.sampled_from([200, 404, 503]),
    st.lists(
        st.sampled_from(
            [
                (b"content-length", b"5"),
                (b"Content-Type", b"text/event-stream; charset=utf-8"),
                (b"content-type", b"text/plain"),
            ]
        ),
        max_size=3,
    ),
)
_MESSAGES = st.one_of(
    _STARTS,
    st.sampled_from(
        [
            {"type": "http.response.start", "status": 201},
            {"type": "http.response.body", "body": b"x", "more_body": True},
            {"type": "http.response.body", "body": b"x"},
            {"type": "http.response.pathsend", "path": "/x"},
            {"type": "websocket.accept"},
            {"type": "websocket.close"},
        ]
    ),
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), _MESSAGES, st.sampled_from(["well", "well", *RAISED])),
        st.tuples(
            st.just("receive"), st.none(), st.sampled_from(["http.request", "http.disconnect"])
        ),
    ),
    max_size=6,
)
_WAYS = st.tuples(
    st.sampled_from(["http", "http", "http", "websocket", "other"]),
    st.sampled_from(["GET", "POST", "INVENTED"]),
    st.sampled_from([*_ROUTES]),
    st.sampled_from(["", "", "below", "mounted", "included", "litestar", "inner"]),
)


_ANSWERED: dict[int, list[Step]] = {
    status: [
        ("send", {"type": "http.response.start", "status": status}, "well"),
        ("send", {"type": "http.response.body"}, "well"),
    ]
    for status in (200, 404)
}


@settings(deadline=None)
@given(st.lists(st.tuples(_WAYS, _STEPS, st.sampled_from(["well", *RAISED])), max_size=5))
def test_both_twins_make_the_same_of_connections(
    compiled: ModuleType, served: list[tuple[list[str], list[Step], str]]
) -> None:
    """Of one middleware's, one after the other, since it keeps what it learns of routes."""
    outcomes = []
    for twin in (asgi_connections, compiled):
        in_flight = InFlight()
        connections = twin.Connections(ScopeLabels(), in_flight, True)
        with recorded() as found:
            traces = [asyncio.run(_serve(connections, *each)) for each in served]
        outcomes.append((traces, found, in_flight.gauge.value))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_disconnect_that_follows_the_last_message_is_no_disconnect(
    compiled: ModuleType, twin: str
) -> None:
    """Hypercorn sends one to each application, before `send` of the last message returns."""
    module = compiled if twin == "compiled" else asgi_connections
    connections = module.Connections(ScopeLabels(), InFlight(), False)
    gone = asyncio.Event()

    async def receive() -> Any:
        await gone.wait()
        return {"type": "http.disconnect"}

    async def serve(*, last: bool) -> None:
        gone.clear()

        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                gone.set()
                await asyncio.sleep(0)
                await listener

        connection = connections.begin(_scope("http", "GET", ""), receive, send)
        listener = asyncio.create_task(connection.receive())
        await connection.send({"type": "http.response.start", "status": 200})
        await connection.send({"type": "http.response.body", "more_body": not last})
        connection.leave()

    with recorded() as found:
        asyncio.run(serve(last=True))
        asyncio.run(serve(last=False))
    assert found == [("unmatched", 2), ("unmatched disconnect", 1)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_headers_reach_the_server_whole(compiled: ModuleType, twin: str, kind: Any) -> None:
    module = compiled if twin == "compiled" else asgi_connections
    connections = module.Connections(ScopeLabels(), InFlight(), False)
    headers = [(b"content-type", b"text/event-stream"), (b"x", b"y")]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.extend(message.get("headers", ()))

    async def serve() -> None:
        connection = connections.begin(_scope("http", "GET", ""), None, send)
        start = {"type": "http.response.start", "status": 200, "headers": kind(headers)}
        await connection.send(start)
        connection.leave()

    with recorded() as found:
        asyncio.run(serve())
    assert sent == headers
    assert found == [("unmatched events", 1)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_route_has_its_template_each_time(compiled: ModuleType, twin: str) -> None:
    module = compiled if twin == "compiled" else asgi_connections
    connections = module.Connections(ScopeLabels(), InFlight(), False)
    ways = [
        *(["http", "GET", "plain", "litestar"],) * 2,
        *(["http", "GET", "plain", "inner"],) * 2,
        *(["http", "GET", "plain", ""],) * 2,
        *(["http", "POST", "plain", ""],) * 2,
        *(["http", "GET", "plain", "mounted"],) * 2,
        *(["http", "GET", "plain", "included"],) * 2,
        *(["http", "GET", "none", ""],) * 2,
    ]
    with recorded() as found:
        for way in ways:
            asyncio.run(_serve(connections, way, _ANSWERED[200], "well"))
        for status in (200, 404):  # what is in a mount is known by its answer
            asyncio.run(
                _serve(connections, ["http", "GET", "mount", ""], _ANSWERED[status], "well")
            )
    assert found == [
        (" [GET]", 1),
        ("/included/{y} [GET]", 2),
        ("/l/{y} [GET]", 2),
        ("/mounted/x/{y} [GET]", 2),
        ("/wsgi/{y} [GET]", 2),
        ("/x/{y} [GET]", 2),
        ("/x/{y} [POST]", 2),
        ("unmatched", 3),
        ("unmatched 4xx", 1),
    ]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_of_two_middlewares_the_outer_one_records(compiled: ModuleType, twin: str) -> None:
    module = compiled if twin == "compiled" else asgi_connections
    outer, inner = (module.Connections(ScopeLabels(), InFlight(), False) for _ in range(2))
    scope = _scope("http", "GET", "")
    with recorded():
        connection = outer.begin(scope, None, None)
        assert connection is not None
        assert inner.begin(scope, None, None) is None
        connection.leave()  # else its scope stays the one that is answered


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_message_that_is_none_raises_as_a_whole(compiled: ModuleType, twin: str) -> None:
    """The exception passes through, and nothing holds the message afterwards."""
    module = compiled if twin == "compiled" else asgi_connections
    connections = module.Connections(ScopeLabels(), InFlight(), False)
    message: dict[str, Any] = {}

    async def receive() -> Any:
        return message

    async def serve() -> None:
        connection = connections.begin(_scope("http", "GET", ""), receive, None)
        for _ in range(3):
            with pytest.raises(KeyError, match="type"):
                await connection.receive()
        connection.leave()

    before = sys.getrefcount(message)
    with recorded():
        asyncio.run(serve())
    gc.collect()
    assert sys.getrefcount(message) <= before
