"""Which route answered an ASGI connection, as a template, of routes alone.

What the client sent is never part of a template, so there are no more templates than
the application has routes.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from aqltelemetry.hosts.route_tree import RouteTree, deciding, is_router, is_static
from aqltelemetry.request_labels import TEMPLATE
from aqltelemetry.routes import django_template

IN_DJANGO = "aqltelemetry.in_django"
"""Set in the scope of a connection that Django handles."""
_MOST_TREES = 100


class AsgiRoutes:
    """The routes of the applications that a middleware has seen."""

    def __init__(self) -> None:
        # With the router, whose id is its own only while it lives.
        self._trees: dict[int, RouteTree] = {}

    def template(self, scope: Mapping[str, Any]) -> str | None:
        """Return the template of a connection; None where no route matched.

        Applications that are none of Starlette's leave it in the scope: Litestar as
        `path_template`; WSGI applications, Django, Quart, Falcon and Sanic by what
        `hosts.frameworks` has them leave, which is empty where no route matched.
        """
        inner: str | None = scope.get(TEMPLATE)
        litestar: str = scope.get("path_template") or ""
        tree = self._tree(scope)
        if tree is None:
            if inner is None and not litestar:
                return _other_template(scope)
            return (litestar + (inner or "")) if inner != "" else None
        place = tree.find(scope)
        if place is None:
            return None
        if place.app is None:  # a route
            return litestar + place.template
        if inner is None and _is_litestar(place.app):
            inner, litestar = litestar, ""
        if inner is None:
            return None if IN_DJANGO in scope else f"{litestar}{place.template}/{{path}}"
        return f"{litestar}{place.template}{inner}" if inner else None

    def decides(self, scope: Mapping[str, Any]) -> bool:
        """Say whether the object that `deciding` returns has this template each time."""
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


def django_path(scope: Mapping[str, Any]) -> str:
    """Return the path that Django looks for in its routes."""
    settings = sys.modules["django.conf"].settings
    root_path = settings.FORCE_SCRIPT_NAME or scope.get("root_path", "")
    return str(scope.get("path", "")).removeprefix(root_path)


def _is_litestar(app: object) -> bool:
    module = sys.modules.get("litestar.app")
    return module is not None and isinstance(app, module.Litestar)


def _other_template(scope: Mapping[str, Any]) -> str | None:
    route = deciding(scope)
    path = getattr(route, "path_format", None) or getattr(route, "path", None)
    if isinstance(path, str):
        return path
    urls, settings = sys.modules.get("django.urls"), sys.modules.get("django.conf")
    if urls is None or settings is None or not settings.settings.configured or "router" in scope:
        return None
    return django_template(django_path(scope))
