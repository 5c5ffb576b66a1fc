"""Has frameworks that leave no route in an ASGI scope leave it there, by their public hooks.

A template in the scope is one below where the application is mounted, and empty where no
route matched.
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
# As Falcon and Sanic write the variable parts of a route: {id:int}, <id:[a-z]+>.
_FALCON_VARIABLE = re.compile(r"\{([^{}:]+):[^{}]*\}")
_SANIC_VARIABLE = re.compile(r"<([^<>:]+)(?::(?:[^<>]|<[^<>]*>)*)?>")
# By their ids; with the applications, which these are of only while they live.
_observed: dict[int, object] = {}


def observe(app: object) -> None:
    """Observe the routes of Django and Quart, and of an application of Falcon or Sanic.

    `app` is what a middleware wraps. What fails is logged: requests are then unmatched.
    """
    try:
        _observe_django()
        _observe_quart()
        for each in _layers(app):
            if id(each) not in _observed and (_observe_falcon(each) or _observe_sanic(each)):
                _observed[id(each)] = each
    except Exception as exc:  # noqa: BLE001 - the application is served all the same
        log.error("the routes of an application can't be observed: %r", exc)


def _layers(app: Any) -> list[Any]:
    """Return an application, and those in it, of a middleware or a method of one."""
    layers: list[Any] = []
    while app is not None and len(layers) < _MOST_LAYERS:
        layers.append(app)
        app = getattr(app, "__self__", None) or getattr(app, "app", None)
    return layers


def _observe_django() -> None:
    # Only what has handlers of its own is connected to: others import it for its models.
    if "django.core.handlers.asgi" in sys.modules:
        signals = sys.modules["django.core.signals"]
        signals.request_started.connect(_begun_by_django, dispatch_uid=_UID)


def _begun_by_django(scope: Any = None, **_: object) -> None:
    if scope is not None:  # of an ASGI request
        scope[IN_DJANGO] = True


def _observe_quart() -> None:
    if "quart.app" in sys.modules:
        signals = sys.modules["quart.signals"]
        # Connected twice, a receiver is called once.
        signals.request_started.connect(_begun_by_quart)
        signals.websocket_started.connect(_websocket_begun_by_quart)


async def _begun_by_quart(_: object, **__: object) -> None:
    _note_rule(sys.modules["quart.globals"].request)


async def _websocket_begun_by_quart(_: object, **__: object) -> None:
    _note_rule(sys.modules["quart.globals"].websocket)


def _note_rule(request: Any) -> None:
    try:
        rule = request.url_rule
        request.scope[TEMPLATE] = "" if rule is None else braced(rule.rule)
    except Exception as exc:  # noqa: BLE001 - as above
        log.debug("no route of a request to Quart: %r", exc)


class _FalconObserver:
    """A middleware of Falcon's that notes the route of a request."""

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
    app.register_middleware(_begun_by_sanic, "request")
    return True


def _begun_by_sanic(request: Any) -> None:
    scope = getattr(request.transport, "scope", None)
    if scope is not None:  # not of Sanic's own server
        route = request.route
        path = "" if route is None else f"/{route.path.lstrip('/')}"
        scope[TEMPLATE] = _SANIC_VARIABLE.sub(r"{\1}", path)
