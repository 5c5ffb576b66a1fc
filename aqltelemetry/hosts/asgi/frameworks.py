"""Makes frameworks without a route in the ASGI scope store it there, by their public hooks.

The template in the scope is relative to the application's mount, and empty where no route
matched.
"""

from __future__ import annotations

import re
import sys
from typing import Any

from aqltelemetry.hosts.asgi.routes import IN_DJANGO
from aqltelemetry.hosts.labels import TEMPLATE
from aqltelemetry.hosts.routes import braced
from aqltelemetry.system.logs import log

_MOST_LAYERS = 20
_UID = "aqltelemetry"
# The variable parts of a route in Falcon and Sanic: {id:int}, <id:[a-z]+>.
_FALCON_VARIABLE = re.compile(r"\{([^{}:]+):[^{}]*\}")
_SANIC_VARIABLE = re.compile(r"<([^<>:]+)(?::(?:[^<>]|<[^<>]*>)*)?>")
# Observed applications by their ids, which are unique only while the applications live.
_observed: dict[int, object] = {}


def observe(app: object) -> None:
    """Observe the routes of Django and Quart, and of an application of Falcon or Sanic.

    A failure is logged; the requests are then recorded as unmatched.

    Parameters:
        app: The application that a middleware wraps.
    """
    try:
        _observe_django()
        _observe_quart()
        for each in _layers(app):
            if id(each) not in _observed and (_observe_falcon(each) or _observe_sanic(each)):
                _observed[id(each)] = each
    except Exception as exc:  # noqa: BLE001 - the application is served without it
        log.error("the routes of an application can't be observed: %r", exc)


def _layers(app: Any) -> list[Any]:
    """Return an application and those inside it, through middlewares and bound methods."""
    layers: list[Any] = []
    while app is not None and len(layers) < _MOST_LAYERS:
        layers.append(app)
        app = getattr(app, "__self__", None) or getattr(app, "app", None)
    return layers


def _observe_django() -> None:
    # Programs that import Django only for its models have no ASGI handler.
    if "django.core.handlers.asgi" in sys.modules:
        signals = sys.modules["django.core.signals"]
        signals.request_started.connect(_note_django_request, dispatch_uid=_UID)


def _note_django_request(scope: Any = None, **_: object) -> None:
    if scope is not None:  # it is None for a WSGI request
        scope[IN_DJANGO] = True


def _observe_quart() -> None:
    if "quart.app" in sys.modules:
        signals = sys.modules["quart.signals"]
        # A receiver that is connected twice is called once.
        signals.request_started.connect(_note_quart_request)
        signals.websocket_started.connect(_note_quart_websocket)


async def _note_quart_request(_: object, **__: object) -> None:
    _note_rule(sys.modules["quart.globals"].request)


async def _note_quart_websocket(_: object, **__: object) -> None:
    _note_rule(sys.modules["quart.globals"].websocket)


def _note_rule(request: Any) -> None:
    try:
        rule = request.url_rule
        request.scope[TEMPLATE] = "" if rule is None else braced(rule.rule)
    except Exception as exc:  # noqa: BLE001 - as above
        log.debug("no route of a request to Quart: %r", exc)


class _FalconObserver:
    """A middleware for Falcon that stores the route of a request."""

    async def process_resource(self, req: Any, _: object, __: object, ___: object) -> None:
        req.scope[TEMPLATE] = _FALCON_VARIABLE.sub(r"{\1}", req.uri_template or "")

    process_resource_ws = process_resource


def _observe_falcon(app: Any) -> bool:
    module = sys.modules.get("falcon.asgi")
    if module is None or not isinstance(app, module.App):
        return False
    app.add_middleware(_FalconObserver())
    return True


def _observe_sanic(app: Any) -> bool:
    module = sys.modules.get("sanic.app")
    if module is None or not isinstance(app, module.Sanic):
        return False
    app.register_middleware(_note_sanic_request, "request")
    return True


def _note_sanic_request(request: Any) -> None:
    scope = getattr(request.transport, "scope", None)
    if scope is not None:  # it is None on Sanic's own server
        route = request.route
        path = "" if route is None else f"/{route.path.lstrip('/')}"
        scope[TEMPLATE] = _SANIC_VARIABLE.sub(r"{\1}", path)
