from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import pytest

from aqltelemetry import sync
from aqltelemetry.errors import StateError
from aqltelemetry.recording import recorder
from aqltelemetry.system import loop_thread
from aqltelemetry.system.loop_thread import LoopThread
from aqltelemetry.system.threads import take

Counts = Callable[..., Counter[str]]


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.end()


class Interrupted:
    """Waits as `take` does, but is interrupted the n-th time, as by a signal handler."""

    def __init__(self, at: int) -> None:
        self.calls = 0
        self._at = at

    def __call__(self, queue: Any, limit_s: float | None = None) -> Any:
        self.calls += 1
        if self.calls == self._at:
            raise KeyboardInterrupt
        return take(queue) if limit_s is None else take(queue, limit_s)


def test_a_call_returns_what_the_coroutine_does(loop: LoopThread) -> None:
    async def work() -> str:
        await asyncio.sleep(0)
        return threading.current_thread().name

    assert loop.call(work()) == "aqltelemetry-loop"


def test_a_call_raises_what_the_coroutine_does(loop: LoopThread) -> None:
    async def work() -> None:
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.call(work())


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (OSError("no descriptors"), OSError),
        (StateError("greenlets"), StateError),
        (RuntimeError("can't register atexit after shutdown"), StateError),
        (ImportError("a broken extension"), StateError),
        (SystemExit(1), StateError),
    ],
)
def test_whatever_prevents_a_loop_is_raised_where_it_is_waited_for(
    monkeypatch: pytest.MonkeyPatch, raised: BaseException, expected: type[Exception]
) -> None:
    def fail() -> NoReturn:
        raise raised

    monkeypatch.setattr(loop_thread, "new_event_loop", fail)
    with pytest.raises(expected, match=str(raised)):
        LoopThread()


def test_no_thread_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> NoReturn:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(loop_thread, "start_thread", fail)
    with pytest.raises(StateError, match="can't start new thread"):
        LoopThread()


def test_a_thread_that_never_runs_is_a_typed_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop_thread, "start_thread", lambda *_: None)
    monkeypatch.setattr(loop_thread, "_STARTED_S", 0.01)
    with pytest.raises(StateError, match=r"no event loop was made within 0\.01 seconds"):
        LoopThread()


def test_a_loop_that_is_made_too_late_does_not_run(monkeypatch: pytest.MonkeyPatch) -> None:
    kept: list[Callable[[], None]] = []
    loops: list[asyncio.AbstractEventLoop] = []

    def make() -> asyncio.AbstractEventLoop:
        loops.append(asyncio.new_event_loop())
        return loops[0]

    monkeypatch.setattr(loop_thread, "start_thread", lambda work, _: kept.append(work))
    monkeypatch.setattr(loop_thread, "new_event_loop", make)
    monkeypatch.setattr(loop_thread, "_STARTED_S", 0.01)
    with pytest.raises(StateError, match="no event loop was made"):
        LoopThread()
    kept[0]()
    assert loops[0].is_closed()


def test_a_loop_that_can_not_run_ends_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    class Unable(asyncio.SelectorEventLoop):
        def run_forever(self) -> None:
            raise RuntimeError("another loop is running")

    async def work() -> None:
        """Never begin."""

    monkeypatch.setattr(loop_thread, "new_event_loop", Unable)
    thread = LoopThread()
    for _ in range(2):
        with pytest.raises(StateError, match="another loop is running"):
            thread.call(work())
    thread.end()


def test_a_call_ends_when_its_loop_does() -> None:
    async def work() -> None:
        asyncio.get_running_loop().stop()
        await asyncio.Event().wait()

    thread = LoopThread()
    with pytest.raises(StateError, match="has ended"):
        thread.call(work())
    thread.end()


def test_an_interrupted_call_is_done_before_the_exception_passes(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = []

    async def work() -> None:
        for _ in range(100):
            await asyncio.sleep(0)
        done.append(True)

    monkeypatch.setattr(loop_thread, "take", Interrupted(1))
    with pytest.raises(KeyboardInterrupt):
        loop.call(work())
    assert done == [True]


def test_an_interrupted_call_may_be_left_to_the_loop(
    loop: LoopThread, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(event: asyncio.Event) -> None:
        await event.wait()

    async def release(event: asyncio.Event) -> None:
        event.set()

    event = asyncio.Event()
    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "take", Interrupted(1))
        with pytest.raises(KeyboardInterrupt):
            loop.call(wait(event), is_left=True)
    loop.call(release(event))


@pytest.mark.parametrize("at", [1, 2, 3])
def test_an_interrupted_start_leaves_nothing_and_may_be_repeated(
    directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    interrupted = Interrupted(at)
    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "take", interrupted)
        with pytest.raises(KeyboardInterrupt):
            sync.start(directory)
    assert not recorder.is_on()
    sync.start(directory)
    with sync.time_block("block"):
        pass
    sync.stop()
    assert counts() == {"block": 1}


@pytest.mark.parametrize("at", [1, 2])
def test_an_interrupted_stop_has_published_all(
    directory: Path, counts: Counts, monkeypatch: pytest.MonkeyPatch, at: int
) -> None:
    sync.start(directory)
    with sync.time_block("block"):
        pass
    with monkeypatch.context() as patch:
        patch.setattr(loop_thread, "take", Interrupted(at))
        with pytest.raises(KeyboardInterrupt):
            sync.stop()
    assert counts() == {"block": 1}
    sync.start(directory)
    sync.stop()


_MAIN_HAS_ENDED = """
import sys, threading
from aqltelemetry.wsgi import TelemetryMiddleware

def app(environ, start_response):
    start_response("200 OK", [])
    return [b"x"]

app = TelemetryMiddleware(app, sys.argv[1])

def serve():
    threading.main_thread().join()
    body = app({"REQUEST_METHOD": "GET"}, lambda *_: None)
    print(b"".join(body).decode())
    body.close()

threading.Thread(target=serve).start()
"""


def test_a_first_request_after_the_end_of_the_main_thread_is_served_and_recorded(
    directory: Path, counts: Counts
) -> None:
    command: list[str | Path] = [sys.executable, "-c", _MAIN_HAS_ENDED, directory]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    assert ran.stdout == "x\n"
    assert counts() == {"unmatched": 1, "unmatched ttfb": 1}


def test_importing_ahead_raises_nothing_where_there_is_nothing_to_import(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "concurrent.futures.thread", None)
    loop_thread.import_ahead()
