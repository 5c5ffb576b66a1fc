"""That the compiled twin handles a request as the pure one does, whatever happens amid it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from types import ModuleType, SimpleNamespace, coroutine
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aqltelemetry.aiohttp_requests import RequestTimer
from aqltelemetry.exchange import InFlight
from twinned import RAISED, compiled_twin, raise_if_told, recorded

Script = tuple[int, str]
"""How often to suspend, and how to end after that."""
Step = tuple[str, str]
"""How to go on where it is suspended, and by what."""
Trace = list[object]


class _Route:
    """The route `/x`."""

    resource = SimpleNamespace(canonical="/x")


_ROUTE = _Route()


@pytest.fixture(scope="module")
def compiled() -> ModuleType:
    return compiled_twin("_aiohttp_requests")


@coroutine
def _suspend(trace: Trace, where: str) -> Generator[str, object, None]:
    trace.append((where, (yield where)))


async def _play(trace: Trace, where: str, script: Script) -> None:
    suspensions, end = script
    for _ in range(suspensions):
        await _suspend(trace, where)
    trace.append(f"{where} ends")
    raise_if_told(end)


class _Plain:
    """A response that the timer sends, as scripts have it."""

    def __init__(self, trace: Trace, status: int, prepare: Script, write_eof: Script) -> None:
        self.status = self._status = status
        self.scripts = (trace, prepare, write_eof)

    async def prepare(self, request: object) -> None:
        trace, script, _ = self.scripts
        await _play(trace, "prepare", script)

    async def write_eof(self) -> None:
        trace, _, script = self.scripts
        await _play(trace, "write_eof", script)


class _Other(_Plain):
    """A response that aiohttp sends."""


class _Request:
    """A request of the route `/x`."""

    def __init__(self) -> None:
        self.method = self._method = "GET"
        self.transport = None
        self.match_info = self._match_info = SimpleNamespace(route=_ROUTE, _route=_ROUTE)
        self.writer = SimpleNamespace()


def _drive(awaitable: Any, steps: list[Step], trace: Trace) -> None:
    """Go on with it as an event loop would, by values or exceptions, and note what comes."""
    iterator = awaitable.__await__()
    try:
        trace.append(("yielded", next(iterator)))
        for how, what in steps:
            if how == "close":
                trace.append(("closed", iterator.close()))
                return
            go_on = iterator.send(what) if how == "send" else iterator.throw(RAISED[what]())
            trace.append(("yielded", go_on))
        trace.append(("closed", iterator.close()))
    except StopIteration as stop:
        trace.append(("returned", type(stop.value)))
        response = stop.value
        if isinstance(response, _Plain):
            _drive_sent(response, trace)
    except BaseException as exc:
        trace.append(("raised", type(exc), str(exc)))


def _drive_sent(response: _Plain, trace: Trace) -> None:
    # As aiohttp sends it, or finds it sent.
    ways: list[Callable[[], Coroutine[Any, Any, None]]]
    ways = [lambda: response.prepare(None), response.write_eof]
    for send in ways:
        sent = send()
        try:
            while True:
                sent.send(None)
        except StopIteration:
            pass
        except BaseException as exc:
            trace.append(("sending raised", type(exc), str(exc)))
            return


def _outcome(
    compiled: ModuleType | None,
    handler: Script,
    response: tuple[type[_Plain], int, Script, Script],
    steps: list[Step],
) -> tuple[Trace, list[tuple[str, int]], float]:
    """Return what a request came to: what was seen of it, what recorded, what is in flight."""
    trace: Trace = []

    async def handle(request: Any) -> Any:
        await _play(trace, "handler", handler)
        kind, status, prepare, write_eof = response
        return kind(trace, status, prepare, write_eof)

    in_flight = InFlight()
    timer = RequestTimer(handle, in_flight, with_ttfb=True)
    timer.plain = _Plain  # type: ignore[assignment]
    timed: Any = timer.handle
    if compiled is not None:
        timed = compiled.RequestTimer(timer, handle, _Request).handle
    with recorded() as found:
        _drive(timed(_Request()), steps, trace)
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


@settings(deadline=None)
@given(_SCRIPTS, _RESPONSES, _STEPS)
def test_both_twins_make_the_same_of_a_request(
    compiled: ModuleType,
    handler: Script,
    response: tuple[type[_Plain], int, Script, Script],
    steps: list[Step],
) -> None:
    outcomes = [_outcome(twin, handler, response, steps) for twin in (None, compiled)]
    assert outcomes[0] == outcomes[1]


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
    _, found, in_flight = _outcome(compiled, handler, (*response, well, well), steps)
    assert found == [(label, 1) for label in recorded]
    assert in_flight == 0
