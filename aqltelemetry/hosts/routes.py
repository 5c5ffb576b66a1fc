"""Which route answers a request, as a template: where frameworks leave it."""

from __future__ import annotations

import re
import sys
from functools import lru_cache

# As Flask and Django write the variable parts of a route: <id>, <int:id>.
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

    `path` is what Django's request has as `path_info`. To be called while Django answers
    the request, in its thread and context, where Django keeps which configuration of
    URLs and which language the request has.
    """
    # Not imported: an application that has not done so is none of Django's.
    urls = sys.modules.get("django.urls")
    if urls is None:
        return None
    try:
        route = urls.resolve(path or "/").route
    except Exception:  # noqa: BLE001 - Resolver404, or Django is there and not in use
        return None
    return "/" + _django_route(str(route)).lstrip("/")


@lru_cache(maxsize=1000)
def _django_route(route: str) -> str:
    return braced(_without_regex(route) if _REGULAR.search(route) else route)


def _without_regex(route: str) -> str:
    """Return a route with its regular expressions as {name}, {var} or *.

    Django's `simplify_regex`, which does about the same, repeats what stands before the
    second of two groups without names.
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
    """Return a rule as Flask and Django write it with its variables as {name}."""
    return _VARIABLE.sub(r"{\1}", rule)
