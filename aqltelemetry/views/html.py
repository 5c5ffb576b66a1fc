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
from aqltelemetry.views.columns import TABLES, Column
from aqltelemetry.views.document import Options, document
from aqltelemetry.views.strips import Strips, strips

MAX_BYTES = 1_500_000
"""The size that no report exceeds."""
_PAGE = files("aqltelemetry.views") / "page"
# In the order in which they need each other; the first two stand alone.
_SCRIPTS = ("format", "model", "charts", "tables", "controls", "live", "main")
_BINS = (300, 200, 120, 60, 30)
_MAX_ROWS = 300
_SLOWEST = 50
_TEXT_LIMIT = 400


def write_html(
    db: TelemetryDB, path: str | os.PathLike[str], options: Options | None = None
) -> None:
    """Write the report of a recording as one HTML file of at most 1.5 MB.

    Args:
        db: The recording.
        path: The file; an existing one is replaced.
        options: What the report contains; by default everything, of each table the first 300 rows.

    Raises:
        OSError: The file cannot be written.

    Example:
        >>> write_html(TelemetryDB("_monitoring"), "report.html")
    """
    options = options or Options(top=_MAX_ROWS, slowest=_SLOWEST)
    text = report_html(db, document(db, options))
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
    # A finding leads to its route and worker.
    also = {finding[key] for finding in values["findings"] for key in ("label", "pid")}
    for bins in _BINS:
        text = render_html(values, strips(db, bins=bins, also=also - {None}))
        if len(text.encode()) < MAX_BYTES:
            break
    return text


def render_html(values: Mapping[str, Any], found: Strips, *, live: bool = False) -> str:
    """Return the page of a report's document and its strips.

    Args:
        values: The result of `document.document`.
        found: The strips.
        live: Whether a server answers to the page: it asks for new data and for finer strips
            of a chosen range; see page/live.js.

    Returns:
        HTML whose content security policy permits nothing but its own script and style, and
        requests to its own server if it is live.
    """
    page = {"live": live, "columns": {name: _columns(of) for name, of in TABLES.items()}}
    style = _text("vendor/uPlot.min.css") + _text("page.css")
    scripts = [_text("theme.js"), _text("vendor/uPlot.iife.min.js"), _script()]
    policy = {
        "default-src": "'none'",
        "script-src": " ".join(_hash(script) for script in scripts),
        "style-src": _hash(style),
        "img-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return _template().render(
        title=values["directory"],
        policy="; ".join(f"{name} {sources}" for name, sources in policy.items()),
        style=style,
        scripts=scripts,
        data={"page": _json(page), "document": _json(values), "strips": _json(found.as_dict())},
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
    return (_PAGE / name).read_text("utf-8")


@cache
def _script() -> str:
    """Return the page's own scripts as one, whose names are not visible outside of it."""
    return "\n".join(
        ('(() => {\n"use strict";', *(_text(f"{name}.js") for name in _SCRIPTS), "})();")
    )


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(_text("page.html.j2"))
