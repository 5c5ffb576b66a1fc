"""Which event loops and which requests on threads are watched."""

from __future__ import annotations

import asyncio
import mmap
import struct
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any

import pytest

from aqltelemetry.journal.in_flight import ALIVE_AT, FILE_BYTES, pack_alive
from aqltelemetry.recording import in_flight
from aqltelemetry.stalls import sampler as sampler_module
from aqltelemetry.stalls import watchdog
from aqltelemetry.stalls.sampler import StallSampler, watch_running_loop, watch_threads
from aqltelemetry.system.clock import monotonic_ns
from loops import call_on_own_loop
from twinned import compiled_twin

_SHORT_S = 0.001
_LONG_S = 0.12
_THRESHOLD_S = 0.05
_LIMIT_S = 30.0


class _Kept:
    def __init__(self) -> None:
        self.details: list[Mapping[str, Any]] = []

    def add(self, detail: Mapping[str, Any]) -> None:
        self.details.append(detail)

    async def tend(self) -> None:
        pass

    def abandon_in_child(self) -> None:
        pass


@pytest.fixture
def kept() -> _Kept:
    return _Kept()


@pytest.fixture
def slots() -> Iterator[None]:
    """Slots for requests in flight."""
    in_flight.install(mmap.mmap(-1, FILE_BYTES))
    yield
    in_flight.install(None)


@pytest.fixture
def attached(kept: _Kept) -> Iterator[StallSampler]:
    """A sampler whose recording has an event loop of its own, so that none is watched."""
    compiled = compiled_twin("stalls._watchdog")
    found = StallSampler(
        _THRESHOLD_S, kept, twin=lambda _: compiled, request_threshold_s=_THRESHOLD_S
    )
    call_on_own_loop(lambda: found.attach(lambda _cause, _length_s: None))
    yield found
    found.detach()


def _handle(path: str, length_s: float) -> None:
    """Handle a request on a thread of its own."""

    def run() -> None:
        handle = in_flight.claim("GET", path, monotonic_ns())
        time.sleep(length_s)
        in_flight.release(handle)

    thread = threading.Thread(target=run, name=f"worker{path}")
    thread.start()
    thread.join()


def _handle_until(kept: _Kept, path: str) -> Mapping[str, Any]:
    until_s = time.monotonic() + _LIMIT_S
    while not kept.details and time.monotonic() < until_s:
        _handle(path, _LONG_S)
    return kept.details[0]


@pytest.mark.usefixtures("slots", "attached")
def test_a_long_request_on_a_thread_is_recorded_with_its_thread(kept: _Kept) -> None:
    watch_threads()
    for _ in range(20):
        _handle("/short", _SHORT_S)
    found = _handle_until(kept, "/long")
    assert found["request"] == "GET /long"
    assert found["in_thread"] == "worker/long"
    assert found["is_ended"]
    assert _THRESHOLD_S <= found["length_s"] < _LIMIT_S
    assert found["innermost"]["function"] == "_handle.<locals>.run"


@pytest.mark.usefixtures("slots")
def test_requests_on_a_thread_with_an_event_loop_are_not_watched(
    attached: StallSampler, kept: _Kept
) -> None:
    async def main() -> None:
        watch_threads()
        watch_running_loop()
        handle = in_flight.claim("GET", "/events", monotonic_ns())
        await asyncio.sleep(_LONG_S)
        in_flight.release(handle)

    asyncio.run(main())
    assert len(attached.watches) == 2
    _handle_until(kept, "/long")
    assert "GET /events" not in [each["request"] for each in kept.details]


def test_each_event_loop_that_asks_for_it_is_watched_once(
    attached: StallSampler, kept: _Kept
) -> None:
    async def main() -> None:
        watch_running_loop()
        watch_running_loop()
        assert len(attached.watches) == 1
        until_s = time.monotonic() + _LIMIT_S
        while not kept.details and time.monotonic() < until_s:
            time.sleep(_LONG_S)
            await asyncio.sleep(_LONG_S)
        assert kept.details[0]["request"] == ""

    asyncio.run(main())


@pytest.mark.usefixtures("slots")
def test_requests_are_not_watched_by_the_watchdog_in_python_nor_without_a_threshold(
    kept: _Kept,
) -> None:
    for twin, threshold_s in ((watchdog, _THRESHOLD_S), (compiled_twin("stalls._watchdog"), 0.0)):
        found = StallSampler(
            _THRESHOLD_S,
            kept,
            twin=lambda _, twin=twin: twin,  # type: ignore[misc]
            request_threshold_s=threshold_s,
        )
        call_on_own_loop(lambda found=found: found.attach(lambda *_: None))  # type: ignore[misc]
        found.add_requests()
        assert found.watches == []
        found.detach()


def test_without_a_recording_of_stalls_nothing_is_watched() -> None:
    assert sampler_module.attached() is None
    watch_threads()
    with suppress(RuntimeError):
        watch_running_loop()


@pytest.mark.usefixtures("slots", "attached")
def test_a_failure_to_watch_is_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: StallSampler) -> None:
        raise OSError

    with monkeypatch.context() as patched:
        patched.setattr(StallSampler, "add_requests", fail)
        watch_threads()
    assert "stalls can't be watched here" in caplog.text


@pytest.mark.usefixtures("slots")
def test_a_blocked_process_is_known_to_live_until_its_end(attached: StallSampler) -> None:
    mapped = in_flight.installed()
    assert mapped is not None
    before_ns = monotonic_ns()
    mapped[ALIVE_AT : ALIVE_AT + 16] = pack_alive(before_ns - 10**10, 7)

    async def main() -> None:
        watch_running_loop()
        until_s = time.monotonic() + _LIMIT_S
        while _alive(mapped)[0] < before_ns and time.monotonic() < until_s:
            time.sleep(_SHORT_S)

    asyncio.run(main())
    alive_ns, offset_ns = _alive(mapped)
    assert before_ns <= alive_ns <= monotonic_ns()
    assert offset_ns == 7
    assert attached.watches


def _alive(mapped: mmap.mmap) -> tuple[int, int]:
    found: tuple[int, int] = struct.unpack_from("<qq", mapped, ALIVE_AT)
    return found
