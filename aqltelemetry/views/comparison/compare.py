"""Compares the durations of two recordings, label by label."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

import numpy as np

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.views.comparison import bootstrap
from aqltelemetry.views.comparison.bootstrap import Draws, Floats
from aqltelemetry.views.comparison.durations import Durations, Series

VERSION = 1
"""The version of the document. It grows if a field is removed or changes its meaning."""
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p95": 0.95, "p99": 0.99}
RATE, ERRORS = "rate", "errors"
MEASURES = (*QUANTILES, RATE, ERRORS)
"""What is compared of each label."""
_MIN_BLOCKS = 10
_MIN_BEYOND = 10  # so many observations below and above a quantile, or it varies too much
_MIN_ERRORS_CHANGE = 0.001
_MAX_LOG = 50.0
_SLOWER, _FASTER, _MIXED = "slower", "faster", "slower and faster"


@dataclass(frozen=True, slots=True)
class Options:
    """When a change is certain.

    Attributes:
        confidence: The probability that all intervals of a comparison contain the true change.
        min_effect: The smallest relative change of a percentile or rate that counts, such as
            0.05 for 5 %. A share of errors has to change by 0.1 percentage points.
        seed: What the draws begin with; the same seed gives the same result.
    """

    confidence: float = 0.999
    min_effect: float = 0.05
    seed: int = 1


class Change(NamedTuple):
    """How one measure of a label changed.

    `a` and `b` are seconds, observations per second, or a share of errors. `change`, `low` and
    `high` are relative to `a`, or of errors the difference of the shares: 0.1 for 10 % or 10
    percentage points. `low` and `high` limit the interval; None if there are too few observations.
    """

    a: float
    b: float
    change: float | None
    low: float | None
    high: float | None
    is_certain: bool


class _Raw(NamedTuple):
    """A change before its interval is known: its standard error, on the scale of `estimate`."""

    a: float
    b: float
    estimate: float
    error: float
    degrees: int


def compare(a: Durations, b: Durations, options: Options | None = None) -> dict[str, Any]:
    """Compare two recordings.

    Args:
        a: What to compare with.
        b: What is compared.
        options: When a change is certain.

    Returns:
        A dict of plain values, which docs/reference/diff-json.md describes.

    The interval of a change is `estimate ± t * error`. For percentiles and rates, the estimate is
    the logarithm of their ratio. `error` is the bootstrap's standard error (see `bootstrap`) of
    both recordings, and `t` of Student's distribution: Efron and Tibshirani, "An Introduction to
    the Bootstrap", 1993, chapter 12. With m intervals, each has the confidence 1 - (1 -
    confidence) / m, so that all of them hold together: C. E. Bonferroni, 1936. A change is certain
    if its interval does not contain 0 and it is at least the minimum effect.
    """
    options = options or Options()
    both = [label for label in a.labels if label in b.labels]
    draws = (Draws(options.seed), Draws(options.seed + 1))
    raw = {label: _measures(a, b, label, draws) for label in both}
    intervals = sum(
        math.isfinite(each.error) for measures in raw.values() for each in measures.values()
    )
    risk = (1 - options.confidence) / max(intervals, 1)
    rows = [
        _row(label, (a.labels[label], b.labels[label]), raw[label], risk, options) for label in both
    ]
    rows.sort(key=lambda row: (not row["verdicts"], -abs(row["extra_s"])))
    return {
        "version": VERSION,
        "confidence": options.confidence,
        "min_effect": options.min_effect,
        "a": _side(a),
        "b": _side(b),
        "labels": rows,
        "only_a": _only(a, b),
        "only_b": _only(b, a),
        "stalls": _stalls(a, b),
        "conditions": [],
    }


def _side(side: Durations) -> dict[str, Any]:
    has_any = bool(side.labels)
    return {
        "name": side.name,
        "begin": _iso(side.begin_ns) if has_any else None,
        "end": _iso(side.end_ns) if has_any else None,
        "recorded_s": _known(side.recorded_s),
        "count": side.total,
    }


def _iso(at_ns: int) -> str:
    return datetime.fromtimestamp(at_ns / NS_PER_S, UTC).isoformat(timespec="milliseconds")


def _only(one: Durations, other: Durations) -> list[dict[str, Any]]:
    missing = [label for label in one.labels if label not in other.labels]
    rows = [
        {"label": label, "count": len(series.seconds), "p50_s": float(np.median(series.seconds))}
        for label, series in ((label, one.labels[label]) for label in missing)
    ]
    return sorted(rows, key=lambda row: -int(row["count"]))


def _stalls(a: Durations, b: Durations) -> list[dict[str, Any]]:
    """Return a row for each cause of stalls, those that changed most first."""
    rows = []
    for cause in dict.fromkeys([*a.stalls, *b.stalls]):
        (count_a, total_a), (count_b, total_b) = (
            side.stalls.get(cause, (0, 0.0)) for side in (a, b)
        )
        counts = {"count_a": count_a, "count_b": count_b}
        rows.append({"cause": cause, **counts, "total_a_s": total_a, "total_b_s": total_b})
    return sorted(rows, key=lambda row: -abs(row["total_b_s"] - row["total_a_s"]))


def _row(
    label: str,
    sides: tuple[Series, Series],
    raw: Mapping[str, _Raw],
    risk: float,
    options: Options,
) -> dict[str, Any]:
    changes = {name: _change(name, each, risk, options) for name, each in raw.items()}
    counts = [len(side.seconds) for side in sides]
    means = [float(side.seconds.mean()) for side in sides]
    return {
        "label": label,
        "count_a": counts[0],
        "count_b": counts[1],
        "verdicts": list(_verdicts(changes)),
        "extra_s": (means[1] - means[0]) * counts[1],
        "measures": {name: change._asdict() for name, change in changes.items()},
    }


def _verdicts(changes: Mapping[str, Change]) -> Iterator[str]:
    """Yield in words what changed for certain."""
    certain = {name: change.change or 0 for name, change in changes.items() if change.is_certain}
    ways = {change > 0 for name, change in certain.items() if name in QUANTILES}
    if ways:
        yield _MIXED if len(ways) > 1 else (_SLOWER if ways.pop() else _FASTER)
    if ERRORS in certain:
        yield "more errors" if certain[ERRORS] > 0 else "fewer errors"
    if RATE in certain:
        yield "more often" if certain[RATE] > 0 else "less often"


def _measures(
    a: Durations, b: Durations, label: str, draws: tuple[Draws, Draws]
) -> dict[str, _Raw]:
    sides = (a.labels[label], b.labels[label])
    blocks = [bootstrap.blocks_of(len(side.seconds)) for side in sides]
    degrees = min(blocks) - 1
    pairs = list(zip(sides, draws, strict=True))
    shares = [*QUANTILES.values()]
    quantiles = [np.quantile(side.seconds, shares) for side in sides]
    errors = [_quantile_errors(side.seconds, shares, each) for side, each in pairs]
    found = {
        name: _ratio(quantiles[0][at], quantiles[1][at], errors[0][at], errors[1][at], degrees)
        for at, name in enumerate(QUANTILES)
    }
    rates = [len(each.labels[label].seconds) / each.recorded_s for each in (a, b)]
    error_a, error_b = _count_error(a, label, draws[0]), _count_error(b, label, draws[1])
    found[RATE] = _ratio(rates[0], rates[1], error_a, error_b, bootstrap.BLOCKS - 1)
    found[ERRORS] = _errors(pairs, degrees)
    return found


def _quantile_errors(seconds: Floats, shares: Sequence[float], draws: Draws) -> Floats:
    """Return standard errors, NaN where there are too few observations."""
    count = len(seconds)
    found = np.full(len(shares), np.nan)
    is_enough = [min(share, 1 - share) * count >= _MIN_BEYOND for share in shares]
    if bootstrap.blocks_of(count) >= _MIN_BLOCKS and any(is_enough):
        errors = bootstrap.quantile_errors(seconds, shares, draws)
        found[is_enough] = errors[is_enough]
    return found


def _ratio(a: float, b: float, error_a: float, error_b: float, degrees: int) -> _Raw:
    estimate = math.log(b / a) if a > 0 and b > 0 else math.nan
    error = math.hypot(error_a, error_b) if math.isfinite(estimate) else math.nan
    return _Raw(float(a), float(b), estimate, error, degrees)


def _count_error(side: Durations, label: str, draws: Draws) -> float:
    """Return the standard error of the logarithm of a number of observations."""
    length_ns = side.end_ns - side.begin_ns
    times_ns = side.labels[label].times_ns
    if length_ns <= 0 or len(times_ns) < _MIN_BEYOND:
        return math.nan
    blocks = np.minimum(
        (times_ns - side.begin_ns) * bootstrap.BLOCKS // length_ns, bootstrap.BLOCKS - 1
    )
    return bootstrap.count_error(np.bincount(blocks, minlength=bootstrap.BLOCKS), draws)


def _errors(pairs: Iterable[tuple[Series, Draws]], degrees: int) -> _Raw:
    shares, errors = [], []
    for side, draws in pairs:
        count, blocks = len(side.seconds), bootstrap.blocks_of(len(side.seconds))
        shares.append(len(side.error_times_ns) / count)
        if blocks < _MIN_BLOCKS:
            errors.append(math.nan)
            continue
        of = np.bincount(np.arange(count) * blocks // count, minlength=blocks)
        places = np.minimum(np.searchsorted(side.times_ns, side.error_times_ns), count - 1)
        hits = np.bincount(places * blocks // count, minlength=blocks)
        errors.append(bootstrap.share_error(hits, of, draws))
    before, after = shares
    return _Raw(before, after, after - before, math.hypot(*errors), degrees)


def _change(name: str, raw: _Raw, risk: float, options: Options) -> Change:
    if not math.isfinite(raw.error):
        change = _on_scale(name, raw.estimate)
        return Change(raw.a, raw.b, change, None, None, is_certain=False)
    margin = bootstrap.student_t(risk, raw.degrees) * raw.error
    change, low, high = (_on_scale(name, raw.estimate + each) for each in (0, -margin, margin))
    smallest = _MIN_ERRORS_CHANGE if name == ERRORS else options.min_effect
    is_certain = abs(raw.estimate) > margin and abs(change or 0) >= smallest
    return Change(raw.a, raw.b, change, low, high, is_certain)


def _on_scale(name: str, estimate: float) -> float | None:
    """Return an estimate as a relative change; of errors, as it is."""
    return _known(estimate if name == ERRORS else math.expm1(min(estimate, _MAX_LOG)))


def _known(value: float) -> float | None:
    return value if math.isfinite(value) else None
