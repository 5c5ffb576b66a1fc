"""Writes an autopsy as a text for people."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from aqltelemetry.autopsy import cause as causes
from aqltelemetry.quantities import counted
from aqltelemetry.system.clock import NS_PER_S, utc

_MOST_REQUESTS = 20
_MOST_FRAMES = 12
_WIDTH = 17
_MIB = 1 << 20
_INSTALLED = re.compile(r"^.*/(?:site|dist)-packages/")
_NO_WITNESS = (
    "killed or crashed: no parent process said how, so neither signal nor exit status is known"
)


def text(autopsy: Mapping[str, Any]) -> str:
    """Return an autopsy as text, which ends with a newline."""
    lines = [f"Autopsy of process {autopsy['pid']}, recording {autopsy['writer']}", ""]
    for name, rows in (
        ("How it ended", _ending(autopsy)),
        ("When", [_when(autopsy)]),
        ("Recorded for", [_duration(autopsy["uptime_s"])]),
        ("In flight", _in_flight(autopsy)),
        ("Threads", _stacks(autopsy["stacks"])),
        ("Last stalls", _stalls(autopsy["stalls"])),
        ("Memory", [_memory(autopsy["memory"])]),
        ("Last collection", [_collection(autopsy["last_collection"])]),
        ("Last durations", _rows(autopsy["last_rows"])),
    ):
        lines += [f"{name if not at else '':{_WIDTH}}{row}" for at, row in enumerate(rows)]
    return "\n".join(line.rstrip() for line in lines) + "\n"


def summary(autopsy: Mapping[str, Any]) -> str:
    """Return an autopsy in one line: when, which process, how, and in which request."""
    requests = autopsy["in_flight"]
    first = requests[0]["route"] if requests else "no request"
    others = f" and {len(requests) - 1} more" if len(requests) > 1 else ""
    when = utc(autopsy["end_ns"])
    return f"{when}  {autopsy['pid']:>7}  {headline(autopsy)}; in flight: {first}{others}"


def headline(autopsy: Mapping[str, Any]) -> str:
    """Return how a process ended, in one line."""
    return next(iter(_ending(autopsy)))


def _ending(autopsy: Mapping[str, Any]) -> Iterator[str]:
    found = autopsy["cause"]
    by = f", as {found['witness']} saw" if found["witness"] else ""
    ended = _by_what(found)
    kind, kills = found["kind"], found["oom_kills"]
    if kind == causes.TIMEOUT:
        limit = "" if found["timeout_s"] is None else f" of {found['timeout_s']:g} s"
        yield f"aborted by its server, since it did not answer within the timeout{limit}{ended}"
    elif kind == causes.OUT_OF_MEMORY:
        yield f"killed by the kernel for lack of memory, most likely{ended}{by}"
    elif kind == causes.CRASHED:
        yield f"crashed in native code{ended}{by}"
    elif kind == causes.KILLED:
        yield f"killed{ended}{by}"
    elif kind == causes.EXITED:
        yield f"exited by itself{ended}{by}"
    elif kind == causes.RESTART:
        yield "the machine was restarted, or lost power, while it ran"
    else:
        yield _NO_WITNESS
    if found["said"] == "SystemExit":
        yield f"a request raised SystemExit({found['detail']})"
    if kills:
        yield f"the kernel killed {counted(kills, 'process', 'processes')} for lack of memory then"


def _by_what(found: Mapping[str, Any]) -> str:
    if found["signal"]:
        return f" ({found['signal']})"
    return "" if found["exit_status"] is None else f" (exit status {found['exit_status']})"


def _when(autopsy: Mapping[str, Any]) -> str:
    if autopsy["is_end_exact"]:
        return _moment(autopsy["end_ns"])
    return (
        f"between {_moment(autopsy['last_sign_ns'])}, its last sign of life, "
        f"and {_moment(autopsy['found_ns'])}, when it was found"
    )


def _in_flight(autopsy: Mapping[str, Any]) -> Iterator[str]:
    requests = autopsy["in_flight"]
    least = "" if autopsy["is_end_exact"] else "at least "
    for request in requests[:_MOST_REQUESTS]:
        age = f"{least}{_duration(request['age_s'])}"
        yield f"{request['route']}  for {age}, thread {request['thread']}"
    left = len(requests) - _MOST_REQUESTS + autopsy["in_flight_without_slot"]
    if len(requests) <= _MOST_REQUESTS:
        left = autopsy["in_flight_without_slot"]
    if left > 0:
        yield f"and {counted(left, 'more request')}"
    if autopsy["damaged_slots"]:
        yield f"{counted(autopsy['damaged_slots'], 'request')} can't be read"
    if not requests and left <= 0:
        yield "no request"


def _stacks(stacks: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for stack in stacks:
        yield f"{stack['name']} ({stack['thread']}), the innermost frame first:"
        for frame in stack["frames"][:_MOST_FRAMES]:
            yield f"  {_INSTALLED.sub('', frame)}"


def _stalls(stalls: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for stall in stalls:
        place = f" at {stall['file']}:{stall['line']}" if stall["file"] else ""
        yield (
            f"{_duration(stall['length_s'])}, {stall['cause']}{place}, "
            f"{_duration(stall['before_end_s'])} before the end"
        )


def _memory(memory: Mapping[str, Any] | None) -> str:
    if memory is None:
        return "not sampled"
    line = f"{memory['rss_bytes'] / _MIB:.0f} MiB resident at its last sample"
    slope = memory["bytes_per_minute"]
    if slope is not None:
        since_s = (memory["at_ns"] - memory["since_ns"]) / NS_PER_S
        line += f", {slope / _MIB:+.1f} MiB a minute over its last {_duration(since_s)}"
    return line


def _collection(found: Mapping[str, Any] | None) -> str:
    if found is None:
        return "none sampled"
    return (
        f"generation {found['generation']}, {_duration(found['pause_s'])}, "
        f"{_duration(found['before_end_s'])} before the end"
    )


def _rows(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        yield f"{_moment(row['at_ns'])}  {_duration(row['duration_s']):>9}  {row['label']}"


def _moment(at_ns: int) -> str:
    return f"{utc(at_ns)[:-1]}.{at_ns % NS_PER_S // 1_000_000:03d}Z"


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.3g} ms"
    if seconds < 120:  # noqa: PLR2004 - two minutes
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s"
