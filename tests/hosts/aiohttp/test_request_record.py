"""The compiled and the pure twin record the same of a request, whatever happens meanwhile."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import ModuleType, SimpleNamespace, coroutine
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import web
from hypothesis import given, settings
from hypothesis import strategies as st
from multidict import CIMultiDict

from aqltelemetry.hosts.aiohttp.request_record import RequestTimer
from aqltelemetry.hosts.request_record import InFlight
from aqltelemetry.recording.in_flight import current_requests
from aqltelemetry.system.extensions import have_extensions
from twinned import RAISED, compiled_twin, raise_named, recorded

Script = tuple[int, str]
"""The number of suspensions, and the end after them."""
Step = tuple[str, str]
"""How to continue a suspended coroutine, and with which value."""
Trace = list[object]
Story = tuple[Script, tuple[type["_Plain"], int, Script, Script], bool, tuple[int, ...], list[Step]]
"""A handler; its response; whether the handler prepares it; how often each application suspends
before a response; how the event loop continues."""


if TYPE_CHECKING or have_extensions():
    from aqltelemetry.hosts.aiohttp.private import TimedProtocol, TimedRequest
else:  # all here is skipped
    TimedProtocol = TimedRequest = object


class _Route:
    """The route `/x`."""

    resource = SimpleNamespace(canonical="/x")


# An application has its own, and frozen signals.
_ROUTES: dict[tuple[int, ...], _Route] = {hooks: _Route() for hooks in ((0,), (1,), (0, 0), (2, 1))}


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return compiled_twin("hosts.aiohttp._request_record")


@coroutine
def _suspend(trace: Trace, where: str) -> Generator[str, object, None]:
    trace.append((where, (yield where)))


async def _play(trace: Trace, where: str, script: Script) -> None:
    suspensions, end = script
    for _ in range(suspensions):
        await _suspend(trace, where)
    trace.append(f"{where} ends")
    raise_named(end)


class _Plain:
    """A plain response that follows scripts; each step is done once."""

    def __init__(self, trace: Trace, status: int, prepare: Script, write_eof: Script) -> None:
        self.status = self._status = status
        self.scripts = (trace, prepare, write_eof)
        self._is_prepared = self._eof_sent = False

    async def prepare(self, request: Any) -> None:
        trace, script, _ = self.scripts
        if not self._is_prepared:
            self._is_prepared = True
            self._writer = request.writer
            await _play(trace, "prepare", script)
            await request._prepare_hook(self)
            await self._writer.write_headers(f"HTTP/1.1 {self.status} X", CIMultiDict())

    async def write_eof(self) -> None:
        trace, _, script = self.scripts
        if not self._eof_sent:
            await _play(trace, "write_eof", script)
            await self._writer.write_eof()
            self._eof_sent = True


class _Other(_Plain):
    """A response of another class."""


class _Writer:
    """The writer of a response."""

    async def write_headers(self, status_line: str, headers: CIMultiDict[str]) -> None:
        pass

    async def write_eof(self) -> None:
        pass


class _Signal:
    """The signals of an application before a response; not awaited where it has none."""

    def __init__(self, suspensions: int) -> None:
        self.suspensions = suspensions

    def __len__(self) -> int:
        return self.suspensions


class _Protocol(TimedProtocol):
    """A connection whose client has gone when something fails."""

    __slots__ = ("access_logger", "closed", "transport")

    def __init__(self) -> None:
        self.access_logger = self.transport = None
        self.closed = 0

    def force_close_untimed(self) -> None:
        self.closed += 1


class _Request(TimedRequest):
    """A request of the route `/x`, of an application and maybe one below it."""

    hooks: tuple[Trace, tuple[int, ...]]

    def __init__(
        self,
        protocol: _Protocol,
        trace: Trace,
        hooks: tuple[int, ...],
        route: _Route | None = None,
    ) -> None:
        route = route or _ROUTES[hooks]
        apps = [SimpleNamespace(_on_response_prepare=_Signal(each)) for each in hooks]
        values = {
            "_cache": {},
            "_method": "GET",
            "_message": SimpleNamespace(path="/x?y=1"),
            "_protocol": protocol,
            "_payload_writer": _Writer(),
            "_match_info": SimpleNamespace(route=route, _route=route, _apps=apps),
            "hooks": (trace, hooks),
        }
        for name, value in values.items():
            object.__setattr__(self, name, value)

    async def prepare_hook_untimed(self, response: object) -> None:
        trace, hooks = self.hooks
        for suspensions in hooks:
            await _play(trace, "hook", (suspensions, "well"))


async def _serve(timed: Any, request: Any, protocol: Any) -> object:
    """Handle a request like `RequestHandler.start` of aiohttp."""
    try:
        response = await timed(request)
        if isinstance(response, _Plain):
            try:
                await response.prepare(request)
                await response.write_eof()
            except ConnectionError:
                protocol.log_access(request, response, None)
                raise
        protocol.log_access(request, response, None)
    except BaseException:
        protocol.force_close()
        raise
    return response


def _drive(served: Coroutine[Any, Any, object], steps: list[Step], trace: Trace) -> None:
    """Run a coroutine like an event loop, with values or exceptions; return what it yields."""
    try:
        trace.append(("yielded", served.send(None)))
        for how, what in steps:
            if how == "close":
                trace.append(("closed", served.close()))
                return
            go_on = served.send(what) if how == "send" else served.throw(RAISED[what]())
            trace.append(("yielded", go_on))
        trace.append(("closed", served.close()))
    except StopIteration as stop:
        trace.append(("returned", type(stop.value)))
    except BaseException as exc:
        trace.append(("raised", type(exc), str(exc)))


def _outcome(
    compiled: ModuleType | None, stories: list[Story]
) -> tuple[Trace, list[tuple[str, int]], float]:
    """Return what the requests of one connection did: seen, recorded, still in flight."""
    trace: Trace = []
    protocol, in_flight = _Protocol(), InFlight()
    story: Story

    async def handle(request: Any) -> Any:
        handler, (kind, status, prepare, write_eof), is_early, _, _ = story
        response = kind(trace, status, prepare, write_eof)
        if is_early:
            await response.prepare(request)
        await _play(trace, "handler", handler)
        return response

    timer = RequestTimer(handle, in_flight, with_ttfb=True)
    timer.plain = _Plain  # type: ignore[assignment]
    timed: Any = timer.handle
    if compiled is not None:
        timed = compiled.RequestTimer(timer, None, handle, _Request, _Protocol).handle
    with recorded() as found:
        for story in stories:
            request = _Request(protocol, trace, story[3])
            _drive(_serve(timed, request, protocol), story[4], trace)
        trace += [each.text for each in current_requests()]
        assert len(current_requests()) == in_flight.gauge.value
    trace.append(protocol.closed)
    return trace, found, in_flight.gauge.value


_SCRIPTS = st.tuples(st.integers(0, 2), st.sampled_from(["well", "well", "well", *RAISED]))
_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("send"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("send"), st.sampled_from(["a", "b"])),
        st.tuples(st.just("throw"), st.sampled_from([*RAISED])),
        st.tuples(st.just("close"), st.just("")),
    ),
    max_size=6,
)
_RESPONSES = st.tuples(
    st.sampled_from([_Plain, _Plain, _Other]), st.sampled_from([200, 404, 503]), _SCRIPTS, _SCRIPTS
)


_MORE = ("/x [GET] 4xx", "/x [GET] ttfb")
_CANCEL = ("throw", "cancelled")


_STORIES = st.tuples(
    _SCRIPTS,
    _RESPONSES,
    st.booleans(),
    st.sampled_from([(0,), *_ROUTES]),
    _STEPS,
)


@settings(deadline=None, max_examples=300)
@given(st.lists(_STORIES, min_size=1, max_size=3))
def test_both_twins_record_the_same_of_requests(compiled: ModuleType, stories: list[Story]) -> None:
    outcomes = [_outcome(twin, stories) for twin in (None, compiled)]
    assert outcomes[0] == outcomes[1]
    trace, _, in_flight = outcomes[0]
    # aiohttp would send such a response itself.
    assert in_flight <= sum(isinstance(each, tuple) and web.HTTPForbidden in each for each in trace)
    assert "AttributeError" not in str(trace)


@pytest.mark.parametrize(
    ("handler", "response", "steps", "recorded"),
    [
        ((0, "well"), (_Plain, 200), [], ["/x [GET]", "/x [GET] ttfb"]),
        ((1, "well"), (_Plain, 404), [("send", "a")], ["/x [GET]", *_MORE]),
        ((1, "well"), (_Plain, 200), [("close", "")], ["/x [GET]", "/x [GET] 5xx"]),
        ((1, "well"), (_Plain, 200), [_CANCEL], ["/x [GET]", "/x [GET] disconnect"]),
        ((0, "bug"), (_Plain, 200), [], ["/x [GET]", "/x [GET] 5xx"]),
    ],
)
def test_the_compiled_twin_records_each_end_once(
    compiled: ModuleType,
    handler: Script,
    response: tuple[type[_Plain], int],
    steps: list[Step],
    recorded: list[str],
) -> None:
    well = (0, "well")
    story: Story = (handler, (*response, well, well), False, (0,), steps)
    _, found, in_flight = _outcome(compiled, [story, story])
    assert found == [(label, 2) for label in recorded]
    assert in_flight == 0


_WELL = (0, "well")


def _made(handle: Callable[..., Any], compiled: ModuleType | None) -> Callable[..., Any]:
    timer = RequestTimer(handle, InFlight(), with_ttfb=True)
    timer.plain = _Plain  # type: ignore[assignment]
    if compiled is None:
        return timer.handle
    timed: Callable[..., Any]
    timed = compiled.RequestTimer(timer, None, handle, _Request, _Protocol).handle
    return timed


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_request_that_is_handled_within_another_is_recorded_too(
    compiled: ModuleType, twin: str
) -> None:
    trace: Trace = []
    protocol = _Protocol()
    requests = [_Request(protocol, trace, (0,)) for _ in range(2)]

    async def handle(request: Any) -> Any:
        if request is requests[0]:
            await timed(requests[1])
        return _Plain(trace, 200, _WELL, _WELL)

    timed = _made(handle, compiled if twin == "compiled" else None)
    with recorded() as found:
        _drive(_serve(timed, requests[0], protocol), [], trace)
    assert found == [("/x [GET]", 2), ("/x [GET] ttfb", 2)]


@pytest.mark.parametrize("twin", ["pure", "compiled"])
def test_a_request_that_failed_before_its_response_has_no_first_byte(
    compiled: ModuleType, twin: str
) -> None:
    """Even where the connection had another request before."""
    trace: Trace = []
    protocol = _Protocol()
    scripts = iter([_WELL, (0, "gone")])

    async def handle(request: Any) -> Any:
        return _Plain(trace, 200, next(scripts), _WELL)

    timed = _made(handle, compiled if twin == "compiled" else None)
    with recorded() as found:
        for _ in range(2):
            _drive(_serve(timed, _Request(protocol, trace, (0,)), protocol), [], trace)
    assert found == [("/x [GET]", 2), ("/x [GET] disconnect", 1), ("/x [GET] ttfb", 1)]


def test_the_signals_of_a_sub_applications_route_are_looked_up_each_time(
    compiled: ModuleType,
) -> None:
    """It may be mounted twice."""
    trace: Trace = []
    protocol = _Protocol()

    async def handle(request: Any) -> Any:
        return _Plain(trace, 200, _WELL, _WELL)

    timed, route = _made(handle, compiled), _Route()
    with recorded():
        for hooks in ((0, 0), (0, 1)):
            request = _Request(protocol, trace, hooks, route)
            _drive(_serve(timed, request, protocol), [("send", "on")], trace)
    assert ("hook", "on") in trace


def test_a_copy_of_a_request_that_has_ended_is_not_recorded(compiled: ModuleType) -> None:
    trace: Trace = []
    protocol = _Protocol()
    copy = _Request(protocol, trace, (0,))

    async def handle(request: Any) -> Any:
        object.__setattr__(copy, "_handling", request._handling)
        return _Plain(trace, 200, _WELL, _WELL)

    timed = _made(handle, compiled)
    with recorded() as found:
        _drive(_serve(timed, _Request(protocol, trace, (0,)), protocol), [], trace)
        _drive(_Plain(trace, 200, _WELL, _WELL).prepare(copy), [], trace)
    assert found == [("/x [GET]", 1), ("/x [GET] ttfb", 1)]
    assert trace[-1] == ("returned", type(None))
