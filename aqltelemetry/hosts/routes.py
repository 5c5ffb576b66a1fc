"""The notations of routes that several hosts share: Flask and Quart, Django."""

from __future__ import annotations

import re
import sys
from functools import lru_cache

# The variable parts of a route in Flask and Django: <id>, <int:id>.
_VARIABLE = re.compile(r"<(?:\w+(?:\(.*?\))?:)?(\w+)>")
_REGULAR = re.compile(r"[\\^$()]")
_QUANTIFIER = r"(?:[*+?]|\{\d*,?\d*\})"
_REGEX_PART = re.compile(
    rf"(?P<named>\(\?P<(?P<name>\w+)>)|(?P<silent>\(\?)|(?P<group>\()|(?P<close>\){_QUANTIFIER}*)"
    rf"|(?P<anchor>\\[AbBzZ]|[\^$])|(?P<set>(?:\\[dDsSwW]|\[\^?\]?(?:\\.|[^\\\]])*\]){_QUANTIFIER}*"
    rf"|\.{_QUANTIFIER}+)|(?P<escaped>\\.)|(?P<quantifier>{_QUANTIFIER})|(?P<plain>.)",
    re.DOTALL,
)
_PLAIN = {"set": "*", "group": "<var>"} | dict.fromkeys(
    ("named", "silent", "anchor", "escaped", "quantifier"), ""
)


def django_template(path: str) -> str | None:
    """Return the template of Django's route for a path; None where none matches, or without Django.

    Call it while Django handles the request, in its thread and context: Django keeps there the
    request's configuration of URLs and its language.

    Parameters:
        path: The `path_info` of Django's request.
    """
    # An application that has not imported Django is none of Django's.
    urls = sys.modules.get("django.urls")
    if urls is None:
        return None
    try:
        route = urls.resolve(path or "/").route
    except Exception:  # noqa: BLE001 - Resolver404, or Django is imported and not configured
        return None
    return "/" + _django_route(str(route)).lstrip("/")


@lru_cache(maxsize=1000)
def _django_route(route: str) -> str:
    return braced(_without_regex(route) if _REGULAR.search(route) else route)


def _without_regex(route: str) -> str:
    """Return a route with its regular expressions as {name}, {var} or *.

    Django's `simplify_regex` is similar, but repeats the text before the second of two groups
    without names.
    """
    parts: list[str] = []
    depth = 0
    for found in _REGEX_PART.finditer(route):
        kind, text = str(found.lastgroup), found[0]
        if kind == "close":
            depth = max(0, depth - 1)
        elif depth == 0:
            parts.append(_PLAIN.get(kind, text))
            if kind == "named":
                parts.append(f"<{found['name']}>")
            elif kind == "escaped":
                parts.append(text[1])
        depth += kind in ("named", "group", "silent")
    return "".join(parts)


@lru_cache(maxsize=1000)
def braced(rule: str) -> str:
    """Return a rule of Flask or Django with its variables as {name}."""
    return _VARIABLE.sub(r"{\1}", rule)
