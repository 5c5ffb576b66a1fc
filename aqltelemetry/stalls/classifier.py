"""Concludes the cause of a stall from its evidence: a pure function."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from aqltelemetry.stalls import causes
from aqltelemetry.stalls.evidence import UNKNOWN_CALL, Evidence, Look, Sample
from aqltelemetry.stalls.rules import LITTLE, LOCK_ASKED_NS, MS, Moment, explain
from aqltelemetry.stalls.system_calls import DESCRIPTOR, call_names, descriptor_name

_SHORT_RUN_NS = 50 * MS
_LEAST_SHARE = 0.4
_MOST = 0.5
_FEW_STEPS = 4
_LONG_STEP_SHARE = 0.4
_OFF_CPU = (causes.STARVED, causes.THROTTLED)
_ON_CPU = (causes.PYTHON, causes.NATIVE, causes.LOCK_HELD)


class Verdict(NamedTuple):
    """The cause of a stall, and how its time divides among all causes.

    Attributes:
        cause: One of `causes.CAUSES`.
        shares: The part of the stall's time of each cause that was seen, the largest first.
        ran_ns: How long the thread ran during the stall; None if unknown.
        delayed_ns: How long it waited for a processor; None if unknown.
        major_faults: How many page faults had to read from a disk.
        steps: How many callbacks or steps of tasks were seen.
        waits_for: What it waited for most: `sleep`, `futex`, `child process`, `socket`, `file`...
        generation: The generation of the garbage that was collected; None if none was.
        thread: The number of another thread that held the GIL or collected; 0 if none is known.
    """

    cause: str
    shares: Mapping[str, float]
    ran_ns: int | None
    delayed_ns: int | None
    major_faults: int
    steps: int
    waits_for: str
    generation: int | None
    thread: int


def classify(evidence: Evidence) -> Verdict:
    """Return the cause of a stall, and the shares of all causes that were seen."""
    moments = tuple(_moments(evidence))
    times: Counter[str] = Counter()
    for moment, cause in zip(moments, _smoothed([*map(explain, moments)]), strict=True):
        times[cause] += moment.length_ns
    throttled_ns = _grown(evidence.suspicion.before.throttled_ns, evidence.suspicion.throttled_ns)
    if throttled_ns and throttled_ns >= _MOST * times[causes.STARVED]:
        times[causes.THROTTLED] += times.pop(causes.STARVED, 0)
    total_ns = max(times.total(), 1)
    shares = {cause: ns / total_ns for cause, ns in times.most_common()}
    ran_ns = _total(moment.ran_ns for moment in moments)
    steps = _lengths_of_steps(evidence)
    collected = [m.sample.generation for m in moments if m.sample.collecting_tid]
    return Verdict(
        cause=_verdict(shares, ran_ns, steps, evidence.suspicion.length_ns),
        shares=shares,
        ran_ns=ran_ns,
        delayed_ns=_total(moment.delayed_ns for moment in moments),
        major_faults=sum(moment.major_faults for moment in moments),
        steps=len(steps),
        waits_for=_most(_wait_names(moments)),
        generation=max(collected, default=None),
        thread=_other_thread(moments),
    )


def _smoothed(found: Sequence[str]) -> Sequence[str]:
    """Return the causes of moments, less the starvation of a thread that waits for the GIL.

    Such a thread wakes up every 5 ms, and needs a processor to find that it waits on.
    """
    known = [at for at, cause in enumerate(found) if cause != causes.STARVED]
    smoothed = list(found)
    for first, last in pairwise(known):
        if found[first] == found[last] == causes.LOCK_ELSEWHERE:
            smoothed[first:last] = [causes.LOCK_ELSEWHERE] * (last - first)
    return smoothed


def _verdict(
    shares: Mapping[str, float], ran_ns: int | None, steps: Sequence[int], length_ns: int
) -> str:
    starved = sum(shares.get(cause, 0) for cause in _OFF_CPU)
    if starved > _MOST and ran_ns is not None and ran_ns < _SHORT_RUN_NS:
        return max(_OFF_CPU, key=lambda cause: shares.get(cause, 0))
    # Of a stall that is not one of starvation, the time without a processor explains nothing.
    others = {cause: share for cause, share in shares.items() if cause not in _OFF_CPU}
    known = sum(others.values())
    on_cpu = sum(shares.get(cause, 0) for cause in _ON_CPU)
    longest_ns = max(_SHORT_RUN_NS, (length_ns if ran_ns is None else ran_ns) * _LONG_STEP_SHARE)
    if len(steps) >= _FEW_STEPS and max(steps) < longest_ns and on_cpu > _MOST * known:
        return causes.MANY_STEPS
    cause, share = max(others.items(), key=lambda item: item[1], default=(causes.UNKNOWN, 0))
    return cause if share >= _LEAST_SHARE * known else causes.UNKNOWN


def _moments(evidence: Evidence) -> Iterator[Moment]:
    before = evidence.suspicion.before
    waits = _Timeline(evidence)
    names = _names()
    samples = evidence.suspicion.samples
    for at, sample in enumerate(samples):
        waited_ns, kept_ns = waits.around(sample.at_ns)
        faults = _grown(before.major_faults, sample.major_faults)
        seen = _corrected(before, samples, at)
        yield Moment(
            sample=seen,
            length_ns=max(sample.at_ns - before.at_ns, 1),
            ran_ns=_grown(before.cpu_ns, sample.cpu_ns),
            delayed_ns=_grown(before.delay_ns, sample.delay_ns),
            major_faults=(faults or 0) if before is not evidence.suspicion.before else 0,
            lock_wait_ns=waited_ns,
            lock_kept_ns=kept_ns,
            is_lock_futex=_is_inside(seen, evidence.lock_addresses),
            waits_for=names.get(seen.call, ""),
            throttled_ns=_grown(before.throttled_ns, sample.throttled_ns) or 0,
        )
        before = sample


def _corrected(before: Sample, samples: Sequence[Sample], at: int) -> Sample:
    """Return a sample with the state that the thread had for most of the time since `before`.

    A thread that is ready to run and has not run either waits for a processor or has just woken
    up. The kernel accounts the wait when the thread gets a processor: later samples have it.
    """
    sample = samples[at]
    length_ns = sample.at_ns - before.at_ns
    ran_ns = _grown(before.cpu_ns, sample.cpu_ns)
    later = next((each for each in samples[at:] if each.cpu_ns > sample.cpu_ns), None)
    if sample.state != "R" or ran_ns is None or ran_ns >= LITTLE * length_ns or later is None:
        return sample
    waited_ns = _grown(before.delay_ns, later.delay_ns)
    throttled_ns = _grown(before.throttled_ns, later.throttled_ns) or 0
    if waited_ns is None or waited_ns + throttled_ns >= _MOST * length_ns:
        return sample
    if before.state not in "SD":
        return sample._replace(state="?", call=UNKNOWN_CALL)
    return sample._replace(
        state=before.state,
        call=before.call,
        argument=before.argument,
        descriptor_kind=before.descriptor_kind,
    )


@cache
def _names() -> Mapping[int, str]:
    return call_names()


class _Timeline:
    """The probe's waits for the lock, by time."""

    def __init__(self, evidence: Evidence) -> None:
        self._waits = evidence.waits
        self._got_ns = [wait.got_ns for wait in self._waits]
        samples = (evidence.suspicion.before, *evidence.suspicion.samples)
        self._samples = [each for each in samples if each.cpu_ns >= 0]
        self._sampled_ns = [sample.at_ns for sample in self._samples]

    def around(self, at_ns: int) -> tuple[int, int]:
        """Return `lock_wait_ns` and `lock_kept_ns` of a moment.

        They are of the wait that covers it, or else of the one before it.
        """
        at = bisect_left(self._got_ns, at_ns)
        if at == len(self._waits) or (at and self._waits[at].wanted_ns > at_ns):
            at -= 1
        if at < 0:
            return 0, 0
        wait = self._waits[at]
        waited_ns = max(wait.got_ns - wait.wanted_ns - wait.delay_ns, 0)
        if not self._samples:
            return waited_ns, waited_ns
        ran_ns = self.run_between(wait.wanted_ns, wait.got_ns)
        # Python gives the lock up once the probe has asked for it, for which it needs a processor.
        return waited_ns, max(ran_ns - min(wait.delay_ns, LOCK_ASKED_NS), 0)

    def run_between(self, begin_ns: int, end_ns: int) -> int:
        """Return how long the thread ran between two times; the whole time if unknown."""
        if not self._samples:
            return max(end_ns - begin_ns, 0)
        return max(round(self._cpu_ns(end_ns) - self._cpu_ns(begin_ns)), 0)

    def _cpu_ns(self, at_ns: int) -> float:
        """Return how long the thread had run at a time, between two samples in proportion."""
        after = bisect_left(self._sampled_ns, at_ns)
        if after in (0, len(self._samples)):
            return self._samples[min(after, len(self._samples) - 1)].cpu_ns
        first, last = self._samples[after - 1], self._samples[after]
        part = (at_ns - first.at_ns) / max(last.at_ns - first.at_ns, 1)
        return first.cpu_ns + part * (last.cpu_ns - first.cpu_ns)


def _grown(before: int, after: int) -> int | None:
    return None if before < 0 or after < 0 else max(after - before, 0)


def _total(parts: Iterator[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def _is_inside(sample: Sample, addresses: tuple[int, int] | None) -> bool:
    is_known = addresses is not None and _names().get(sample.call) == "futex"
    return is_known and addresses is not None and addresses[0] <= sample.argument < addresses[1]


def _lengths_of_steps(evidence: Evidence) -> list[int]:
    """Return how long the thread ran in each step, until the next one was seen."""
    waits = _Timeline(evidence)
    looks = [look for look in evidence.looks if look.step]
    first: dict[int, Look] = {}
    for look in looks:
        first.setdefault(look.step, look)
    times = [look.at_ns for look in first.values()] + [evidence.suspicion.end_ns]
    return [waits.run_between(before, after) for before, after in pairwise(times)]


def _wait_names(moments: Sequence[Moment]) -> Iterator[tuple[str, int]]:
    for moment in moments:
        if moment.waits_for and moment.sample.state in "SD":
            name = moment.waits_for
            if name == DESCRIPTOR:
                name = descriptor_name(moment.sample.descriptor_kind)
            yield name, moment.length_ns


def _most(named: Iterator[tuple[str, int]]) -> str:
    times: Counter[str] = Counter()
    for name, length_ns in named:
        times[name] += length_ns
    return times.most_common(1)[0][0] if times else ""


def _other_thread(moments: Sequence[Moment]) -> int:
    found = Counter(tid for m in moments if (tid := m.sample.collecting_tid or m.sample.other_tid))
    return found.most_common(1)[0][0] if found else 0
