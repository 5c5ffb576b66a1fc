"""Joins the stalls of event loops with their details."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import numpy as np

from aqltelemetry.reading.rows import Rows
from aqltelemetry.reading.summaries.recorded_time import lengths_ns
from aqltelemetry.system.clock import NS_PER_S
from aqltelemetry.system.later import pd

_Details: TypeAlias = Mapping[str, Any]
_Key: TypeAlias = tuple[int, str, str, int]
_NUMBERS = ("cpu_s", "run_delay_s")
_TEXTS = ("waits_for", "thread", "task", "coroutine")


def stalls(rows: Rows, details: Iterable[_Details]) -> pd.DataFrame:
    """Return a row for each stall, in order of time; see `Tables.stalls`."""
    known: dict[_Key, list[_Details]] = defaultdict(list)
    for detail in details:
        key = _key(detail["pid"], detail["writer"], detail["cause"], detail["length_s"])
        known[key].append(detail)
    found = []
    for at in np.argsort(rows.timepoints_ns, kind="stable").tolist():
        process = rows.processes[rows.process_codes[at]]
        cause, length_s = rows.labels[rows.label_codes[at]], float(rows.measurements[at])
        same = known[_key(process.pid, process.writer, cause, length_s)]
        found.append((at, process, cause, length_s, same.pop(0) if same else {}))
    chosen = np.array([at for at, *_ in found], np.intp)
    ends_ns = rows.timepoints_ns[chosen]
    begins_ns = ends_ns - lengths_ns(rows.measurements[chosen])
    given = [each[-1] for each in found]
    exact_begins = [each.get("begin_ns", ns) for each, ns in zip(given, begins_ns, strict=True)]
    exact_ends = [each.get("end_ns", ns) for each, ns in zip(given, ends_ns, strict=True)]
    return pd.DataFrame(
        {
            "begin": pd.DatetimeIndex(np.array(exact_begins, np.int64)),
            "end": pd.DatetimeIndex(np.array(exact_ends, np.int64)),
            "length_s": rows.measurements[chosen],
            "cause": _texts([cause for _, _, cause, _, _ in found]),
            "pid": np.array([process.pid for _, process, *_ in found], np.int64),
            "writer": _texts([process.writer for _, process, *_ in found]),
            **_places(given),
            **{name: _texts([each.get(name) or "" for each in given]) for name in _TEXTS},
            **{name: np.array([_number(each, name) for each in given]) for name in _NUMBERS},
            "shares": pd.Series([each.get("shares", {}) for each in given], dtype=object),
            "callbacks": pd.Series([each.get("callbacks", {}) for each in given], dtype=object),
        }
    )


def _key(pid: int, writer: str, cause: str, length_s: float) -> _Key:
    return pid, writer, cause, round(length_s * NS_PER_S)


def _places(given: list[_Details]) -> dict[str, Any]:
    users = [each.get("user") or {} for each in given]
    return {
        "file": _texts([user.get("file", "") for user in users]),
        "line": np.array([user.get("line", 0) for user in users], np.int64),
        "function": _texts([user.get("function", "") for user in users]),
        "is_exact": np.array([bool(each.get("is_exact")) for each in given], bool),
    }


def _number(detail: _Details, name: str) -> float:
    value = detail.get(name)
    return float("nan") if value is None else float(value)


def _texts(values: list[str]) -> Any:
    return pd.array(values, dtype="str")
