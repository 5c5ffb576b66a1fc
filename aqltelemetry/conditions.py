"""Conditions on what is recorded, as text: `lag > 0.5s; p99 /orders/{id} [GET] > 2s; killed`."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

from aqltelemetry.quantities import parse_bytes, parse_seconds

CONDITIONS_FORM = (
    'conditions such as "lag > 0.5s; rss > 2g; p99 /orders/{id} [GET] > 2s; 5xx > 5%; killed"'
)
LAG, RSS, ERRORS = "lag", "rss", "5xx"
MEDIAN, P99, LONGEST = "p50", "p99", "max"
KILLED, SIGNAL = "killed", "SIGUSR2"
_PERCENT = 100.0


class Condition(NamedTuple):
    """A condition on what is recorded.

    Attributes:
        text: The text that it was given by.
        measure: What is compared: `lag`, `rss`, `5xx`, `p50`, `p99`, `max`; or an event: `killed`,
            `SIGUSR2`.
        label: The label whose durations are meant; empty for each label.
        limit: What the measure must be above, in seconds, bytes, or as a share; 0 for an event.
    """

    text: str
    measure: str
    label: str = ""
    limit: float = 0.0


def parse_conditions(text: str) -> tuple[Condition, ...]:
    """Return the conditions that a text stands for; raises ValueError, with what is wrong.

    Example:
        >>> parse_conditions("lag > 500ms; killed")[0].limit
        0.5
    """
    found = [_condition(part.strip()) for part in text.split(";") if part.strip()]
    if not found:
        raise ValueError("there is no condition")
    return tuple(found)


def _condition(text: str) -> Condition:
    if text in (KILLED, SIGNAL):
        return Condition(text, text)
    left, sign, limit = text.rpartition(">")
    measure, _, label = left.strip().partition(" ")
    if not sign or measure not in _PARSERS:
        raise ValueError(f"{text!r} is no condition")
    if label and measure in (LAG, RSS):
        raise ValueError(f"{measure!r} is of a process, and has no label")
    value = _PARSERS[measure](limit.strip())
    return Condition(text, measure, label.strip(), value)


def _seconds(text: str) -> float:
    value = parse_seconds(text)
    if not 0 <= value < math.inf:
        raise ValueError(text)
    return value


def _share(text: str) -> float:
    value = float(text[:-1]) / _PERCENT if text.endswith("%") else float(text)
    if not 0 <= value < 1:
        raise ValueError(text)
    return value


_PARSERS: Mapping[str, Callable[[str], float]] = {
    LAG: _seconds,
    RSS: parse_bytes,
    ERRORS: _share,
    MEDIAN: _seconds,
    P99: _seconds,
    LONGEST: _seconds,
}
