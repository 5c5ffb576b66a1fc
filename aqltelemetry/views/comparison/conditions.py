"""Conditions on a comparison, such as `p95 > +10%`, for continuous integration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from aqltelemetry.errors import OptionError
from aqltelemetry.views.comparison.compare import MEASURES
from aqltelemetry.views.document import Options

FORM = (
    f"must be such as 'p95 > +10%' or 'label:/orders* errors > +1%', of {', '.join(MEASURES)}, "
    "with > and + or < and -"
)
_CONDITION = re.compile(
    rf"(?:label:(?P<label>.+?)\s+)?(?P<measure>{'|'.join(MEASURES)})\s*(?P<way>[<>])\s*"
    r"(?P<change>[+-]?\d+(?:\.\d*)?)\s*%"
)


class Condition(NamedTuple):
    """A change that is not to happen."""

    text: str
    label: str | None
    """A pattern; None for all labels."""
    measure: str
    is_rise: bool
    change: float
    """The relative change, or of errors the difference of the shares: 0.1 for 10 %."""

    def holds(self, change: Mapping[str, Any]) -> bool | None:
        """Return whether a change is beyond the limit with confidence; None if unknown."""
        if change["low"] is None:
            return None
        return bool(change["low"] > self.change if self.is_rise else change["high"] < self.change)


def parse_condition(text: str) -> Condition:
    """Return a condition: `[label:GLOB] MEASURE > +N%` or `< -N%`; raises OptionError."""
    found = _CONDITION.fullmatch(text.strip())
    if found is None:
        raise OptionError("fail_if", text, FORM)
    change, is_rise = float(found["change"]) / 100, found["way"] == ">"
    if (change < 0) == is_rise and change:
        raise OptionError("fail_if", text, FORM)
    return Condition(text.strip(), found["label"], found["measure"], is_rise, change)


def examine(compared: Mapping[str, Any], conditions: Sequence[Condition]) -> list[dict[str, Any]]:
    """Return for each condition where it holds, and where it is unknown.

    Args:
        compared: The result of `compare`.
        conditions: What is not to happen.

    Returns:
        A dict for each condition: its `text`; `holds`, the labels where the change is beyond the
        limit with confidence; `unknown`, the labels with too few observations; and `decided`,
        the number of labels that have an interval.
    """
    return [_examine(compared["labels"], each) for each in conditions]


def _examine(rows: Sequence[Mapping[str, Any]], condition: Condition) -> dict[str, Any]:
    wanted = Options(labels=() if condition.label is None else (condition.label,))
    found = {
        row["label"]: condition.holds(row["measures"][condition.measure])
        for row in rows
        if wanted.has(row["label"])
    }
    return {
        "text": condition.text,
        "holds": [label for label, holds in found.items() if holds],
        "unknown": [label for label, holds in found.items() if holds is None],
        "decided": sum(holds is not None for holds in found.values()),
    }
