"""The template of the route that matched an ASGI request.

A template is made of routes only, never of what the client sent, so there are no more templates
than the application has routes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Any

from aqltelemetry.hosts.asgi.route_tree import (
    Place,
    RouteTree,
    deciding,
    is_router,
    is_static,
    templates_below,
)
from aqltelemetry.hosts.labels import TEMPLATE, WEBSOCKET, RequestLabels
from aqltelemetry.hosts.routes import braced, django_template

IN_DJANGO = "aqltelemetry.in_django"
"""Key in the scope of a request that Django handles."""
_MOST_TREES = 100
_REST = "/{path}"
_KINDS = {"http": "", "websocket": WEBSOCKET}


class AsgiRoutes:
    """The routes of the applications that a middleware has seen."""

    def __init__(self) -> None:
        # By the ids of the routers, which are unique only while the routers live.
        self._trees: dict[int, RouteTree] = {}

    def template(self, scope: Mapping[str, Any]) -> str | None:
        """Return the template of a request; None where no route matched.

        Starlette and FastAPI: from the tree of routes. Litestar stores it in the scope as
        `path_template`. WSGI applications, Django, Quart, Falcon and Sanic store it as TEMPLATE
        (see `frameworks`), which is empty where no route matched.
        """
        inner: str | None = scope.get(TEMPLATE)
        litestar: str = scope.get("path_template") or ""
        if not litestar and "route_handler" in scope:
            litestar = _litestar_mount(scope["route_handler"])
        tree = self._tree(scope)
        if tree is not None:
            place = tree.find(scope)
            if place is None:
                return None
            if inner is None and place.app is not None and _is_litestar(place.app):
                return place.template + litestar if litestar else None
            return _joined(litestar.removesuffix(_REST), place, inner, scope)
        if inner is None:
            return litestar or _other_template(scope)
        return litestar.removesuffix(_REST) + inner if inner else None

    def decides(self, scope: Mapping[str, Any]) -> bool:
        """Return whether the object that `deciding` returns always has the same template."""
        tree = self._tree(scope)
        if tree is None:
            return not hasattr(scope.get("route"), "routes")
        place = tree.place_of(deciding(scope))
        return place is not None and (place.app is None or is_static(place.app))

    def _tree(self, scope: Mapping[str, Any]) -> RouteTree | None:
        router = scope.get("router")
        if router is None:
            return None
        tree = self._trees.get(id(router))
        if tree is None:
            if not is_router(router):
                return None
            tree = RouteTree(router)
            if len(self._trees) < _MOST_TREES:
                self._trees[id(router)] = tree
        return tree


def route_templates(app: object) -> Iterator[str]:
    """Yield the templates of an application's routes, where its framework lists them."""
    yield from templates_below(app)
    for route in getattr(app, "routes", ()):  # of Litestar
        if isinstance(path := getattr(route, "path_format", None), str):
            yield path
    url_map = getattr(app, "url_map", None)  # of Quart
    if url_map is not None:
        yield from (braced(rule.rule) for rule in url_map.iter_rules())


def django_path(scope: Mapping[str, Any]) -> str:
    """Return the path that Django matches with its routes."""
    settings = sys.modules["django.conf"].settings
    root_path = settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")
    return str(scope.get("path", "")).removeprefix(root_path)


def _joined(outer: str, place: Place, inner: str | None, scope: Mapping[str, Any]) -> str | None:
    """Return the template of a route, or of an application that is mounted and no router."""
    template = outer + place.template
    if place.app is None:
        return template
    if inner is None:
        return None if IN_DJANGO in scope else template + _REST
    return template + inner if inner else None


def _is_litestar(app: object) -> bool:
    module = sys.modules.get("litestar.app")
    return module is not None and isinstance(app, module.Litestar)


def _litestar_mount(handler: object) -> str:
    """Return the template of an application mounted in Litestar, which stores none for it."""
    paths: frozenset[str] = getattr(handler, "paths", frozenset())
    if not getattr(handler, "is_mount", False) or len(paths) != 1:
        return ""
    (path,) = paths
    return path.rstrip("/") + _REST


def _other_template(scope: Mapping[str, Any]) -> str | None:
    route = deciding(scope)
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if isinstance(path, str):
        return path
    urls, settings = sys.modules.get("django.urls"), sys.modules.get("django.conf")
    if urls is None or settings is None or not settings.settings.configured or "router" in scope:
        return None
    return django_template(django_path(scope))


_LABELS, _ROUTES = RequestLabels(), AsgiRoutes()


def running_label(handled: object) -> str:
    """Return the label of a request that is being handled; "" until it has a route.

    Args:
        handled: The scope of a request, or a framework's request that has one.
    """
    scope = handled if isinstance(handled, dict) else getattr(handled, "__dict__", {}).get("scope")
    if not isinstance(scope, dict) or scope.get("type") not in _KINDS:
        return ""
    if TEMPLATE not in scope and "path_template" not in scope and deciding(scope) is None:
        return ""
    template = _ROUTES.template(scope)
    if template is None:
        return ""
    return _LABELS.of(template, str(scope.get("method", "GET")), _KINDS[scope["type"]]).total
