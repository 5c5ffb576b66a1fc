"""Computes for how long event loops were blocked in bins of time, by cause."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd

_Floats: TypeAlias = npt.NDArray[np.float64]


def blocked_s(
    stalls: pd.DataFrame, begin_ns: int, width_ns: int, bins: int
) -> Mapping[str, _Floats]:
    """Return for each cause the seconds in each bin in which event loops were blocked.

    They are added up over all processes. Causes with the most time come first.

    Args:
        stalls: The result of `TelemetryDB.stalls`.
        begin_ns: Where the first bin begins, in nanoseconds since the epoch.
        width_ns: The length of a bin.
        bins: How many there are.
    """
    # In floats, relative to the first bin: nanoseconds of many stalls added up exceed integers.
    begins_s = (_ns(stalls, "begin") - begin_ns) / NS_PER_S
    ends_s = (_ns(stalls, "end") - begin_ns) / NS_PER_S
    edges_s = np.arange(bins + 1, dtype=np.float64) * (width_ns / NS_PER_S)
    found = {}
    for cause in stalls["cause"].unique().tolist():
        own = (stalls["cause"] == cause).to_numpy()
        before = _elapsed_s(begins_s[own], edges_s) - _elapsed_s(ends_s[own], edges_s)
        seconds = np.maximum(np.diff(before), 0.0)
        seconds[seconds < 1 / NS_PER_S] = 0.0
        if seconds.any():
            found[str(cause)] = seconds
    return dict(sorted(found.items(), key=lambda each: -float(each[1].sum())))


def _ns(stalls: pd.DataFrame, name: str) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = stalls[name].to_numpy("datetime64[ns]").view(np.int64)
    return found


def _elapsed_s(times_s: npt.NDArray[Any], edges_s: npt.NDArray[Any]) -> _Floats:
    """Return for each edge the time since each of the times before it, added up."""
    in_order = np.sort(times_s)
    sums = np.concatenate([[0.0], np.cumsum(in_order)])
    number = np.searchsorted(in_order, edges_s, "right")
    elapsed: _Floats = number * edges_s - sums[number]
    return elapsed
