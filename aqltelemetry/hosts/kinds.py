"""The kind of an application, aiohttp, ASGI or WSGI, where it is certain."""

from __future__ import annotations

from inspect import iscoroutinefunction
from types import MethodType

from aqltelemetry.errors import WrongApplicationError

AIOHTTP, ASGI, WSGI = "aiohttp", "ASGI", "WSGI"
_LINES = {
    AIOHTTP: "aqltelemetry.aiohttp.setup(app)",
    ASGI: "app = aqltelemetry.asgi.TelemetryMiddleware(app)",
    WSGI: "app = aqltelemetry.wsgi.TelemetryMiddleware(app)",
}
# The class that defines `__call__` counts, since a subclass may have another signature.
_CLASSES = {
    "aiohttp.web_app.Application": AIOHTTP,
    "a2wsgi.asgi.ASGIMiddleware": WSGI,
    "a2wsgi.wsgi.WSGIMiddleware": ASGI,
    "aqltelemetry.hosts.asgi.middleware.TelemetryMiddleware": ASGI,
    "aqltelemetry.hosts.wsgi._request_record.RecordedApplication": WSGI,
    "aqltelemetry.hosts.wsgi.request_record.RecordedApplication": WSGI,
    "asgiref.wsgi.WsgiToAsgi": ASGI,
    "bottle.Bottle": WSGI,
    "django.core.handlers.asgi.ASGIHandler": ASGI,
    "django.core.handlers.wsgi.WSGIHandler": WSGI,
    "falcon.app.App": WSGI,
    "falcon.asgi.app.App": ASGI,
    "fastapi.applications.FastAPI": ASGI,
    "flask.app.Flask": WSGI,
    "litestar.app.Litestar": ASGI,
    "pyramid.router.Router": WSGI,
    "quart.app.Quart": ASGI,
    "sanic.app.Sanic": ASGI,
    "starlette.applications.Starlette": ASGI,
    "starlette.middleware.wsgi.WSGIMiddleware": ASGI,
    "starlette.routing.Router": ASGI,
    "werkzeug.middleware.dispatcher.DispatcherMiddleware": WSGI,
}
_CALLED = ("__call__", "wsgi_app")


def check_kind(app: object, expected: str) -> None:
    """Refuse an application that is certainly of another kind than `expected`.

    Raises:
        WrongApplicationError: It names the line of code to write instead.
    """
    kind = kind_of(app)
    if kind not in (None, expected):
        raise WrongApplicationError(name_of(app), expected, kind, _LINES[kind])


def require_aiohttp(app: object, application: type) -> None:
    """Refuse an object that is not an instance of `application`, the class of aiohttp.

    Raises:
        WrongApplicationError: It names the line of code to write instead.
    """
    if not isinstance(app, application):
        kind = kind_of(app)
        raise WrongApplicationError(name_of(app), AIOHTTP, kind, _LINES.get(kind or ""))


def kind_of(app: object) -> str | None:
    """Return AIOHTTP, ASGI or WSGI; None where the kind is not certain."""
    if isinstance(app, type):
        return None
    if isinstance(app, MethodType) and not iscoroutinefunction(app):
        return kind_of(app.__self__) if app.__name__ in _CALLED else None
    if iscoroutinefunction(app):
        return ASGI
    for each in type(app).__mro__:
        call = vars(each).get("__call__")
        if call is not None:
            known = _CLASSES.get(f"{each.__module__}.{each.__qualname__}")
            return known or (ASGI if iscoroutinefunction(call) else None)
    return None


def name_of(app: object) -> str:
    """Return the name of an application for a message."""
    name = getattr(app, "__qualname__", None)
    if isinstance(name, str):
        return name
    return f"{type(app).__module__}.{type(app).__qualname__}"
