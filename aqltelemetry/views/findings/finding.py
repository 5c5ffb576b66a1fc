"""A finding: a sentence about a recording, with its figures, its rule and its place."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_NS_PER_MS = 1_000_000


class Severity(StrEnum):
    """How much a finding matters; `find` sorts by it, in this order."""

    ERROR = "error"
    """Requests failed or hang, a process was killed, or observations were lost."""
    WARNING = "warning"
    """Something is slow, or grows until it fails."""
    NOTICE = "notice"
    """Something that explains other numbers, such as a recording that was switched off."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What a rule found in a recording.

    Attributes:
        rule: The name of the rule; `RULES` explains it.
        text: One sentence with the most important figures. Times in it are local.
        severity: How much it matters.
        label: The time series that it is about, or None.
        pid: The process that it is about, or None for several.
        begin_ns: Where the place begins, in nanoseconds since the epoch.
        end_ns: Where the place ends, in nanoseconds since the epoch; `begin_ns` for an instant.
        figures: All figures by name; names end in their unit: `p99_s`, `slope_bytes_per_s`,
            `share`.
        weight: Orders the findings of one rule, the largest first; its meaning depends on the
            rule.
    """

    rule: str
    text: str
    severity: Severity
    label: str | None
    pid: int | None
    begin_ns: int
    end_ns: int
    figures: Mapping[str, float]
    weight: float = 0.0

    def as_dict(self) -> dict[str, Any]:
        """Return the finding for JSON; times are ISO 8601 in UTC, and in ms since the epoch."""
        return {
            "rule": self.rule,
            "severity": str(self.severity),
            "text": self.text,
            "label": self.label,
            "pid": self.pid,
            "begin": _iso(self.begin_ns),
            "end": _iso(self.end_ns),
            "begin_ms": self.begin_ns // _NS_PER_MS,
            "end_ms": self.end_ns // _NS_PER_MS,
            "figures": dict(self.figures),
        }


def _iso(at_ns: int) -> str:
    moment = _EPOCH + timedelta(microseconds=at_ns // 1000)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")
