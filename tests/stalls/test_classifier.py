"""The cause of a stall follows from what was seen of it."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from aqltelemetry.stalls import causes
from aqltelemetry.stalls.classifier import classify
from aqltelemetry.stalls.evidence import (
    NO_CALL,
    RUNNING,
    UNKNOWN_CALL,
    Evidence,
    LockWait,
    Look,
    Sample,
    Suspicion,
)
from aqltelemetry.stalls.rules import EPISODE_RULES, MS, RULES

_RECORDED: Mapping[str, Mapping[str, Any]] = json.loads(
    (Path(__file__).parent / "recorded_stalls.json").read_text()
)
_ADDRESSES = (1000, 2000)
_FUTEX, _SLEEP, _RECEIVE = (202, 230, 45) if platform.machine() == "x86_64" else (98, 115, 207)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="system calls of x86-64 were recorded")
@pytest.mark.parametrize("kind", _RECORDED)
def test_a_stall_that_was_planted_and_recorded_has_its_cause(kind: str) -> None:
    found = _RECORDED[kind]
    quiet_ns, begin_ns, end_ns = found["begin"]
    samples = [Sample(*each) for each in found["samples"]]
    suspicion = Suspicion(quiet_ns, begin_ns, end_ns, Sample(*found["before"]), samples)
    waits = [LockWait(*each) for each in found["waits"]]
    looks = [Look(at_ns, step) for at_ns, step in found["steps"]]
    first, last = found["addresses"]
    verdict = classify(Evidence(suspicion, waits, looks, (first, last)))
    assert verdict.cause in found["right"] or (
        verdict.cause == causes.STARVED and (verdict.delayed_ns or 0) > suspicion.length_ns / 2
    )
    assert sum(verdict.shares.values()) == pytest.approx(1)


def test_most_causes_were_recorded() -> None:
    right = {cause for found in _RECORDED.values() for cause in found["right"]}
    assert right == {*causes.CAUSES} - {causes.UNKNOWN, causes.THROTTLED}


def _sample(at: int, **changes: Any) -> Sample:
    """Return a sample at a number of 5 ms, of a thread that runs all the time."""
    running = Sample(
        *(at * 5 * MS, at * 5 * MS, 0, 0, 0, 0, 0, RUNNING, 0, 0, 0, 0, "R", 0),
    )
    return running._replace(**changes)


def _evidence(
    samples: Sequence[Sample], waits: Sequence[LockWait] = (), steps: Sequence[int] = ()
) -> Evidence:
    suspicion = Suspicion(0, 0, samples[-1].at_ns, _sample(0), samples)
    lengths = len(samples) * 5 * MS // max(len(steps), 1)
    looks = [Look(at * lengths, step) for at, step in enumerate(steps)]
    return Evidence(suspicion, waits, looks, _ADDRESSES)


def _asleep(at: int, **changes: Any) -> Sample:
    return _sample(at, **{"cpu_ns": 0, "state": "S", **changes})


def _kept(samples: int) -> list[LockWait]:
    return [LockWait(0, samples * 5 * MS, 0)]


@pytest.mark.parametrize(
    ("cause", "samples", "waits"),
    [
        (causes.NATIVE, [_sample(n) for n in range(1, 21)], []),
        (causes.LOCK_HELD, [_sample(n) for n in range(1, 21)], _kept(20)),
        (
            causes.PYTHON,
            [_sample(n) for n in range(1, 21)],
            [LockWait(n * 6 * MS, n * 6 * MS + 5 * MS, 0) for n in range(20)],
        ),
        (causes.WAIT, [_asleep(n, call=_SLEEP) for n in range(1, 21)], []),
        (causes.IO, [_asleep(n, call=_RECEIVE) for n in range(1, 21)], []),
        (causes.WAIT, [_asleep(n, call=_FUTEX, argument=5) for n in range(1, 21)], []),
        (
            causes.LOCK_ELSEWHERE,
            [_asleep(n, call=_FUTEX, argument=_ADDRESSES[0]) for n in range(1, 21)],
            _kept(20),
        ),
        (
            causes.LOCK_ELSEWHERE,
            [_asleep(n, call=_FUTEX, argument=5, other_tid=7) for n in range(1, 21)],
            _kept(20),
        ),
        (causes.BLOCKS_WITH_LOCK, [_asleep(n, call=_SLEEP) for n in range(1, 21)], _kept(20)),
        (causes.GARBAGE, [_sample(n, collecting_tid=7) for n in range(1, 21)], _kept(20)),
        (causes.STARVED, [_sample(n, cpu_ns=0) for n in range(1, 21)], []),
        (
            causes.THROTTLED,
            [_sample(n, cpu_ns=0, throttled_ns=n * 5 * MS) for n in range(1, 21)],
            [],
        ),
        (causes.PAGE_FAULTS, [_sample(n, major_faults=n * 9) for n in range(1, 21)], []),
        (causes.PAGE_FAULTS, [_sample(n, state="D", call=NO_CALL) for n in range(1, 21)], []),
        (causes.IO, [_sample(n, state="D", call=_RECEIVE) for n in range(1, 21)], []),
        (causes.SUSPENDED, [_asleep(20, overrun_ns=90 * MS)], []),
        (causes.UNKNOWN, [_asleep(n, state="?", call=UNKNOWN_CALL) for n in range(1, 21)], []),
    ],
)
def test_each_rule_gives_its_cause(
    cause: str, samples: list[Sample], waits: list[LockWait]
) -> None:
    verdict = classify(_evidence(samples, waits))
    assert verdict.cause == cause
    assert verdict.shares[cause] >= 0.95


def test_starvation_that_the_limit_accounts_for_at_its_end_is_throttling() -> None:
    starved = _evidence([_sample(n, cpu_ns=0) for n in range(1, 21)])
    before = starved.suspicion.before._replace(throttled_ns=0)
    for throttled_ns, cause in ((90 * MS, causes.THROTTLED), (10 * MS, causes.STARVED)):
        ended = starved.suspicion._replace(before=before, throttled_ns=throttled_ns)
        assert classify(starved._replace(suspicion=ended)).cause == cause


@pytest.mark.parametrize(
    ("delay_ns", "state", "cause"),
    [(0, "D", causes.IO), (0, "R", causes.UNKNOWN), (25 * MS, "D", causes.STARVED)],
)
def test_a_thread_that_has_just_woken_up_did_what_it_was_seen_in_before(
    delay_ns: int, state: str, cause: str
) -> None:
    before = _sample(0, state=state, call=_RECEIVE)
    woken = [_sample(5, cpu_ns=0), _sample(6, cpu_ns=1, delay_ns=delay_ns)]
    found = _evidence(woken)
    verdict = classify(found._replace(suspicion=found.suspicion._replace(before=before)))
    assert max(verdict.shares, key=lambda each: verdict.shares[each]) == cause


def test_steps_of_which_none_is_long_are_many_small_ones() -> None:
    samples = [_sample(n) for n in range(1, 41)]
    assert classify(_evidence(samples, (), range(1, 41))).cause == causes.MANY_STEPS
    half = [
        _sample(n, cpu_ns=max(n - 22, 0) * 5 * MS, delay_ns=110 * MS * (n > 22))
        for n in range(1, 41)
    ]
    assert classify(_evidence(half, (), range(1, 41))).cause == causes.MANY_STEPS
    long = [1] * 30 + [2, 3, 4, 5]
    assert classify(_evidence(samples, (), long)).cause == causes.NATIVE


def test_a_mixture_in_which_no_cause_prevails_is_unknown() -> None:
    quarters = [
        *(_sample(n) for n in range(1, 11)),
        *(_sample(n, collecting_tid=7) for n in range(11, 21)),
        *(_asleep(n, call=_SLEEP) for n in range(21, 31)),
        *(_asleep(n, call=_RECEIVE) for n in range(31, 41)),
    ]
    verdict = classify(_evidence(quarters))
    assert verdict.cause == causes.UNKNOWN
    assert len(verdict.shares) == 4


def test_starvation_while_the_thread_waits_for_the_GIL_is_that_wait() -> None:
    samples = [
        _sample(n, cpu_ns=0) if n % 3 else _asleep(n, call=_FUTEX, argument=_ADDRESSES[0])
        for n in range(1, 31)
    ]
    shares = classify(_evidence(samples, _kept(30))).shares
    assert shares[causes.LOCK_ELSEWHERE] > 0.9


def test_each_cause_has_a_rule_and_is_explained() -> None:
    assert {*(rule.cause for rule in RULES), *EPISODE_RULES} == {*causes.CAUSES}
    assert all(rule.sentence.endswith(".") for rule in RULES)
    text = (Path(__file__).parents[2] / "docs" / "guides" / "stalls.md").read_text()
    for cause, meaning in causes.CAUSES.items():
        assert f"| `{cause}` | {meaning} |" in text
