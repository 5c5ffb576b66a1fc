"""Makes an autopsy of what a dead process left: a dictionary that is written as JSON."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from aqltelemetry.autopsy.cause import Machine, cause
from aqltelemetry.autopsy.published import Published, Row
from aqltelemetry.autopsy.templates import Templates
from aqltelemetry.journal.evidence import EXITED, Evidence
from aqltelemetry.system.clock import NS_PER_S

VERSION = 1
_NS_PER_MINUTE = 60 * NS_PER_S
_FEW = 3
_WORDS_NS = 2 * NS_PER_S


class Times(NamedTuple):
    """Times of a process's life, in nanoseconds since the epoch.

    Attributes:
        begin_ns: The begin of its recording.
        last_sign_ns: The last time at which it is known to have lived.
        end_ns: When its parent or itself noted its end; else `last_sign_ns`.
        is_exact: Whether `end_ns` was noted.
    """

    begin_ns: int
    last_sign_ns: int
    end_ns: int
    is_exact: bool


def examine(
    evidence: Evidence, published: Published, labels: Callable[[], set[str]], machine: Machine
) -> dict[str, Any]:
    """Return the autopsy of a process.

    Args:
        evidence: What it left in the journal.
        published: What its files say, after its observations were recovered.
        labels: Returns the labels of recorded requests; asked if a path has no other route.
        machine: What is known of the machine now.
    """
    evidence = _without_outlived_words(evidence, published)
    times = _times(evidence, published)
    templates = Templates(evidence.routes, published.labels)
    requests = _in_flight(evidence, times)
    if any(templates.find(text.partition(" ")[2]) is None for text, *_ in requests):
        templates = Templates(evidence.routes, [*published.labels, *sorted(labels())])
    in_flight = evidence.in_flight
    return {
        "version": VERSION,
        "pid": published.pid or (0 if in_flight is None else in_flight.header.pid),
        "writer": evidence.writer,
        "begin_ns": times.begin_ns,
        "last_sign_ns": times.last_sign_ns,
        "end_ns": times.end_ns,
        "is_end_exact": times.is_exact,
        "found_ns": machine.now_ns,
        "uptime_s": _seconds(times.end_ns - times.begin_ns),
        "cause": cause(evidence, machine),
        "in_flight": [
            {
                "route": templates.label(text),
                "age_s": _seconds(age_ns),
                "begin_ns": times.end_ns - age_ns,
                "thread": thread,
            }
            for text, age_ns, thread in requests
        ],
        "in_flight_without_slot": 0 if in_flight is None else max(in_flight.without_slot, 0),
        "damaged_slots": 0 if in_flight is None else in_flight.damaged,
        "stacks": evidence.last_words.get("stacks", []),
        "stalls": [_stall(each, times) for each in published.stalls],
        "memory": _memory(published.memory),
        "last_collection": _collection(published.collection, times),
        "last_rows": [_row(each) for each in published.rows],
    }


def _without_outlived_words(evidence: Evidence, published: Published) -> Evidence:
    """Leave out last words after which the process went on, since its server caught the exit."""
    said_ns = int(evidence.last_words.get("at_ns", 0))
    is_exit = evidence.last_words.get("reason") == EXITED
    if is_exit and max(_signs(evidence, published)) - said_ns > _WORDS_NS:
        return evidence._replace(last_words={})
    return evidence


def _signs(evidence: Evidence, published: Published) -> Sequence[int]:
    """Return times at which the process lived, in nanoseconds since the epoch."""
    signs, in_flight = [published.last_ns, 0], evidence.in_flight
    if in_flight is not None:
        offset_ns = in_flight.alive_offset_ns
        signs.append(in_flight.alive_ns + offset_ns)
        signs += [each.begin_ns + offset_ns for each in in_flight.requests]
    return signs


def _times(evidence: Evidence, published: Published) -> Times:
    begin_ns, in_flight = published.begin_ns, evidence.in_flight
    if in_flight is not None:
        begin_ns = in_flight.header.at_ns + in_flight.header.offset_ns
    said_ns = int(evidence.last_words.get("at_ns", 0))
    noted_ns = int(evidence.exit.get("at_ns", 0)) or said_ns
    last_ns = max(*_signs(evidence, published), said_ns)
    begin_ns = begin_ns or last_ns
    end_ns = max(noted_ns or last_ns, begin_ns)
    return Times(begin_ns, last_ns, end_ns, bool(noted_ns))


def _in_flight(evidence: Evidence, times: Times) -> Sequence[tuple[str, int, int]]:
    """Return text, age in ns, and thread of each request in flight, the oldest first."""
    said: Sequence[Mapping[str, Any]] = evidence.last_words.get("in_flight", [])
    if said:
        later_ns = max(times.end_ns - int(evidence.last_words["at_ns"]), 0)
        return [(each["text"], each["age_ns"] + later_ns, each["thread"]) for each in said]
    found = evidence.in_flight
    if found is None:
        return []
    return [
        (
            each.text,
            max(times.end_ns - each.begin_ns - found.alive_offset_ns, 0),
            each.thread,
        )
        for each in found.requests
    ]


def _memory(samples: Sequence[Row]) -> dict[str, Any] | None:
    """Return the last sample, and the slope of the line through all by least squares."""
    if not samples:
        return None
    last = samples[-1]
    slope = None
    if len(samples) >= _FEW and last.at_ns > samples[0].at_ns:
        times = [(each.at_ns - samples[0].at_ns) / _NS_PER_MINUTE for each in samples]
        mean_t = sum(times) / len(times)
        mean_v = sum(each.value for each in samples) / len(samples)
        above = sum(
            (t - mean_t) * (each.value - mean_v) for t, each in zip(times, samples, strict=True)
        )
        slope = above / sum((t - mean_t) ** 2 for t in times)
    return {
        "rss_bytes": last.value,
        "at_ns": last.at_ns,
        "first_rss_bytes": samples[0].value,
        "since_ns": samples[0].at_ns,
        "bytes_per_minute": slope,
    }


def _collection(row: Row | None, times: Times) -> dict[str, Any] | None:
    if row is None:
        return None
    return {
        "at_ns": row.at_ns,
        "generation": int(row.label[-1]),
        "pause_s": row.value,
        "before_end_s": _seconds(times.end_ns - row.at_ns),
    }


def _stall(detail: Mapping[str, Any], times: Times) -> dict[str, Any]:
    user = detail.get("user") or {}
    return {
        "begin_ns": detail["begin_ns"],
        "length_s": detail["length_s"],
        "cause": detail["cause"],
        "file": user.get("file", ""),
        "line": user.get("line", 0),
        "function": user.get("function", ""),
        "before_end_s": _seconds(times.end_ns - int(detail["end_ns"])),
    }


def _row(row: Row) -> dict[str, Any]:
    return {"at_ns": row.at_ns, "label": row.label, "duration_s": row.value}


def _seconds(length_ns: int) -> float:
    return max(length_ns, 0) / NS_PER_S
