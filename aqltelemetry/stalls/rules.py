"""The rules by which one sample of a blocked event loop is explained, as data.

Each rule is a sentence, the test of a moment, and the cause that it gives. The first rule whose
test holds decides. The numbers were found by planting stalls, see `benchmarks/stalls.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from aqltelemetry.stalls import causes, system_calls
from aqltelemetry.stalls.evidence import NO_CALL, Sample

MS = 1_000_000
LOCK_KEPT_NS = 15 * MS
"""A wait for the GIL above this means that native code keeps it: Python gives it up every 5 ms."""
LOCK_SHARED_NS = 2 * MS
"""A wait for the GIL below this means that it is free."""
LOCK_ASKED_NS = 25 * MS
"""The longest time without a processor that keeps the probe from asking for the GIL."""
SUSPENDED_NS = 50 * MS
LITTLE = 0.2
"""The part of a time below which a thread ran little of it."""
_FAULTS_PER_MS = 1.0


class Moment(NamedTuple):
    """A sample with the changes since the one before it.

    `ran_ns` and `delayed_ns` are how long the thread ran and waited for a processor, None where
    unknown. `lock_wait_ns` is how long the probe waited for the GIL around this moment, without
    the time in which the probe had no processor; `lock_kept_ns` is how long the loop's thread ran
    during that wait, without the time that the probe may have needed to ask for the GIL.
    `throttled_ns` is how long the control group was kept from its processors.
    """

    sample: Sample
    length_ns: int
    ran_ns: int | None
    delayed_ns: int | None
    major_faults: int
    lock_wait_ns: int
    lock_kept_ns: int
    throttled_ns: int
    is_lock_futex: bool
    waits_for: str
    """What the system call waits for, see `system_calls`; "" if it is not known."""


class Rule(NamedTuple):
    """A cause, when it is concluded in words, and the test."""

    cause: str
    sentence: str
    holds: Callable[[Moment], bool]


def _is_suspended(m: Moment) -> bool:
    stopped_ns = m.sample.overrun_ns - m.sample.own_delay_ns
    used_ns = (m.ran_ns or 0) + (m.delayed_ns or 0)
    return stopped_ns > SUSPENDED_NS and used_ns < m.length_ns - SUSPENDED_NS


def _ran_little(m: Moment) -> bool:
    return m.ran_ns is not None and m.ran_ns < LITTLE * m.length_ns


def _is_on(m: Moment) -> bool:
    return m.sample.state == "R"


def _is_asleep(m: Moment) -> bool:
    return m.sample.state == "S"


def _has_many_faults(m: Moment) -> bool:
    return m.major_faults * MS >= max(m.length_ns * _FAULTS_PER_MS, MS)


_IO_CALLS = (system_calls.READY, system_calls.DESCRIPTOR, system_calls.FILES)
_WAIT_CALLS = (system_calls.FUTEX, system_calls.SLEEP, system_calls.CHILD)

RULES = (
    Rule(
        causes.THROTTLED,
        "The control group was kept from its processors for more than half of the time since the "
        "sample before, and the thread ran for less than 20 % of it.",
        lambda m: m.throttled_ns > m.length_ns / 2 and _ran_little(m),
    ),
    Rule(causes.SUSPENDED, "The thread is stopped by a signal.", lambda m: m.sample.state in "Tt"),
    Rule(
        causes.SUSPENDED,
        "The watchdog slept for 50 ms longer than it asked for and than it waited for a "
        "processor, and the loop's thread neither ran nor waited for one for 50 ms.",
        _is_suspended,
    ),
    Rule(
        causes.GARBAGE,
        "The garbage collector has called back at its start, and not yet at its end.",
        lambda m: m.sample.collecting_tid != 0,
    ),
    Rule(
        causes.PAGE_FAULTS,
        "The thread waits for a disk outside of a system call.",
        lambda m: m.sample.state == "D" and m.sample.call == NO_CALL,
    ),
    Rule(
        causes.PAGE_FAULTS,
        "The thread had a page fault or more a millisecond that had to read from a disk.",
        lambda m: m.sample.state in "RD" and _has_many_faults(m),
    ),
    Rule(
        causes.IO,
        "The thread waits for a disk in a system call.",
        lambda m: m.sample.state == "D",
    ),
    Rule(
        causes.STARVED,
        "The thread is ready to run and ran for less than 20 % of the time since the sample "
        "before.",
        lambda m: _is_on(m) and _ran_little(m),
    ),
    Rule(
        causes.LOCK_HELD,
        "The thread runs, and has run for more than 15 ms while the probe waited for the GIL.",
        lambda m: _is_on(m) and min(m.lock_kept_ns, m.lock_wait_ns) > LOCK_KEPT_NS,
    ),
    Rule(
        causes.PYTHON,
        "The thread runs, and the probe gets the GIL after 2 ms or more, as it gives it up.",
        lambda m: _is_on(m) and m.lock_wait_ns >= LOCK_SHARED_NS,
    ),
    Rule(
        causes.NATIVE,
        "The thread runs, and the probe gets the GIL at once.",
        _is_on,
    ),
    Rule(
        causes.LOCK_ELSEWHERE,
        "The thread sleeps on a lock that lies in the interpreter's own state.",
        lambda m: _is_asleep(m) and m.is_lock_futex,
    ),
    Rule(
        causes.LOCK_ELSEWHERE,
        "The thread sleeps, the probe does not get the GIL, and another thread runs.",
        lambda m: _is_asleep(m) and m.lock_wait_ns > LOCK_KEPT_NS and m.sample.other_tid != 0,
    ),
    Rule(
        causes.BLOCKS_WITH_LOCK,
        "The thread sleeps, the probe does not get the GIL, and no other thread runs.",
        lambda m: _is_asleep(m) and m.lock_wait_ns > LOCK_KEPT_NS,
    ),
    Rule(
        causes.IO,
        "The thread sleeps in a system call on a descriptor or a file name.",
        lambda m: _is_asleep(m) and m.waits_for in _IO_CALLS,
    ),
    Rule(
        causes.WAIT,
        "The thread sleeps in a system call that waits for time, a lock or a child process.",
        lambda m: _is_asleep(m) and m.waits_for in _WAIT_CALLS,
    ),
    Rule(causes.UNKNOWN, "No other rule holds.", lambda _: True),
)
"""The rules, in the order in which they are tried."""

EPISODE_RULES: Mapping[str, str] = {
    causes.THROTTLED: "As for `no CPU`, and the control group was kept from its processors for "
    "half of that time or more.",
    causes.STARVED: "The thread ran for less than 50 ms, and for more than half of the stall it "
    "was ready to run and had no processor.",
    causes.MANY_STEPS: "The thread ran for most of the time in which it had a processor, four or "
    "more steps were seen, and the longest ran for less than 40 % of that time, or than 50 ms.",
    causes.UNKNOWN: "No cause has 40 % of the time.",
}
"""What decides for a whole stall before the cause with most of the time does."""


def explain(moment: Moment) -> str:
    """Return the cause that the first rule gives that holds."""
    return next(rule.cause for rule in RULES if rule.holds(moment))
