"""The pure and the compiled twin record the same of a WSGI request, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.hosts.labels import safe_template
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.hosts.wsgi import request_record
from aqltelemetry.hosts.wsgi.routes import wsgi_template
from aqltelemetry.recording import recorder
from aqltelemetry.recording.in_flight import current_requests
from aqltelemetry.system.extensions import choose
from twinned import RAISED, raise_named, recorded


class _Body:
    """Chunks, one of which may name an exception to raise, and a `close` that may fail."""

    def __init__(self, chunks: list[Any], closing: str) -> None:
        self._chunks = chunks
        self._closing = closing

    def __iter__(self) -> Iterator[Any]:
        for chunk in self._chunks:
            raise_named(chunk)
            yield chunk

    def close(self) -> None:
        raise_named(self._closing)


class _File(_Body):
    """A file, which a server sends by itself."""


class _Sized(_Body):
    """A body with a length, as a list has."""

    def __len__(self) -> int:
        return len(self._chunks)


class _Text(str):
    """A subclass of text."""

    __slots__ = ()


class _Broken:
    """A request whose rule can't be read."""

    @property
    def url_rule(self) -> object:
        raise ValueError


_RULES = {name: SimpleNamespace(rule=f"/{name}/<int:y>") for name in ("x", "z")}
_REQUESTS = {
    **{name: SimpleNamespace(url_rule=rule) for name, rule in _RULES.items()},
    "unmatched": SimpleNamespace(url_rule=None),
    "forgotten": None,
    "none": SimpleNamespace(),
    "odd": SimpleNamespace(url_rule=SimpleNamespace(rule=None)),
    "broken": _Broken(),
}


def _in_environ(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
    """Respond like the application in the environment of the request."""
    return environ["application"](environ, start)


def _requests(twin: ModuleType, in_flight: InFlight, *, with_ttfb: bool) -> Any:
    template: Any = safe_template(wsgi_template)
    return twin.RecordedApplication(
        _in_environ, template, in_flight, with_ttfb=with_ttfb, by_rule=True
    )


def _answered(requests: Any, story: dict[str, Any]) -> list[object]:
    """Serve one request; return what the server received."""
    trace: list[object] = []

    def start_response(*arguments: Any) -> str:
        trace.append(arguments)
        return "write"

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        if story["route"] is not None:
            environ["werkzeug.request"] = _REQUESTS[story["route"]]
        trace.extend(start(*begun) for begun in story["starts"])
        raise_named(story["raises"])
        return story["body"](story["chunks"], story["closing"])

    environ: dict[str, Any] = {
        "REQUEST_METHOD": story["method"],
        "wsgi.file_wrapper": _File,
        "application": application,
    }
    try:
        body = requests(environ, start_response)
    except BaseException as exc:
        return [*trace, type(exc)]
    environ["werkzeug.request"] = None  # as Flask forgets it
    try:
        for number, chunk in enumerate(body):
            trace.append(chunk)
            if number == story["gone_after"]:
                raise_named(story["gone_by"])
    except BaseException as exc:
        trace.append(type(exc))
        if isinstance(exc, SystemExit):
            _closed(body, trace)  # as a server does while it handles the exception
            return trace
    _closed(body, trace)
    return trace


def _closed(body: Any, trace: list[object]) -> None:
    try:
        body.close()
    except BaseException as exc:
        trace.append(("close", type(exc)))


_HEADERS = st.lists(
    st.sampled_from(
        [
            ("Content-Length", "2"),
            ("content-type", "text/event-stream"),
            ("Content-Type", "text/html"),
            ("X-Content-Type", "text/event-stream"),
            ("CONTENT-TYPE", _Text("text/event-stream")),
            ("Content-Type", None),
            (b"Content-Type", "text/event-stream"),
            ("content-\u0442ype", "text/event-stream"),
            ("content-typ\udc80", "text/event-stream"),
        ]
    ),
    max_size=3,
)
_STATUSES = st.sampled_from(
    ["200 OK", "404 Not Found", "503 Busy", "200", "5030 x", "9" * 30, "-4 x", "weird", ""]
)
_STARTS = st.tuples(_STATUSES, _HEADERS) | st.tuples(_STATUSES, _HEADERS, st.just(("exc", "info")))
_STORIES = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "INVENTED"]),
        "route": st.sampled_from(["x", "z", None, *_REQUESTS]),
        "starts": st.lists(_STARTS, max_size=2),
        "raises": st.sampled_from(["well"] * 4 + [*RAISED]),
        "body": st.sampled_from([_Body, _Sized, _File]),
        "chunks": st.lists(st.sampled_from([b"", b"x", b"xx", *RAISED]), max_size=4),
        "closing": st.sampled_from(["well"] * 4 + [*RAISED]),
        "gone_after": st.integers(0, 6),
        "gone_by": st.sampled_from(["gone", "exit"]),
    }
)


_DISCONNECT = "/x/{y} [GET] disconnect"


@settings(deadline=None)
@given(st.lists(_STORIES, min_size=1, max_size=4))
def test_both_twins_record_the_same(compiled: ModuleType, stories: list[dict[str, Any]]) -> None:
    results = []
    for twin in (request_record, compiled):
        in_flight = InFlight()
        requests = _requests(twin, in_flight, with_ttfb=True)
        with recorded() as found:
            traces = [_answered(requests, story) for story in stories]
            assert current_requests() == []
        results.append((traces, found, in_flight.gauge.value))
    assert results[0] == results[1]
    assert results[0][2] == 0


@settings(deadline=None)
@given(st.lists(_STORIES, min_size=1, max_size=4))
def test_a_recorded_application_answers_as_a_bare_one(
    twin: ModuleType, stories: list[dict[str, Any]]
) -> None:
    in_flight = InFlight()
    requests = _requests(twin, in_flight, with_ttfb=False)
    with recorded() as found:
        traces = [_answered(requests, story) for story in stories]
    assert traces == [_answered(_in_environ, story) for story in stories]
    additional = (" 4xx", " 5xx", " disconnect")
    totals = [count for label, count in found if not label.endswith(additional)]
    assert sum(totals) == len(stories)
    assert in_flight.gauge.value == 0


@pytest.mark.parametrize(
    ("length", "gone_by", "outcome"),
    [("2", "exit", []), ("3", "exit", [_DISCONNECT]), ("2", "gone", [_DISCONNECT])],
)
def test_a_worker_that_quits_when_all_was_sent_records_no_disconnect(
    twin: ModuleType, length: str, gone_by: str, outcome: list[str]
) -> None:
    story = _story(starts=[("200 OK", [("Content-Length", length)])], gone_after=1, gone_by=gone_by)
    with recorded() as found:
        _answered(_of(twin), story)
    assert found == [(label, 1) for label in ["/x/{y} [GET]", *outcome]]


@pytest.mark.parametrize(
    ("body", "length"),
    [([b"one"], 1), ((b"one",), 1), ([], 0), ([b"one", b"two"], 2), (iter([b"one"]), None)],
    ids=["list", "tuple", "empty", "two", "iterator"],
)
def test_a_body_has_a_length_where_the_applications_has_one(
    twin: ModuleType, body: Any, length: int | None
) -> None:
    """Waitress and wsgiref derive Content-Length from a single chunk."""
    requests = _of(twin)
    with recorded() as found:
        given = requests({"application": lambda environ, start: body}, None)
        assert (len(given) if hasattr(given, "__len__") else None) == length
        assert [*given] in ([b"one"], [], [b"one", b"two"])
        given.close()
    assert ("unmatched", 1) in found


@pytest.mark.parametrize("body", [b"whole", "text"])
def test_a_body_that_is_not_iterable_is_passed_to_the_server(twin: ModuleType, body: Any) -> None:
    requests = _of(twin)
    with recorded() as found:
        assert requests({"application": lambda environ, start: body}, None) is body
    assert ("unmatched", 1) in found


def test_a_file_is_passed_to_a_server_whose_wrapper_is_a_function(twin: ModuleType) -> None:
    """UWSGI compares the returned body with its wrapper's object by identity."""
    requests = _of(twin)
    file = SimpleNamespace(fileno=lambda: 3)
    environ = {"application": lambda environ, start: file, "wsgi.file_wrapper": lambda file: file}
    with recorded() as found:
        assert requests(environ, None) is file
    assert ("unmatched", 1) in found


@pytest.mark.parametrize("chunk", [5, "text", None])
def test_a_chunk_that_is_not_bytes_reaches_the_server(twin: ModuleType, chunk: object) -> None:
    requests = _of(twin)
    with recorded():
        given = requests({"application": lambda environ, start: [chunk]}, None)
        assert [*given] == [chunk]
        given.close()


def test_a_rule_has_its_template_each_time(twin: ModuleType) -> None:
    requests = _of(twin)
    events = [("200 OK", [("Content-Type", "text/event-stream")])]
    with recorded() as found:
        for _ in range(2):
            for route in ("x", "z", "unmatched"):
                _answered(requests, _story(route=route))
            _answered(requests, _story(method="POST"))
            _answered(requests, _story(method="ODD"))
            _answered(requests, _story(starts=events))
    assert found == [
        ("/x/{y} [GET]", 2),
        ("/x/{y} [GET] events", 2),
        ("/x/{y} [OTHER]", 2),
        ("/x/{y} [POST]", 2),
        ("/z/{y} [GET]", 2),
        ("unmatched", 2),
    ]


@pytest.mark.parametrize(("template", "calls"), [("/x", 1), (None, 3)])
def test_the_template_of_a_rule_is_looked_up_until_it_is_known(
    twin: ModuleType, template: str | None, calls: int
) -> None:
    looked_up: list[object] = []

    def look_up(environ: dict[str, Any]) -> str | None:
        looked_up.append(environ["werkzeug.request"])
        return template

    requests = twin.RecordedApplication(
        _in_environ, look_up, InFlight(), with_ttfb=False, by_rule=True
    )
    with recorded() as found:
        for _ in range(3):
            _answered(requests, _story())
    assert looked_up == [_REQUESTS["x"]] * calls
    assert found == [("/x [GET]" if template else "unmatched", 3)]


def test_a_user_defined_template_is_called_each_time(twin: ModuleType) -> None:
    """Even where Flask has the same rule for all requests."""
    templates = iter(["/a", "/b"])
    requests = twin.RecordedApplication(
        _in_environ, lambda environ: next(templates), InFlight(), with_ttfb=False
    )
    with recorded() as found:
        for _ in range(2):
            _answered(requests, _story())
    assert found == [("/a [GET]", 1), ("/b [GET]", 1)]


def test_of_two_middlewares_the_outer_one_records(twin: ModuleType) -> None:
    outer, inner = _of(twin), _of(twin)
    in_outer: list[object] = []

    def application(environ: dict[str, Any], start: Callable[..., Any]) -> Any:
        in_outer.append(environ)
        environ["application"] = lambda environ, start: [b"x"]
        return inner(environ, start)

    with recorded() as found:
        body = outer({"application": application}, lambda *arguments: None)
        assert list(body) == [b"x"]
        body.close()
    assert found == [("unmatched", 1)]
    assert in_outer


def _of(twin: ModuleType) -> Any:
    return _requests(twin, InFlight(), with_ttfb=False)


def _story(**changes: Any) -> dict[str, Any]:
    return {
        "method": "GET",
        "route": "x",
        "starts": [("200 OK", [])],
        "raises": "well",
        "body": _Body,
        "chunks": [b"x", b"x"],
        "closing": "well",
        "gone_after": 9,
        "gone_by": "gone",
        **changes,
    }


def test_all_durations_of_a_request_are_recorded_though_its_worker_quits_meanwhile(
    twin: ModuleType,
) -> None:
    """Signal handlers may run while a request is recorded."""
    hot_path = choose("aqltelemetry.recording.hot_path")
    appended: list[object] = []

    def slow(label: object, *record: object) -> None:
        appended.append(label)
        if len(appended) == 1:
            raise SystemExit

    requests = _requests(twin, InFlight(), with_ttfb=True)
    story = _story(starts=[("404 No", [])])
    with recorded():
        hot_path.set_slow_path(slow)
        try:
            trace = _answered(requests, story)
        finally:
            hot_path.set_slow_path(recorder._append)
    assert appended == ["/x/{y} [GET]", "/x/{y} [GET] ttfb", "/x/{y} [GET] 4xx"]
    assert trace[-1] == ("close", SystemExit)
