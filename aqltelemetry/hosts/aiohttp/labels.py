"""The labels of requests to an aiohttp application."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise

from aiohttp import web

from aqltelemetry.hosts.labels import Labels, RequestLabels, safe_template
from aqltelemetry.hosts.templates import with_fallback


class RouteLabels:
    """Names the series of requests by their routes.

    Parameters:
        template: The user's function that names the route of a request; None, or a function that
            returns nothing, means aiohttp's route.
    """

    def __init__(self, template: Callable[[web.Request], str | None] | None = None) -> None:
        self._labels = RequestLabels()
        self._are_by_route = template is None
        self._template = safe_template(with_fallback(template, route_template))
        self._known: dict[tuple[web.AbstractRoute, str, str], Labels] = {}
        self.unmatched = self._labels.of(None, "GET")

    def of(self, request: web.Request, kind: str) -> Labels:
        """Return the labels of a request, which are kept for its route."""
        try:
            return self._known[request.match_info.route, request.method, kind]
        except Exception:  # noqa: BLE001 - the router may have failed
            return self._learn(request, kind)

    def knows(self, request: web.Request) -> bool:
        """Return whether the labels of a request are kept for its route and method."""
        return (request.match_info.route, request.method, "") in self._known

    def _learn(self, request: web.Request, kind: str) -> Labels:
        template, method = self._template(request), request.method
        labels = self._labels.of(template, method, kind)
        # An unmatched request has a new route each time, and clients may invent methods.
        if template is not None and self._are_by_route and self._labels.keeps(method):
            self._known[request.match_info.route, method, kind] = labels
        return labels


def route_template(request: web.Request) -> str | None:
    """Return the route of a request, after the domain of its application if it has one.

    Both have the notation of the application; nothing comes from the request.
    """
    match_info = request.match_info
    resource = match_info.route.resource
    # An unmatched request has a route that raises the error and has no resource.
    if resource is None:
        return None
    apps = getattr(match_info, "apps", ())
    return (_domain(apps) if len(apps) > 1 else "") + resource.canonical


_LABELS = RequestLabels()


def running_label(handled: object) -> str:
    """Return the label of a request that is being handled; "" until it has a route."""
    if not isinstance(handled, web.Request):
        return ""
    template = route_template(handled)
    return "" if template is None else _LABELS.of(template, handled.method).total


def route_templates(app: web.Application) -> Iterator[str]:
    """Yield the templates of an application's routes, and of those below it."""
    for resource in app.router.resources():
        inner = resource.get_info().get("app")
        if isinstance(inner, web.Application):
            yield from route_templates(inner)
        else:
            yield resource.canonical


def _domain(apps: tuple[web.Application, ...]) -> str:
    """Return the domain of the innermost application that was added by `add_domain`."""
    found = ""
    for outer, inner in pairwise(apps):
        for resource in outer.router.resources():
            info = resource.get_info()
            if info.get("app") is inner and "rule" in info:
                rule = info["rule"]
                found = str(rule.get_info().get("domain") or rule.canonical)
    return found
