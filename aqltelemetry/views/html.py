"""Writes the HTML report: one self-contained file, with the data as JSON and no outside resource.

`page/` has its template, style, scripts and the chart library. The page computes sums and
percentiles of a range of time only from what `strips` computed.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import jinja2

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.stalls.causes import CAUSES
from aqltelemetry.views.columns import TABLES, Column
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.stalls.styles import css, styles
from aqltelemetry.views.strips import Strips, strips

SLOWEST = 50
"""How many of the slowest durations a report shows by default."""
MAX_BYTES = 1_500_000
"""The size that no report exceeds."""
_FILES = files("aqltelemetry.views") / "page"
_SCRIPTS = ("format", "model", "charts", "tables", "controls", "live", "main")
_BINS = (400, 300, 200, 120, 60, 30)
_MAX_ROWS = 300
_MAX_FINDINGS = 60
_FINDINGS_WITH_CHARTS = 12


def write_html(
    db: TelemetryDB, path: str | os.PathLike[str], values: Mapping[str, Any] | None = None
) -> None:
    """Write the report of a recording as one HTML file of at most 1.5 MB.

    Args:
        db: The recording.
        path: The file; an existing one is replaced.
        values: The result of `document.document`, of which the first 300 rows of each table are
            shown; by default that of the whole recording.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> write_html(TelemetryDB("_monitoring"), "report.html")
    """
    if values is None:
        values = document(db, Options(slowest=SLOWEST))
    text = report_html(db, values)
    temporary = f"{os.fspath(path)}.{os.getpid()}.tmp"
    with open(temporary, "w", encoding="utf-8") as file:
        file.write(text)
    os.replace(temporary, path)


def report_html(db: TelemetryDB, values: Mapping[str, Any]) -> str:
    """Return the report of a recording as HTML.

    Args:
        db: The recording.
        values: The result of `document.document`.

    Returns:
        The text, which has fewer than `MAX_BYTES` bytes: a recording that would need more
        gets fewer time bins.
    """
    text = ""
    values = _bounded(values)
    # A finding leads to its route and worker.
    first = values["findings"][:_FINDINGS_WITH_CHARTS]
    also = {finding[key] for finding in first for key in ("label", "pid")}
    for bins in _BINS:
        text = render_html(values, strips(db, bins=bins, also=also - {None}))
        if len(text.encode()) < MAX_BYTES:
            break
    return text


def _bounded(values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a document with no more rows and findings than a page has room for."""
    limits = dict.fromkeys(TABLES, _MAX_ROWS) | {"findings": _MAX_FINDINGS}
    left_out = dict(values["left_out"])
    for name, limit in limits.items():
        left_out[name] = left_out.get(name, 0) + max(len(values[name]) - limit, 0)
    return {
        **values,
        **{name: values[name][:limit] for name, limit in limits.items()},
        "left_out": left_out,
        "not_read": values["not_read"][:_MAX_ROWS],
    }


def render_html(values: Mapping[str, Any], found: Strips) -> str:
    """Return the page of a report's document and its strips.

    Args:
        values: The result of `document.document`.
        found: The strips.

    Returns:
        HTML whose content security policy permits nothing but its own scripts and style.
    """
    data = {"document": _json(values), "strips": _json(found.as_dict())}
    return _page(str(values["directory"]), data)


def render_live_html(title: str) -> str:
    """Return a page without data, which asks its server for them; see page/live.js.

    Args:
        title: The title until the data are there.
    """
    return _page(title, {}, live=True)


def content_security_policy(*, live: bool) -> str:
    """Return the policy that the page states in an element, for a server to send it as a header.

    It permits the page's own scripts and style, by their hashes, and nothing else; to a live page
    requests to its own server too.
    """
    rules = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(script) for script in _scripts()),
        "style-src": _hash(_style()),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {sources}" for name, sources in rules.items())


def _page(title: str, data: Mapping[str, str], *, live: bool = False) -> str:
    page = {
        "live": live,
        "columns": {name: _columns(of) for name, of in TABLES.items()},
        "causes": {cause: style.letter for cause, style in styles().items()},
        "meanings": dict(CAUSES),
    }
    return _template().render(
        title=title,
        policy=content_security_policy(live=live),
        style=_style(),
        scripts=_scripts(),
        data={"page": _json(page), **data},
    )


def _columns(columns: Sequence[Column]) -> list[dict[str, Any]]:
    names = ("key", "head", "meaning", "hides_zeros", "is_number")
    return [{name: getattr(column, name) for name in names} for column in columns]


def _json(values: Any) -> str:
    """Return JSON for a script element: without `<`, so that no text in it ends the element."""
    text = json.dumps(values, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _hash(source: str) -> str:
    digest = hashlib.sha256(source.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"


@cache
def _text(name: str) -> str:
    return (_FILES / name).read_text("utf-8")


@cache
def _style() -> str:
    return _text("vendor/uPlot.min.css") + _text("page.css") + css()


@cache
def _scripts() -> Sequence[str]:
    """Return the scripts: the theme's, the chart library, and the page's own ones as one.

    The names of the last one are not visible outside of it.
    """
    own = ('(() => {\n"use strict";', *(_text(f"{name}.js") for name in _SCRIPTS), "})();")
    return _text("theme.js"), _text("vendor/uPlot.iife.min.js"), "\n".join(own)


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_text("page.html.j2"))
