"""Writes a comparison as one self-contained HTML file."""

from __future__ import annotations

import base64
import hashlib
from importlib.resources import files

from jinja2 import Environment, StrictUndefined

from aqltelemetry.views.comparison import words
from aqltelemetry.views.comparison.words import Document

_ROOM = "aqltelemetry.views.comparison"


def page(document: Document) -> str:
    """Return a comparison as an HTML page without scripts, which loads nothing."""
    style = files(_ROOM).joinpath("page.css").read_text(encoding="utf-8")
    template = files(_ROOM).joinpath("page.html.jinja").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return environment.from_string(template).render(
        document=document, words=words, style=style, style_digest=digest, bars=_bars
    )


def _bars(found: Document) -> tuple[float, float, float]:
    """Return where an interval begins, how wide it is, and where the change is, in percent."""
    low, high, change = (
        50 + 50 * max(-1.0, min(1.0, found[name] / 0.5)) for name in ("low", "high", "change")
    )
    return low, max(high - low, 0.5), change
