from __future__ import annotations

import functools
import importlib
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from aqltelemetry import asgi, wsgi
from aqltelemetry.aiohttp import setup
from aqltelemetry.errors import TelemetryError, WrongApplicationError

Host = Callable[[Any], object]

_HOSTS: dict[str, tuple[Host, str]] = {
    "aiohttp": (setup, "aqltelemetry.aiohttp.setup(app)"),
    "ASGI": (asgi.TelemetryMiddleware, "app = aqltelemetry.asgi.TelemetryMiddleware(app)"),
    "WSGI": (wsgi.TelemetryMiddleware, "app = aqltelemetry.wsgi.TelemetryMiddleware(app)"),
}


def _named(name: str, *arguments: Any) -> Any:
    module, _, made = name.partition(":")
    return getattr(importlib.import_module(module), made)(*arguments)


def _wsgi_function(environ: Any, start_response: Any) -> Iterable[bytes]:
    return []


async def _asgi_function(scope: Any, receive: Any, send: Any) -> None:
    pass


class _AsgiObject:
    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        pass


def _of_class(name: str, *arguments: Any) -> Callable[[], Any]:
    return lambda: _named(name, *arguments)


_DISPATCHER = "werkzeug.middleware.dispatcher"
_APPLICATIONS: dict[str, tuple[str, Callable[[], Any]]] = {
    "aiohttp": ("aiohttp", web.Application),
    "FastAPI": ("ASGI", _of_class("fastapi:FastAPI")),
    "Starlette": ("ASGI", _of_class("starlette.applications:Starlette")),
    "a router of Starlette": ("ASGI", _of_class("starlette.routing:Router")),
    "Litestar": ("ASGI", _of_class("litestar:Litestar", [])),
    "Quart": ("ASGI", _of_class("quart:Quart", __name__)),
    "Falcon": ("ASGI", _of_class("falcon.asgi:App")),
    "Django": ("ASGI", lambda: _bare("django.core.handlers.asgi:ASGIHandler")),
    "a2wsgi": ("ASGI", _of_class("a2wsgi:WSGIMiddleware", _wsgi_function)),
    "asgiref": ("ASGI", _of_class("asgiref.wsgi:WsgiToAsgi", _wsgi_function)),
    "a function": ("ASGI", lambda: _asgi_function),
    "an object": ("ASGI", _AsgiObject),
    "a method": ("ASGI", lambda: _named("quart:Quart", __name__).asgi_app),
    "a middleware": ("ASGI", lambda: asgi.TelemetryMiddleware(_asgi_function)),
    "Flask": ("WSGI", _of_class("flask:Flask", __name__)),
    "a method of Flask": ("WSGI", lambda: _named("flask:Flask", __name__).wsgi_app),
    "Bottle": ("WSGI", _of_class("bottle:Bottle")),
    "Falcon for WSGI": ("WSGI", _of_class("falcon:App")),
    "Pyramid": ("WSGI", lambda: _named("pyramid.config:Configurator").make_wsgi_app()),
    "Django for WSGI": ("WSGI", lambda: _bare("django.core.handlers.wsgi:WSGIHandler")),
    "a dispatcher": (
        "WSGI",
        _of_class("werkzeug.middleware.dispatcher:DispatcherMiddleware", None),
    ),
    "a2wsgi for WSGI": ("WSGI", _of_class("a2wsgi:ASGIMiddleware", _asgi_function)),
    "a middleware for WSGI": ("WSGI", lambda: wsgi.TelemetryMiddleware(_wsgi_function)),
}


def _bare(name: str) -> Any:
    """Return an object of a class whose initializer needs settings."""
    module, _, kind = name.partition(":")
    made = getattr(importlib.import_module(module), kind)
    return made.__new__(made)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", _APPLICATIONS)
def test_a_host_refuses_an_application_of_another_kind_and_names_the_right_line(name: str) -> None:
    kind, make = _APPLICATIONS[name]
    app = make()
    for host, (record, _) in _HOSTS.items():
        if host == kind:
            record(app)
            continue
        with pytest.raises(WrongApplicationError) as error:
            record(app)
        assert error.value.line == _HOSTS[kind][1]
        assert str(error.value).endswith(f"write: {error.value.line}")
        assert isinstance(error.value, TelemetryError | TypeError)


class _AnyCall:
    """Such as a subclass of a framework's class with another signature."""

    def __call__(self, *arguments: Any) -> Any:
        return []


def _legitimate() -> list[Any]:
    from fastapi import FastAPI
    from flask import Flask

    class BothWays(Flask):
        def __call__(self, *arguments: Any) -> Any:
            return _asgi_function(*arguments) if len(arguments) == 3 else []

    class OtherWay(FastAPI):
        def __call__(self, *arguments: Any) -> Any:
            return []

    @functools.wraps(_wsgi_function)
    def wrapped(*arguments: Any) -> Any:
        return []

    return [
        *(_wsgi_function, _AnyCall(), BothWays(__name__), OtherWay(), wrapped),
        *(functools.partial(_wsgi_function), lambda *arguments: [], _AnyCall().__call__),
    ]


@pytest.mark.parametrize("record", [asgi.TelemetryMiddleware, wsgi.TelemetryMiddleware])
def test_a_callable_of_an_uncertain_kind_is_accepted(record: Host) -> None:
    for app in _legitimate():
        record(app)


@pytest.mark.parametrize("app", [None, _wsgi_function, object()])
def test_setup_refuses_an_object_that_is_no_application_of_aiohttp(app: Any) -> None:
    with pytest.raises(WrongApplicationError, match="not an aiohttp application") as error:
        setup(app)
    assert error.value.line is None


def test_checking_an_application_imports_no_framework(directory: Path) -> None:
    program = f"""
import sys
from aqltelemetry import asgi, wsgi
wsgi.TelemetryMiddleware(lambda environ, start: [], {str(directory)!r})
asgi.TelemetryMiddleware(lambda scope: None, {str(directory)!r})
assert not {{"flask", "django", "starlette", "aiohttp", "falcon"}} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
