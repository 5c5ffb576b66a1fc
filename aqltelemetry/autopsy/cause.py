"""Decides what a process died of, and by which evidence. "Unknown" is an answer."""

from __future__ import annotations

import signal
from typing import Any, NamedTuple

from aqltelemetry.journal.evidence import ABORTED, Evidence

KILLED, CRASHED, OUT_OF_MEMORY = "killed", "crashed", "out of memory"
TIMEOUT, EXITED, RESTART, UNKNOWN = "timeout", "exited", "machine restarted", "unknown"
_FAULTS = frozenset(
    {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGABRT, signal.SIGTRAP}
)


class Machine(NamedTuple):
    """What is known of the machine when a process is examined.

    Attributes:
        now_ns: The time, in nanoseconds since the epoch.
        boot: As in `InFlightHeader.boot`.
        oom_kills: Kills for lack of memory, by the counter that the process noted; -1 if unknown.
    """

    now_ns: int
    boot: str
    oom_kills: int


def cause(evidence: Evidence, machine: Machine) -> dict[str, Any]:
    """Return what a process died of: a word, its signal or exit status, and how that is known."""
    end, words, in_flight = evidence.exit, evidence.last_words, evidence.in_flight
    number, code = end.get("signal"), end.get("code")
    before = -1 if in_flight is None else in_flight.oom_kills
    oom_kills = max(machine.oom_kills - before, 0) if min(before, machine.oom_kills) >= 0 else 0
    found: dict[str, Any] = {
        "kind": UNKNOWN,
        "signal": None if number is None else signal_name(number),
        "exit_status": code,
        "timeout_s": end.get("timeout_s"),
        "witness": end.get("witness", ""),
        "oom_kills": oom_kills,
        "said": words.get("reason", ""),
        "detail": words.get("detail", ""),
    }
    if end.get("timeout_s") is not None or words.get("reason") == ABORTED:
        found["kind"] = TIMEOUT
    elif number == signal.SIGKILL and oom_kills:
        found["kind"] = OUT_OF_MEMORY
    elif number is not None:
        found["kind"] = CRASHED if number in _FAULTS else KILLED
    elif code is not None or words:
        found["kind"] = EXITED
    elif in_flight is not None and _has_restarted(in_flight.header.boot, machine.boot):
        found["kind"] = RESTART
    return found


def _has_restarted(before: str, now: str) -> bool:
    return bool(before and now) and before != now


def signal_name(number: int) -> str:
    """Return the name of a signal, such as SIGKILL."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
