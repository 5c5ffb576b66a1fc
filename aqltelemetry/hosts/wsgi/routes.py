"""The template of the route that matched a WSGI request.

A template is made of routes only, never of what the client sent, so there are no more templates
than the application has routes and mounts. Flask leaves its request, and Bottle its route, in the
environment of the request; Django, Falcon and Pyramid store theirs there by their public hooks.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

from aqltelemetry.hosts.labels import PLACE
from aqltelemetry.hosts.routes import braced, django_template
from aqltelemetry.hosts.wsgi.mounts import MountTree, Place
from aqltelemetry.system.logs import log

ROUTED = "aqltelemetry.routed"
"""Key in the environment of a request: a function that returns the template, stored by the
framework that routed the request last."""
_OBSERVED = "_aqltelemetry_observed"
# Observed applications by their ids, which are unique only while the applications live.
_observed: dict[int, object] = {}
_NOWHERE = Place("", None)
# <name>, <name:filter>, <name:filter:configuration>, each also without a name; :name, :name#regex#.
_BOTTLE_VARIABLE = re.compile(
    r"<([a-zA-Z_]\w*)?(?::([a-zA-Z_]*)(?::((?:\\.|[^\\>])+)?)?)?>|:([a-zA-Z_]\w*)?(?:#.*?#)?"
)
# {name}, {name:regex} where the regex may have braces, *name.
_PYRAMID_VARIABLE = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}|\*(\w+)$")
_FALCON_VARIABLE = re.compile(r"\{(\w+):[^{}]*\}")
_PYRAMID_OLD_VARIABLE = re.compile(r":(\w+)")


class WsgiRoutes(MountTree):
    """The routes of the applications that a middleware wraps."""

    has_any_mounts = False

    def look(self) -> None:
        """Read the tree of applications, before the first request to them."""
        observe(self)
        self.has_any_mounts = self.has_mounts()

    def template(self, environ: dict[str, Any]) -> str | None:
        """Return the template of a request, or None where no route matched."""
        return wsgi_template(environ, self)


def route_templates(tree: MountTree) -> Iterator[str]:
    """Yield the templates of the routes of Flask applications, and of the routes of Bottle."""
    for app in tree.applications():
        url_map = getattr(app, "url_map", None)
        if url_map is not None:
            yield from (braced(rule.rule) for rule in url_map.iter_rules())
        for route in getattr(app, "routes", None) or ():
            if isinstance(rule := getattr(route, "rule", None), str):
                yield bottle_template(rule)


def observe(tree: MountTree) -> None:
    """Make the frameworks of an application store their routes in the environments of requests.

    A failure is logged; the requests are then recorded as unmatched.
    """
    try:
        _observe_django()
        for app in tree.applications():
            _observe_falcon(app)
            _observe_pyramid(app)
    except Exception as exc:  # noqa: BLE001 - the application is served all the same
        log.error("the routes of an application can't be observed: %r", exc)


def wsgi_template(environ: dict[str, Any], tree: MountTree | None = None) -> str | None:
    """Return the template of a request, or None where no route matched.

    Call it while the response begins, since frameworks drop the route after that.

    Parameters:
        environ: The environment of the request.
        tree: The applications that handle it, or have raised an exception.
    """
    place: Place = environ.get(PLACE, _NOWHERE)
    found = _known_template(environ, bool(place.prefix))
    if found is None and environ.get("werkzeug.request", _NOWHERE) is None and tree is not None:
        # An exception has left Flask, which has dropped the request.
        found = _flask_route(place.app or tree.find("").app, environ, bool(place.prefix))
    return None if found is None else place.prefix + found


def _known_template(environ: dict[str, Any], is_mounted: bool) -> str | None:
    request = environ.get("werkzeug.request")
    # Only Flask's request has it: Werkzeug's own, which any middleware may create, has not.
    rule = getattr(request, "url_rule", _NOWHERE)
    if rule is not _NOWHERE:
        return None if rule is None else flask_template(rule, is_mounted)
    routed: Callable[[], str | None] | None = environ.get(ROUTED)
    if routed is None and _observe_django():
        # Django was imported after the middleware was created, maybe by this request.
        routed = _django_route(environ)
    found = None if routed is None else routed()
    if found is None and "bottle.route" in environ:
        return bottle_template(environ["bottle.route"].rule)
    return found


def flask_template(rule: Any, is_mounted: bool = False) -> str:
    """Return the template of a rule, after its domain if it has one.

    An application that is not mounted is below its APPLICATION_ROOT.
    """
    module = sys.modules.get("flask")
    app = module.current_app if module else None
    config: Any = app.config if app else {}
    root = str(config.get("APPLICATION_ROOT") or "/").strip("/")
    path = braced(rule.rule)
    if root and not is_mounted:
        path = f"/{root}{path}"
    if getattr(getattr(rule, "map", None), "host_matching", False):
        return braced(rule.host or "") + path
    subdomain = getattr(rule, "subdomain", None)
    if subdomain:
        return f"{braced(subdomain)}.{config.get('SERVER_NAME') or ''}{path}"
    return path


def _flask_route(app: object, environ: dict[str, Any], is_mounted: bool) -> str | None:
    url_map = getattr(app, "url_map", None)
    if url_map is None:
        return None
    try:
        rule, _ = url_map.bind_to_environ(environ).match(return_rule=True)
    except Exception:  # noqa: BLE001 - NotFound and the like
        return None
    return flask_template(rule, is_mounted)


def bottle_template(rule: str) -> str:
    """Return a rule of Bottle with its variables as {name}."""
    return _BOTTLE_VARIABLE.sub(_bottle_variable, rule)


def _bottle_variable(found: re.Match[str]) -> str:
    name = found[1] or found[4]
    if name:
        return f"{{{name}}}"
    return "{path}" if found[2] == "path" or found[3] == ".*" else "{var}"


def falcon_template(template: str) -> str:
    """Return a template of Falcon without the converters of its variables."""
    return _FALCON_VARIABLE.sub(r"{\1}", template)


def pyramid_template(pattern: str) -> str:
    """Return a pattern of Pyramid with its variables as {name}."""
    if "{" not in pattern:  # the old notation
        pattern = _PYRAMID_OLD_VARIABLE.sub(r"{\1}", pattern)
    found = _PYRAMID_VARIABLE.sub(lambda found: f"{{{found[1] or found[2]}}}", pattern)
    return f"/{found.lstrip('/')}"


def _observe_django() -> bool:
    """Make Django store its route, if it is imported; return whether this is new."""
    handlers = sys.modules.get("django.core.handlers.wsgi")
    if handlers is None or getattr(handlers, _OBSERVED, False):
        return False
    setattr(handlers, _OBSERVED, True)
    signals = sys.modules["django.core.signals"]
    signals.request_started.connect(_note_django_request, dispatch_uid=f"{_OBSERVED} wsgi")
    return True


def _note_django_request(environ: dict[str, Any] | None = None, **_: object) -> None:
    if environ is not None:  # it is None for an ASGI request
        environ[ROUTED] = _django_route(environ)


def _django_route(environ: dict[str, Any]) -> Callable[[], str | None]:
    # Django replaces it by the decoded path later.
    path: str = environ.get("PATH_INFO", "")
    with suppress(UnicodeError):  # decoded already
        path = path.encode("latin-1").decode("utf-8", "replace")
    return lambda: django_template(path)


class _FalconObserver:
    """A middleware for Falcon that stores the route of a request."""

    def process_resource(self, req: Any, _: object, __: object, ___: object) -> None:
        template = falcon_template(req.uri_template)
        req.env[ROUTED] = lambda: template


def _is_new(app: object) -> bool:
    """Return whether an application is not observed yet, and mark it as observed."""
    if id(app) in _observed:
        return False
    _observed[id(app)] = app
    return True


def _observe_falcon(app: object) -> None:
    module = sys.modules.get("falcon")
    if module is None or not isinstance(app, module.App):
        return
    if "falcon.asgi" in sys.modules and isinstance(app, sys.modules["falcon.asgi"].App):
        return
    if _is_new(app):
        app.add_middleware(_FalconObserver())


def _observe_pyramid(app: object) -> None:
    module = sys.modules.get("pyramid.router")
    if module is None or not isinstance(app, module.Router) or not _is_new(app):
        return
    found = sys.modules["pyramid.interfaces"].IContextFound
    app.registry.registerHandler(_PyramidObserver(), (found,))


class _PyramidObserver:
    """A subscriber to Pyramid's event before the call of a view."""

    def __init__(self) -> None:
        self._views: set[str] | None = None

    def __call__(self, event: Any) -> None:
        """Store the route of a request, or the name of the view that traversal found."""
        try:
            request = event.request
            route = getattr(request, "matched_route", None)
            template = pyramid_template(route.pattern) if route else self._traversal(request)
            request.environ[ROUTED] = lambda: template
        except Exception as exc:  # noqa: BLE001 - the request goes on without it
            log.debug("no route of a request to Pyramid: %r", exc)

    def _traversal(self, request: Any) -> str | None:
        if self._views is None:
            self._views = _view_names(request.registry)
        # Any other name comes from the client.
        if request.view_name not in self._views:
            return None
        return "/{traversal}" + (f"/{request.view_name}" if request.view_name else "")


def _view_names(registry: Any) -> set[str]:
    """Return the names of all views except those of routes and errors."""
    views = [each["introspectable"] for each in registry.introspector.get_category("views") or ()]
    return {
        view["name"] or ""
        for view in views
        if not view["route_name"] and not _is_error_view(view.get("context"))
    }


def _is_error_view(context: object) -> bool:
    if isinstance(context, type):
        return issubclass(context, BaseException)
    interfaces = sys.modules["pyramid.interfaces"]
    return context in (interfaces.IException, interfaces.IExceptionResponse)
