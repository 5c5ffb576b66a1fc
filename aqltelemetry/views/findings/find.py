"""Applies all rules to a recording."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import tzinfo

from aqltelemetry.reading.database import TelemetryDB
from aqltelemetry.system.logs import log
from aqltelemetry.views.findings import (
    changes,
    errors,
    events,
    growth,
    inner_block,
    long_tail,
    slow_worker,
    slowest,
)
from aqltelemetry.views.findings.event_loop import blocked
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.recorded import Recorded
from aqltelemetry.views.findings.rule import Rule

RULES: tuple[Rule, ...] = (
    events.KILLED_RULE,
    events.DROPS_RULE,
    growth.PILE_RULE,
    errors.BURST_RULE,
    errors.ERRORS_RULE,
    blocked.RULE,
    slowest.RULE,
    inner_block.RULE,
    slow_worker.RULE,
    changes.SLOWER_RULE,
    growth.MEMORY_RULE,
    growth.LEAK_RULE,
    changes.DROP_RULE,
    long_tail.RULE,
    events.OFF_RULE,
    events.CLOCK_RULE,
    events.MEMORY_ONLY_RULE,
)
"""All rules, in the order of the findings of equal severity."""
_SEVERITIES = [*Severity]
_NAMES = [rule.name for rule in RULES]


def find(
    db: TelemetryDB, *, rules: Iterable[Rule] = RULES, zone: tzinfo | None = None
) -> list[Finding]:
    """Return what is wrong in a recording, the most important first.

    A rule that fails is logged and skipped.

    Args:
        db: The recording; what it has loaded, by its options, is looked at.
        rules: The rules to apply.
        zone: The time zone of the times in the texts; None for the system's.

    Returns:
        Findings by severity, then in the order of `RULES`, then by weight.

    Raises:
        MonitoringDirectoryError: The directory was removed.

    Example:
        >>> [finding.text for finding in find(TelemetryDB("_monitoring"))]
        ['Worker 869 ended at 14:03:20 without stopping its recording, as if killed.']
    """
    recorded = Recorded(db, zone)
    found: list[Finding] = []
    for rule in rules:
        try:
            found += rule.find(recorded)
        except Exception as exc:  # noqa: BLE001 - whatever a rule stumbles over, the others count
            log.warning("the findings of the rule %r are missing: %r", rule.name, exc)
    return sorted(found, key=_importance)


def _importance(finding: Finding) -> tuple[int, int, float]:
    rule = _NAMES.index(finding.rule) if finding.rule in _NAMES else len(_NAMES)
    return _SEVERITIES.index(finding.severity), rule, -finding.weight
