"""The templates of the routes below a Starlette or FastAPI router.

In all versions, Starlette stores only the innermost route or its endpoint in the scope, not the
mounts on the way to it. So the tree of routes is read once: an object that has a single place in
it decides the template. For any other object, the routes are matched again with the scope, in the
way of the routers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

_FULL = 2
"""The value of Starlette's `Match.FULL`; `NONE` is 0."""
_MOST_LAYERS = 20
_MOST_READS = 100
_MOST_OBJECTS = 20_000
_REST = "/{path}"
"""What Starlette appends to the path of a mount."""


class Place(NamedTuple):
    """The place of a route: its template, and the application there if it is no router."""

    template: str
    app: Any = None


class _Prefix(NamedTuple):
    host: str = ""
    path: str = ""

    def below(self, host: str, path: str) -> _Prefix:
        return _Prefix(host or self.host, self.path + path)


class RouteTree:
    """All routes below a router."""

    def __init__(self, router: Any) -> None:
        self.router = router
        self._reads = 0
        self._is_endless = False
        self._places: dict[int, Place | None] = {}
        # The ids in `_places` are unique only while these objects live.
        self._objects: list[object] = []

    def find(self, scope: Mapping[str, Any]) -> Place | None:
        """Return the place that a request was routed to; None where no route matched."""
        key = deciding(scope)
        return self.place_of(key) or self._match(scope)

    def place_of(self, key: object) -> Place | None:
        """Return the only place of an object in the tree; None if it has none or several."""
        if key is None or self._is_endless:
            return None
        if id(key) not in self._places and self._reads < _MOST_READS:
            # The tree was not read yet, or the object was added later.
            self._reads += 1
            self._objects.clear()
            self._places.clear()
            self._read(self.router, _Prefix(), ())
        return self._places.get(id(key))

    def templates(self) -> Iterator[str]:
        """Yield the templates of all places."""
        self.place_of(self)  # reads the tree
        for place in self._places.values():
            if place is not None:
                yield place.template + (_REST if place.app is not None else "")

    def _read(self, router: Any, prefix: _Prefix, above: tuple[object, ...]) -> None:
        # A router that is mounted in itself, or very often, has its routes matched each time.
        if any(router is each for each in above) or len(self._objects) > _MOST_OBJECTS:
            self._is_endless = True
        if self._is_endless:
            return
        for route in _each_route(router.routes):
            inner = _inside(route)
            if inner is None:
                place = _leaf(route, prefix)
                self._add(route, place)
                self._add(_real(route).endpoint, place)
                continue
            app, host, path = inner
            below = prefix.below(host, path)
            next_router, _ = _router_in(app)
            if next_router is not None:
                self._add(route, None)
                self._add(_real(route).app, None)
                self._read(next_router, below, (*above, router))
            else:
                place = Place(below.host + below.path, app)
                self._add(route, place)
                self._add(_real(route).app, place)

    def _add(self, key: object, place: Place | None) -> None:
        if self._places.setdefault(id(key), place) != place:
            self._places[id(key)] = None
        self._objects.append(key)

    def _match(self, scope: Mapping[str, Any]) -> Place | None:
        # The scope that the first router received.
        root_path = scope.get("app_root_path", scope.get("root_path", ""))
        copy: dict[str, Any] = {**scope, "root_path": root_path, "fastapi": {}, "path_params": {}}
        copy.pop("app_root_path", None)
        router, prefix = self.router, _Prefix()
        for _ in range(_MOST_LAYERS):
            route = _matching(router.routes, copy)
            if route is None:
                return _low_priority(router, copy, prefix)
            inner = _inside(route)
            if inner is None:
                return _leaf(route, prefix)
            app, host, path = inner
            prefix = prefix.below(host, path)
            router, own_root_path = _router_in(app)
            if router is None:
                return Place(prefix.host + prefix.path, app)
            if own_root_path:
                copy["root_path"] = own_root_path
        return None


def deciding(scope: Mapping[str, Any]) -> object | None:
    """Return the innermost route in a scope: FastAPI's context, the route, or its endpoint."""
    route = scope.get("route")
    fastapi = scope.get("fastapi")
    if fastapi is not None:
        context = fastapi.get("effective_route_context")
        if context is not None and (route is None or context.original_route is route):
            return context  # type: ignore[no-any-return]
    return scope.get("endpoint") if route is None else route


def is_router(router: object) -> bool:
    """Return whether an object is a Starlette router."""
    routing = sys.modules.get("starlette.routing")
    return routing is not None and isinstance(router, routing.Router)


def is_static(app: object) -> bool:
    """Return whether an application serves files."""
    module = sys.modules.get("starlette.staticfiles")
    return module is not None and isinstance(app, module.StaticFiles)


def _each_route(routes: Iterable[Any]) -> Iterable[Any]:
    for route in routes:
        # Newer versions of FastAPI have a route for an included router, which is their context.
        included = getattr(route, "effective_candidates", None)
        if included is None:
            yield route
        else:
            yield from _each_route(included())


def _real(route: Any) -> Any:
    return getattr(route, "starlette_route", None) or route


def _leaf(route: Any, prefix: _Prefix) -> Place:
    real = _real(route)
    path = getattr(real, "path_format", None) or getattr(real, "path", "")
    return Place(f"{prefix.host}{prefix.path}{path}")


def _inside(route: Any) -> tuple[Any, str, str] | None:
    """Return the application in a mount or host, and the host and path that it adds."""
    routing, real = sys.modules["starlette.routing"], _real(route)
    if isinstance(real, routing.Mount):
        app = getattr(real, "_base_app", real.app)
        return app, "", real.path_format.removesuffix(_REST)
    if isinstance(real, routing.Host):
        return real.app, real.host_format, ""
    return None


def _router_in(app: Any) -> tuple[Any, str]:
    """Return the router of an application, also within middlewares; and FastAPI's `root_path`."""
    for _ in range(_MOST_LAYERS):
        if is_router(app):
            return app, ""
        router = getattr(app, "router", None)
        if is_router(router):
            return router, getattr(app, "root_path", "")
        app = getattr(app, "app", None)
    return None, ""


def templates_below(app: Any) -> Iterator[str]:
    """Yield the templates of the routes of a Starlette or FastAPI application."""
    if "starlette.routing" in sys.modules:
        router, _ = _router_in(app)
        if router is not None:
            yield from RouteTree(router).templates()


def _matching(routes: Iterable[Any], scope: MutableMapping[str, Any]) -> Any:
    """Return the route that a router chooses, and store it in the scope."""
    partial: tuple[Any, Any] | None = None
    for route in routes:
        match, child = route.matches(scope)
        if match.value == _FULL or (match.value and partial is None):
            partial = (route, child)
        if match.value == _FULL:
            break
    if partial is None:
        return None
    route, child = partial
    scope.update({name: child[name] for name in child if name != "fastapi"})
    included = getattr(route, "effective_candidates", None)
    return route if included is None else _matching(included(), scope)


def _low_priority(router: Any, scope: Mapping[str, Any], prefix: _Prefix) -> Place | None:
    """Return FastAPI's frontend, which handles requests without a route."""
    match = getattr(router, "_match_low_priority", None)
    if match is None:
        return None
    _, _, group, context = match(scope)
    if group is None:
        return None
    own_prefix = getattr(context, "frontend_prefix", "")
    found = group._match(scope, prefix=own_prefix)[2]  # noqa: SLF001 - there is no other way
    path = own_prefix + found.path.rstrip("/") + _REST
    return Place(f"{prefix.host}{prefix.path}{path}")
