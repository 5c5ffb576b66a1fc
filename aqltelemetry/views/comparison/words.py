"""The parts of a comparison as text, which all its forms share."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from aqltelemetry.quantities import counted, rate
from aqltelemetry.views.comparison.compare import ERRORS, RATE

Document = Mapping[str, Any]
_MAX_PERCENT = 999
_TOO_FEW = "too few"
_DIGITS_MS = ((1000, 0), (100, 1), (10, 2), (1, 3))


def side(document: Document, name: str) -> str:
    """Return what a side of a comparison is: its name, when, how many durations."""
    about = document[name]
    if about["begin"] is None:
        return f"{about['name']}: no durations"
    begin, end = (datetime.fromisoformat(about[each]).astimezone() for each in ("begin", "end"))
    until = f"{end:%H:%M:%S}" if begin.date() == end.date() else f"{end:%Y-%m-%d %H:%M:%S}"
    when = f"{begin:%Y-%m-%d %H:%M:%S} to {until}"
    return f"{about['name']}: {when}, {counted(about['count'], 'duration')}"


def value(measure: str, amount: float) -> str:
    """Return a value of a measure, without the unit of times."""
    if measure == ERRORS:
        return f"{amount * 100:.2f}"
    return rate(amount) if measure == RATE else _milliseconds(amount)


def stalls(row: Document) -> str:
    """Return how many stalls a cause had, and for how long in all."""
    before, after = (
        f"{row[f'count_{side}']:,} ({_milliseconds(row[f'total_{side}_s'])} ms)" for side in "ab"
    )
    return f"{row['cause']}: {before} in A, {after} in B"


def unit(measure: str) -> str:
    """Return the unit of a measure."""
    return {ERRORS: "%", RATE: "/s"}.get(measure, "ms")


def _milliseconds(seconds: float) -> str:
    amount = seconds * 1000
    digits = next((digits for limit, digits in _DIGITS_MS if amount >= limit), 4)
    return f"{amount:,.{digits}f}"


def change(measure: str, found: Document) -> str:
    """Return a change, such as `+12.3 %`."""
    if found["change"] is None:
        return "-"
    return f"{_percent(measure, found['change'])} {'pp' if measure == ERRORS else '%'}"


def interval(measure: str, found: Document) -> str:
    """Return the interval of a change, such as `+10.1 to +14.6`."""
    if found["low"] is None:
        return _TOO_FEW
    return f"{_percent(measure, found['low'])} to {_percent(measure, found['high'])}"


def shown(row: Document) -> Mapping[str, Document]:
    """Return the measures of a label that say something: not a share of errors that stays 0."""
    measures: Mapping[str, Document] = row["measures"]
    errors = measures[ERRORS]
    if errors["a"] or errors["b"]:
        return measures
    return {name: found for name, found in measures.items() if name != ERRORS}


def _percent(measure: str, share: float) -> str:
    percent = share * 100
    if percent > _MAX_PERCENT:
        return f"> +{_MAX_PERCENT}"
    digits = 2 if measure == ERRORS else 1
    return f"{round(percent, digits) + 0.0:+.{digits}f}"


def verdicts(row: Document) -> str:
    """Return in words what changed of a label."""
    return ", ".join(row["verdicts"])


def summary(document: Document) -> str:
    """Return in a sentence how many labels changed."""
    rows = document["labels"]
    changed = sum(bool(row["verdicts"]) for row in rows)
    return f"{changed} of {counted(len(rows), 'common label')} changed"


def rule(document: Document) -> str:
    """Return when a change is certain."""
    return (
        f"A change is certain (*) if its interval does not contain 0 and it is at least "
        f"{document['min_effect'] * 100:g} %; of errors, 0.1 percentage points (pp). All intervals "
        f"together hold with {document['confidence'] * 100:g} % confidence."
    )


def condition(examined: Document) -> str:
    """Return whether a condition of --fail-if holds, and where."""
    text, unknown = examined["text"], ", ".join(examined["unknown"])
    if examined["holds"]:
        return f"{text} holds: {', '.join(examined['holds'])}"
    if not examined["decided"]:
        reason = f"too few observations of {unknown}" if unknown else "no common label matches"
        return f"{text} is not decided: {reason}"
    return f"{text} does not hold" + (f"; not decided: {unknown}" if unknown else "")
