"""Names the route of a request by its path.

The slots of requests in flight hold paths, since the route is not known when a request begins. A
path may contain what nobody else should read, so only templates are shown.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from urllib.parse import unquote

from aqltelemetry.observation import UNMATCHED

_VARIABLE = re.compile(r"\{([^{}]*)\}")
_LABEL = re.compile(
    r"(?P<template>/.*|[^ /]+/.*) \[(?P<method>[A-Z]+)\](?P<kind> websocket| events)?"
)
_REST = ("path", "path:path", "tail", "rest")
_ABSOLUTE = re.compile(r"[a-z][a-z0-9+.-]*://[^/]*", re.IGNORECASE)


class Templates:
    """The templates of an application's routes.

    Args:
        routes: Templates, with variable parts as `{name}`; the first one that matches counts.
        labels: Labels of recorded requests, such as `/users/{id} [GET]`.
    """

    def __init__(self, routes: Iterable[str], labels: Iterable[str] = ()) -> None:
        matches = filter(None, map(_LABEL.fullmatch, labels))
        every = dict.fromkeys([*routes, *(match["template"] for match in matches)])
        # As frameworks do, a route without variable parts comes before others.
        self._exact = {_slashed(each): each for each in every if "{" not in each}
        self._others = [(each, _pattern(each)) for each in every if "{" in each]

    def label(self, text: str) -> str:
        """Return the label of a request, given by its method and path."""
        method, _, path = text.partition(" ")
        template = self.find(path)
        return f"{UNMATCHED} [{method}]" if template is None else f"{template} [{method}]"

    def find(self, path: str) -> str | None:
        """Return the template that a path matches; None if there is none."""
        path = _ABSOLUTE.sub("", path, count=1)
        for given in dict.fromkeys((path, unquote(path))):
            exact = self._exact.get(_slashed(given))
            if exact is not None:
                return exact
            for template, pattern in self._others:
                if pattern.fullmatch(_slashed(given)):
                    return template
        return None


def _slashed(path: str) -> str:
    return path.rstrip("/") or "/"


def _pattern(template: str) -> re.Pattern[str]:
    parts, at = [], 0
    template = _slashed(template)
    for found in _VARIABLE.finditer(template):
        parts.append(re.escape(template[at : found.start()]))
        at = found.end()
        is_rest = at == len(template) and found[1] in _REST
        parts.append(".*" if is_rest or found[1].endswith(":path") else "[^/]+")
    return re.compile("".join([*parts, re.escape(template[at:])]), re.DOTALL)
