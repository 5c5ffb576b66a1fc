"""Computes how long was recorded: the time in which at least one process recorded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from aqltelemetry.observation import LABEL, MEASUREMENT, PID, TIMEPOINT
from aqltelemetry.reading.rows import WRITER
from aqltelemetry.system.clock import NS_PER_S

# Labels with one observation per sampling interval, unlike those of single events.
_SAMPLED = ("gc collections", "user time")
MIN_RECORDED_S = 1.0
"""The shortest time recorded, in seconds: rates over less time mean nothing."""


def recorded_s(durations: pd.DataFrame, runtime: pd.DataFrame, since_ns: int | None) -> float:
    """Return the seconds in which at least one process recorded.

    A process records from its start to its last sample or duration. Its start is one sampling
    interval before its first sample, or the start of its first duration, if that is earlier.
    Time before `since_ns` does not count. The result is at least `MIN_RECORDED_S`, and NaN if
    there are no observations. The frames are results of `TelemetryFrame.data_by_process`.
    """
    length_s = durations[MEASUREMENT].to_numpy()
    length_ns = np.where(np.isfinite(length_s), np.maximum(length_s, 0), 0) * NS_PER_S
    ends_ns = _ns(durations)
    samples = runtime[runtime[LABEL].isin(_SAMPLED)]
    spans = pd.concat(
        [
            _by_process(durations, ends_ns - length_ns, ends_ns),
            _by_process(runtime, _ns(runtime), _ns(runtime)),
            _by_process(samples, _before_first(samples), _ns(samples)),
        ]
    )
    if spans.empty:
        return float("nan")
    spans = spans.groupby([PID, WRITER]).agg({"begin": "min", "end": "max"}).sort_values("begin")
    begins, ends = spans["begin"].to_numpy(), spans["end"].cummax().to_numpy()
    if since_ns is not None:
        begins = np.maximum(begins, since_ns)
    gaps = np.maximum(begins[1:] - ends[:-1], 0).sum()
    return max(float(ends[-1] - begins[0] - gaps) / NS_PER_S, MIN_RECORDED_S)


def _before_first(samples: pd.DataFrame) -> Any:
    """Return each sample's time minus the sampling interval of its process and label, in ns."""
    times = pd.Series(_ns(samples), index=pd.RangeIndex(len(samples)))
    keys = [samples[name].to_numpy() for name in (PID, WRITER, LABEL)]
    in_order = times.sort_values(kind="stable")
    sorted_keys = [pd.Series(key).iloc[in_order.index] for key in keys]
    steps = in_order.groupby(sorted_keys, observed=True).diff()
    interval = steps.groupby(sorted_keys, observed=True).transform("median").fillna(0)
    return (in_order - interval).sort_index().to_numpy()


def _ns(frame: pd.DataFrame) -> Any:
    return frame[TIMEPOINT].to_numpy().astype("datetime64[ns]").astype(np.int64)


def _by_process(frame: pd.DataFrame, begins: Any, ends: Any) -> pd.DataFrame:
    pids, writers = frame[PID].to_numpy(), frame[WRITER].to_numpy()
    spans = pd.DataFrame({PID: pids, WRITER: writers, "begin": begins, "end": ends})
    spans = spans.groupby([PID, WRITER], observed=True).agg({"begin": "min", "end": "max"})
    return spans.reset_index().astype({WRITER: str, "begin": float, "end": float})
