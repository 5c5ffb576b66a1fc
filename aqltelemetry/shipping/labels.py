"""Splits a label into the parts by which an engine groups: route, method, status and kind."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import NamedTuple

from aqltelemetry.observation import FIRST_BYTE, UNMATCHED
from aqltelemetry.reading import outcomes

REQUEST = "request"
"""Kind of a label: requests, as a host records them."""
BLOCK = "block"
"""Kind of a label: blocks and functions."""
_REQUEST = re.compile(
    rf"(?:{UNMATCHED}|(?P<route>\S.*) \[(?P<method>[^\[\] ]+)\])(?: (?P<kind>websocket|events))?",
    re.DOTALL,
)


class LabelParts(NamedTuple):
    """The parts of a label of durations.

    Attributes:
        label: The whole label.
        route: The template of a request's route, or `unmatched`; of a block, its label without the
            outcome.
        method: The method of a request, such as `GET`; empty for a block or `unmatched`.
        status: The outcome that the series counts: `4xx`, `5xx`, `disconnect`, `failed`; `ttfb`
            for the time to the first byte; empty for the series of all requests or blocks.
        kind: `request`, `websocket`, `events` (server-sent events) or `block`.
    """

    label: str
    route: str
    method: str
    status: str
    kind: str


def split(label: str, known_labels: Collection[str]) -> LabelParts:
    """Split a label of durations into its parts.

    Args:
        label: The label.
        known_labels: All labels of durations. A last word is an outcome only if the label
            without it occurs too, as `reading.outcomes` describes.

    Example:
        >>> split("/a [GET] 5xx", {"/a [GET]"})
        LabelParts(label='/a [GET] 5xx', route='/a', method='GET', status='5xx', kind='request')
        >>> split("load", set())
        LabelParts(label='load', route='load', method='', status='', kind='block')
    """
    base, status = outcomes.split(label, known_labels)
    if status is None:
        total = outcomes.total_of(label, known_labels)
        base, status = (label, "") if total is None else (total, FIRST_BYTE)
    found = _REQUEST.fullmatch(base)
    if found is None:
        return LabelParts(label, base, "", status, BLOCK)
    route, method = found["route"] or UNMATCHED, found["method"] or ""
    return LabelParts(label, route, method, status, found["kind"] or REQUEST)
