"""Services that end in the way that a request asks for: WSGI (Flask), ASGI (Starlette), aiohttp.

A server loads one of `wsgi`, `asgi` and `web`; as a program, this serves `web` on the port that it
is given. `GET /die/{how}` ends the worker.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable

PATH = "/die/{how}"


def _forever() -> None:
    while True:
        pass


def _hold_gil() -> None:
    # No signal ends this wait, unlike that of `sleep`.
    lock, mutex = ctypes.PyDLL(None).pthread_mutex_lock, ctypes.create_string_buffer(64)
    lock(mutex)
    lock(mutex)


def _allocate() -> None:
    kept = []
    while True:
        kept.append(b"x" * (16 << 20))


def _raise_memory_error() -> None:
    raise MemoryError


DEATHS: dict[str, Callable[[], object]] = {
    "SIGKILL": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "SIGSEGV": lambda: ctypes.string_at(0),
    "timeout, GIL held": _hold_gil,
    "timeout, Python code": _forever,
    "sys.exit": lambda: sys.exit(5),
    "os._exit": lambda: os._exit(7),
    "MemoryError": _raise_memory_error,
    "out of memory": _allocate,
}
"""What a request may do to its process, by name."""


def die(how: str) -> str:
    """End this process in the way that was asked for."""
    DEATHS[how]()
    return "alive"


if "flask" in os.environ.get("DYING_SERVICE", ""):
    from flask import Flask

    wsgi = Flask(__name__)
    wsgi.add_url_rule("/ok", view_func=lambda: "ok", endpoint="ok")
    wsgi.add_url_rule("/die/<how>", view_func=die, endpoint="die")

elif "starlette" in os.environ.get("DYING_SERVICE", ""):
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import PlainTextResponse
    from starlette.routing import Route

    async def _ok(request: Request) -> PlainTextResponse:
        del request
        return PlainTextResponse("ok")

    async def _die(request: Request) -> PlainTextResponse:
        return PlainTextResponse(die(request.path_params["how"]))

    asgi = Starlette(routes=[Route("/ok", _ok), Route(PATH, _die)])

else:
    from aiohttp import web as http

    async def _http_ok(request: http.Request) -> http.Response:
        del request
        return http.Response(text="ok")

    async def _http_die(request: http.Request) -> http.Response:
        return http.Response(text=die(request.match_info["how"]))

    web = http.Application()
    web.router.add_get("/ok", _http_ok)
    web.router.add_get(PATH, _http_die)
    if "recorded" in os.environ.get("DYING_SERVICE", ""):
        from aqltelemetry.aiohttp import setup

        setup(web)
    if __name__ == "__main__":
        http.run_app(web, host="127.0.0.1", port=int(sys.argv[1]), print=None)
