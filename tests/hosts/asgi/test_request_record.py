"""The compiled and the pure twin record the same of a request, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from asgiref.sync import iscoroutinefunction
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.hosts.asgi import request_record as pure
from aqltelemetry.hosts.asgi.request_record import ScopeLabels
from aqltelemetry.hosts.labels import CURRENT_ASGI_SCOPE, WSGI_MIDDLEWARE_EXISTS
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.recording.in_flight import current_requests
from twinned import RAISED, compiled_twin, raise_named, recorded

Step = tuple[str, Any, str]
"""The actions of an application with their arguments, and what the server raises or returns."""


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return compiled_twin("hosts.asgi._request_record")


@pytest.fixture(params=[True, False], autouse=True)
def _is_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """With or without a WSGI middleware in the process, which needs the current scope."""
    before = list(WSGI_MIDDLEWARE_EXISTS)
    WSGI_MIDDLEWARE_EXISTS[:] = [object()] if request.param else []
    yield
    WSGI_MIDDLEWARE_EXISTS[:] = before


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
    """Change a scope like a framework that routes it."""
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


async def _serve(requests: Any, way: list[str], steps: list[Step], end: str) -> list[object]:
    """Serve an application that takes some steps; return what it received and raised."""
    kind, method, route, where = way
    trace: list[object] = []
    answers: list[str] = []

    async def receive() -> Any:
        await asyncio.sleep(0)
        return {"type": answers.pop()}

    async def send(message: Any) -> None:
        outcome = answers.pop()
        await asyncio.sleep(0)
        raise_named(outcome)

    scope = _scope(kind, method, where)
    record = requests.begin(scope, receive, send)
    trace.append((record is None, CURRENT_ASGI_SCOPE.get() is scope))
    if record is None:
        return trace
    _routed(scope, route, where)
    try:
        for what, message, outcome in steps:
            answers.append(outcome)
            if what == "receive":
                trace.append(await record.receive())
            else:
                trace.append(await record.send(message))
        raise_named(end)
    except BaseException as exc:
        record.fail(exc)
        trace.append((type(exc), str(exc)))
    finally:
        record.leave()
    trace.append(CURRENT_ASGI_SCOPE.get())
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
            {"type": "websocket.http.response.start", "status": 401, "headers": []},
            {"type": "websocket.http.response.start", "status": 503},
            {"type": "websocket.http.response.body", "body": b"x", "more_body": True},
            {"type": "websocket.http.response.body", "body": b"x"},
            {"type": "http.response.start", "status": "odd", "headers": 7},
        ]
    ),
)
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), _MESSAGES, st.sampled_from(["well", "well", *RAISED])),
        st.tuples(
            st.just("receive"),
            st.none(),
            st.sampled_from(["http.request", "http.disconnect", "websocket.disconnect"]),
        ),
    ),
    max_size=6,
)
_WAYS = st.tuples(
    st.sampled_from(["http", "http", "websocket", "other"]),
    st.sampled_from(["GET", "POST", "INVENTED"]),
    st.sampled_from([*_ROUTES]),
    st.sampled_from(["", "", "below", "mounted", "included", "litestar", "inner"]),
)


_ANSWERED: list[Step] = [
    ("send", {"type": "http.response.start", "status": 200}, "well"),
    ("send", {"type": "http.response.body"}, "well"),
]


@settings(deadline=None)
@given(st.lists(st.tuples(_WAYS, _STEPS, st.sampled_from(["well", *RAISED])), max_size=5))
def test_both_twins_record_the_same_of_requests(
    compiled: ModuleType, served: list[tuple[list[str], list[Step], str]]
) -> None:
    """Several requests in turn, since a middleware keeps the labels of routes."""
    outcomes = []
    for twin in (pure, compiled):
        in_flight = InFlight()
        requests = twin.AsgiRequests(ScopeLabels(), in_flight, True)
        with recorded() as found:
            traces = [asyncio.run(_serve(requests, *each)) for each in served]
            assert len(current_requests()) == in_flight.gauge.value
        outcomes.append((traces, found, in_flight.gauge.value))
    assert outcomes[0] == outcomes[1]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_disconnect_message_after_the_last_part_is_not_counted(
    compiled: ModuleType, twin: str
) -> None:
    """Hypercorn sends one to each application, before `send` of the last message returns."""
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)
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

        record = requests.begin(_scope("http", "GET", ""), receive, send)
        listener = asyncio.create_task(record.receive())
        await record.send({"type": "http.response.start", "status": 200})
        await record.send({"type": "http.response.body", "more_body": not last})
        record.leave()

    with recorded() as found:
        asyncio.run(serve(last=True))
        asyncio.run(serve(last=False))
    assert found == [("unmatched", 2), ("unmatched disconnect", 1)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_receive_and_send_are_recognised_as_coroutine_functions(
    compiled: ModuleType, twin: str
) -> None:
    """Otherwise `asgiref.sync.async_to_sync` warns, as it does for a WSGI application in ASGI."""
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)
    with recorded():
        record = requests.begin(_scope("http", "GET", ""), None, None)
        assert iscoroutinefunction(record.send)
        assert iscoroutinefunction(record.receive)
        assert not hasattr(record.send, "another attribute")
        record.leave()


@pytest.mark.parametrize("twin", ["pure", "compiled"])
@pytest.mark.parametrize("kind", [list, tuple, iter])
def test_headers_of_any_kind_reach_the_server(compiled: ModuleType, twin: str, kind: Any) -> None:
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)
    headers = [(b"content-type", b"text/event-stream"), (b"x", b"y")]
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.extend(message.get("headers", ()))

    async def serve() -> None:
        record = requests.begin(_scope("http", "GET", ""), None, send)
        start = {"type": "http.response.start", "status": 200, "headers": kind(headers)}
        await record.send(start)
        record.leave()

    with recorded() as found:
        asyncio.run(serve())
    assert sent == headers
    assert found == [("unmatched events", 1)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_route_has_its_template_each_time(compiled: ModuleType, twin: str) -> None:
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)
    ways = [
        *(["http", "GET", "plain", "litestar"],) * 2,
        *(["http", "GET", "plain", "inner"],) * 2,
        *(["http", "GET", "plain", ""],) * 2,
        *(["http", "POST", "plain", ""],) * 2,
        *(["http", "GET", "plain", "included"],) * 2,
        *(["http", "GET", "none", ""],) * 2,
    ]
    with recorded() as found:
        for way in ways:
            asyncio.run(_serve(requests, way, _ANSWERED, "well"))
    assert found == [
        ("/included/{y} [GET]", 2),
        ("/l/{y} [GET]", 2),
        ("/wsgi/{y} [GET]", 2),
        ("/x/{y} [GET]", 2),
        ("/x/{y} [POST]", 2),
        ("unmatched", 2),
    ]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_of_two_middlewares_the_outer_one_records(compiled: ModuleType, twin: str) -> None:
    module = compiled if twin == "compiled" else pure
    outer, inner = (module.AsgiRequests(ScopeLabels(), InFlight(), False) for _ in range(2))
    scope = _scope("http", "GET", "")
    with recorded():
        record = outer.begin(scope, None, None)
        assert record is not None
        assert inner.begin(scope, None, None) is None
        record.leave()  # else its scope stays the one that is answered


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_malformed_message_raises_and_is_not_kept(compiled: ModuleType, twin: str) -> None:
    """The exception passes through, and nothing holds the message afterwards."""
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)
    message: dict[str, Any] = {}

    async def receive() -> Any:
        return message

    async def serve() -> None:
        record = requests.begin(_scope("http", "GET", ""), receive, None)
        for _ in range(3):
            with pytest.raises(KeyError, match="type"):
                await record.receive()
        record.leave()

    before = sys.getrefcount(message)
    with recorded():
        asyncio.run(serve())
    gc.collect()
    assert sys.getrefcount(message) <= before


def _sent(kind: str, outcome: str = "well", **message: Any) -> Step:
    return ("send", {"type": kind, **message}, outcome)


_CONNECTED: Step = ("receive", None, "websocket.connect")
_GONE: Step = ("receive", None, "websocket.disconnect")
_ACCEPTED = _sent("websocket.accept")
_CLOSED = _sent("websocket.close", code=1000)
_LAST = _sent("websocket.http.response.body", body=b"no")
_HANDSHAKES: dict[str, tuple[list[Step], str, list[str]]] = {
    "accepted": ([_CONNECTED, _ACCEPTED, _CLOSED], "well", ["ttfb"]),
    "accepted, and the client leaves": ([_CONNECTED, _ACCEPTED, _GONE], "well", ["ttfb"]),
    "accepted, and the application fails": ([_CONNECTED, _ACCEPTED], "bug", ["5xx", "ttfb"]),
    "closed": ([_CONNECTED, _CLOSED], "well", ["4xx"]),
    "closed, before anything was received": ([_CLOSED], "well", ["4xx"]),
    "closed twice": ([_CONNECTED, _CLOSED, _CLOSED], "well", ["4xx"]),
    "closed, and the server says so": ([_CONNECTED, _CLOSED, _GONE], "well", ["4xx"]),
    "closed, and the application fails then": ([_CONNECTED, _CLOSED], "bug", ["4xx"]),
    "closed, to a client that is gone": (
        [_CONNECTED, _sent("websocket.close", "gone")],
        "gone",
        ["disconnect"],
    ),
    "denied by a status": (
        [_CONNECTED, _sent("websocket.http.response.start", status=401), _LAST],
        "well",
        ["4xx"],
    ),
    "denied by a server's error, with a body in parts": (
        [
            _CONNECTED,
            _sent("websocket.http.response.start", status=503, headers=[]),
            _sent("websocket.http.response.body", body=b"n", more_body=True),
            _LAST,
        ],
        "well",
        ["5xx"],
    ),
    "denied by an event stream": (
        [
            _CONNECTED,
            _sent(
                "websocket.http.response.start",
                status=404,
                headers=[(b"content-type", b"text/event-stream")],
            ),
            _LAST,
        ],
        "well",
        ["4xx"],
    ),
    "redirected": (
        [_CONNECTED, _sent("websocket.http.response.start", status=307), _LAST],
        "well",
        [],
    ),
    "denied, without the end of the answer": (
        [_CONNECTED, _sent("websocket.http.response.start", status=403)],
        "well",
        ["4xx"],
    ),
    "an exception": ([_CONNECTED], "bug", ["5xx"]),
    "an exception at once": ([], "bug", ["5xx"]),
    "nothing": ([_CONNECTED], "well", ["5xx"]),
    "nothing at all": ([], "well", ["5xx"]),
    "the client leaves": ([_CONNECTED, _GONE], "well", ["disconnect"]),
    "the client leaves, which the application raises": ([_CONNECTED, _GONE], "bug", ["disconnect"]),
    "the client leaves, and is closed": ([_CONNECTED, _GONE, _CLOSED], "well", ["disconnect"]),
    "cancelled": ([_CONNECTED], "cancelled", ["disconnect"]),
    "gone while it is accepted": (
        [_CONNECTED, _sent("websocket.accept", "gone")],
        "gone",
        ["disconnect", "ttfb"],
    ),
}


@pytest.mark.parametrize("twin", ["pure", "compiled"])
@pytest.mark.parametrize("story", _HANDSHAKES)
def test_a_handshake_is_recorded_by_its_result(compiled: ModuleType, twin: str, story: str) -> None:
    module = compiled if twin == "compiled" else pure
    steps, end, outcomes = _HANDSHAKES[story]
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), True)
    with recorded() as found:
        asyncio.run(_serve(requests, ["websocket", "GET", "plain", ""], steps, end))
    label = "/x/{y} [GET] websocket"
    assert found == [(label, 1), *((f"{label} {outcome}", 1) for outcome in outcomes)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_request_without_a_response_is_an_error(compiled: ModuleType, twin: str) -> None:
    """A server responds with an error for such an application, unless the client has gone."""
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), True)
    gone: Step = ("receive", None, "http.disconnect")
    with recorded() as found:
        for steps in ([], [gone]):
            asyncio.run(_serve(requests, ["http", "GET", "plain", ""], steps, "well"))
    assert found == [("/x/{y} [GET]", 2), ("/x/{y} [GET] 5xx", 1), ("/x/{y} [GET] disconnect", 1)]


_ODD_SCOPES: list[dict[str, Any]] = [
    {"fastapi": object()},
    {"fastapi": {"effective_route_context": object()}, "route": object()},
    {"fastapi": {}, "route": object(), "router": object(), "path_params": None},
    {"endpoint": 7, "router": None},
    {"path_template": 7},
    {"aqltelemetry.template": 7},
    {"method": ["GET"], "route": _ROUTES["plain"]},
]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
@pytest.mark.parametrize("odd", _ODD_SCOPES)
def test_a_scope_that_cannot_be_read_is_passed_on(
    compiled: ModuleType, twin: str, odd: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    module = compiled if twin == "compiled" else pure
    requests = module.AsgiRequests(ScopeLabels(), InFlight(), False)

    async def serve() -> None:
        async def send(message: Any) -> None:
            pass

        scope = {**_scope("http", "GET", ""), "path": "/x"}
        record = requests.begin(scope, None, send)
        scope.update(odd)
        await record.send({"type": "http.response.start", "status": 200})
        await record.send({"type": "http.response.body"})
        record.leave()

    with recorded() as found:
        for _ in range(3):
            asyncio.run(serve())
    ((_, count),) = found
    assert count == 3
    assert len(caplog.records) <= 1
