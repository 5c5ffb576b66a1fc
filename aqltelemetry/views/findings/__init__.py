"""Says in sentences what is wrong in a recording."""

from aqltelemetry.views.findings.find import RULES, find
from aqltelemetry.views.findings.finding import Finding, Severity
from aqltelemetry.views.findings.rule import Rule

__all__ = ["RULES", "Finding", "Rule", "Severity", "find"]
