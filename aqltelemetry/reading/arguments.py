"""Checks the arguments of `TelemetryDB`."""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Sequence
from datetime import date, timedelta
from typing import TypeAlias

import numpy as np

from aqltelemetry.errors import MonitoringDirectoryError, OptionError
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.later import pd

_END_NS = 2**63 - 1  # what pandas can hold; in the year 2262
Directory: TypeAlias = str | os.PathLike[str]
Moment: TypeAlias = int | float | str | date | timedelta | np.datetime64 | np.timedelta64
"""A time as `reading.moments.moment_ns` accepts it; local unless it has a time zone.

Times of pandas and numpy without a time zone are UTC, as the indexes of the data are.
"""


def to_nanoseconds(moment: Moment, option: str) -> int:
    """Return nanoseconds since the epoch; raises MomentError, which mentions `option`."""
    if isinstance(moment, np.timedelta64):
        moment = pd.Timedelta(moment)
    if isinstance(moment, pd.Timestamp | np.datetime64) and not pd.isna(moment):
        stamp = pd.Timestamp(moment)
        stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp
        found = int(stamp.as_unit("ns").value)
    else:
        found = moment_ns(moment, option)
    return max(-_END_NS, min(found, _END_NS))


def checked_labels(labels: str | Iterable[str]) -> frozenset[str]:
    """Return labels; raises OptionError if they are something other than texts."""
    try:
        found = frozenset((labels,) if isinstance(labels, str) else labels)
    except TypeError:
        found = frozenset()
        is_valid = False
    else:
        is_valid = all(isinstance(label, str) for label in found)
    if not is_valid:
        raise OptionError("labels", labels, "must be a label, or several")
    return found


def checked_pids(pids: int | Iterable[int]) -> frozenset[int]:
    """Return PIDs; raises OptionError if they are something other than integers."""
    try:
        return frozenset(map(operator.index, (pids,) if isinstance(pids, int) else pids))
    except TypeError:
        raise OptionError("pids", pids, "must be the PID of a process, or several") from None


def checked_directories(given: Directory | Iterable[Directory]) -> Sequence[str]:
    """Return directories as texts; raises MonitoringDirectoryError if one does not exist."""
    several = (given,) if isinstance(given, str | os.PathLike) else tuple(given)
    paths = list(dict.fromkeys(os.fspath(each) for each in several))
    if not paths:
        raise OptionError("monitoring_dir", given, "must be a directory, or several")
    for path in paths:
        if not os.path.isdir(path):
            raise no_directory(path)
    return paths


def no_directory(path: str) -> MonitoringDirectoryError:
    """Return the error for a path that is not that of a directory."""
    if os.path.exists(path):
        return MonitoringDirectoryError(path, "must be a directory, not a file")
    return MonitoringDirectoryError(path, "must exist; nothing was recorded there")
