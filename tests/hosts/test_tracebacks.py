"""An exception that passes through a host has at most one frame of it in its traceback."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import aqltelemetry
from aqltelemetry import Monitor, asgi
from aqltelemetry.hosts import autopatch
from aqltelemetry.hosts.asgi import middleware as asgi_middleware
from aqltelemetry.hosts.asgi import request_record
from twinned import compiled_twin

_PACKAGE = str(Path(aqltelemetry.__file__).parent)


@pytest.fixture(params=["pure", "compiled"])
def middleware(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> type[asgi.TelemetryMiddleware]:
    """Return the middleware with the pure or the compiled twin."""
    module: ModuleType = request_record
    if request.param == "compiled":
        module = compiled_twin("hosts.asgi._request_record")
    monkeypatch.setattr(asgi_middleware, "AsgiRequests", module.AsgiRequests)
    return asgi.TelemetryMiddleware


def _ours(exc: BaseException) -> list[str]:
    frames = traceback.extract_tb(exc.__traceback__)
    return [
        f"{each.filename}: {each.name}"
        for each in frames
        if each.filename.startswith((_PACKAGE, "aqltelemetry/"))
    ]


async def _raise(*arguments: Any) -> Any:
    raise ConnectionError("gone")


async def _raise_later(*arguments: Any) -> Any:
    await asyncio.sleep(0)
    raise ConnectionError("gone")


def _raise_at_once(*arguments: Any) -> Any:
    raise ConnectionError("gone")


async def _cancel(*arguments: Any) -> Any:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.sleep(0)


async def _send(scope: Any, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200})


async def _receive(scope: Any, receive: Any, send: Any) -> None:
    await receive()


_APPLICATIONS = {"handler": _raise, "send": _send, "receive": _receive}
_SERVERS = {
    "at once": _raise_at_once,
    "raised": _raise,
    "later": _raise_later,
    "cancelled": _cancel,
}


async def _call(app: Any, called: Any) -> BaseException:
    scope = {"type": "http", "method": "GET", "path": "/", "headers": []}
    task = asyncio.ensure_future(app(scope, called, called))
    with pytest.raises((ConnectionError, asyncio.CancelledError)) as caught:
        await task
    return caught.value


@pytest.mark.parametrize("where", _APPLICATIONS)
@pytest.mark.parametrize("how", _SERVERS)
@pytest.mark.parametrize("layers", [1, 2])
async def test_an_exception_has_one_frame_of_the_host(
    middleware: type[asgi.TelemetryMiddleware],
    directory: Path,
    where: str,
    how: str,
    layers: int,
) -> None:
    """Exactly one in the server, and at most one in the application."""
    inside: list[int] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            await _APPLICATIONS[where](scope, receive, send)
        except BaseException as exc:
            inside.append(len(_ours(exc)))
            raise

    async with Monitor(directory, with_runtime=False):
        timed: Any = app
        for _ in range(layers):
            timed = middleware(timed)
        exc = await _call(timed, _SERVERS[how])
    assert len(_ours(exc)) == 1, _ours(exc)
    assert inside[0] <= 1
    assert traceback.extract_tb(exc.__traceback__)[-1].filename.startswith((__file__, "/"))


async def test_a_patched_class_adds_no_second_frame(directory: Path) -> None:
    class Application:
        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await _raise()

    module: Any = type("Module", (), {"Application": Application})
    autopatch._patch_asgi(module, "Application")
    async with Monitor(directory, with_runtime=False):
        exc = await _call(Application(), _raise)
    assert len(_ours(exc)) == 1, _ours(exc)


@pytest.mark.parametrize("how", ["raised", "later", "cancelled"])
async def test_an_exception_is_the_same_object_with_the_applications_frames(
    middleware: type[asgi.TelemetryMiddleware], directory: Path, how: str
) -> None:
    raised: list[BaseException] = []

    async def handler(scope: Any, receive: Any, send: Any) -> None:
        try:
            await receive()
        except BaseException as exc:
            raised.append(exc)
            raise

    async with Monitor(directory, with_runtime=False):
        exc = await _call(middleware(handler), _SERVERS[how])
    names = [each.name for each in traceback.extract_tb(exc.__traceback__)]
    assert "handler" in names
    if how != "cancelled":  # a task raises again what it was cancelled by
        assert exc is raised[0]
