"""A stall from its begin to its end, with its cause, as it is recorded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from aqltelemetry.stalls import causes
from aqltelemetry.stalls.classifier import Verdict, classify
from aqltelemetry.stalls.evidence import Evidence, Line, Look
from aqltelemetry.system.clock import NS_PER_S

VERSION = 1
_MOST_CALLBACKS = 5
_DIGITS = 4
_MOST = 0.5
_LOCK_CAUSES = (causes.LOCK_HELD, causes.BLOCKS_WITH_LOCK)


class Place(NamedTuple):
    """A line of code, and the part of the looks at the thread that saw it."""

    line: Line
    votes: float


class Episode(NamedTuple):
    """A stall of the event loop.

    Attributes:
        begin_ns: When the loop was asked and did not answer, in nanoseconds since the epoch.
        earliest_ns: When it was last seen free: the stall began between the two.
        end_ns: When it answered.
        verdict: The cause, and the shares of all causes.
        user: The innermost line of the user's code that was seen most; None if none was seen.
        innermost: The same of any code.
        is_exact: Whether the line of the user is the one that blocked. After native code that
            held the GIL it may also be a later line of the same function.
        task: The name of the task that was seen most; "" outside of tasks.
        coroutine: The name of that task's coroutine.
        callbacks: The functions of the steps that were seen most, with how often.
        looks: How often the probe has looked at the thread.
        thread_name: The name of another thread that held the GIL or collected; "" if unknown.
        thread_line: The line that it ran; None if unknown.
        request: The method and the path of a request on a thread; "" for an event loop.
        in_thread: The name of that thread.
        is_ended: False if the request went on after it had been looked at for ten seconds.
        route: The label of the request that the thread handled for half of the time or more; ""
            if there is none, or if its route was not known yet.
        blocks: The labels of the blocks that its task was in for half of the time or more, the
            outermost first.
        waits_on: What the thread waited on for longest, such as a socket with its peer; "" if
            this is not known.
    """

    begin_ns: int
    earliest_ns: int
    end_ns: int
    verdict: Verdict
    user: Place | None
    innermost: Place | None
    is_exact: bool
    task: str
    coroutine: str
    callbacks: Mapping[str, int]
    looks: int
    thread_name: str = ""
    thread_line: Place | None = None
    request: str = ""
    in_thread: str = ""
    is_ended: bool = True
    route: str = ""
    blocks: Sequence[str] = ()
    waits_on: str = ""

    @property
    def length_s(self) -> float:
        """How long the loop did not answer, in seconds."""
        return (self.end_ns - self.begin_ns) / NS_PER_S

    def detail(self, pid: int, writer: str) -> dict[str, Any]:
        """Return the episode as an object of JSON; see docs/reference/formats.md."""
        verdict = self.verdict
        return {
            "version": VERSION,
            "begin_ns": self.begin_ns,
            "earliest_ns": self.earliest_ns,
            "end_ns": self.end_ns,
            "length_s": self.length_s,
            "pid": pid,
            "writer": writer,
            "cause": verdict.cause,
            "shares": {cause: round(part, _DIGITS) for cause, part in verdict.shares.items()},
            "cpu_s": _seconds(verdict.ran_ns),
            "run_delay_s": _seconds(verdict.delayed_ns),
            "major_faults": verdict.major_faults,
            "waits_for": verdict.waits_for,
            "gc_generation": verdict.generation,
            "thread": self.thread_name,
            "thread_line": _place(self.thread_line),
            "task": self.task,
            "coroutine": self.coroutine,
            "steps": verdict.steps,
            "callbacks": dict(self.callbacks),
            "user": _place(self.user),
            "is_exact": self.is_exact,
            "innermost": _place(self.innermost),
            "looks": self.looks,
            "request": self.request,
            "in_thread": self.in_thread,
            "is_ended": self.is_ended,
            "route": self.route,
            "blocks": [*self.blocks],
            "waits_on": self.waits_on,
        }


def conclude(evidence: Evidence, offset_ns: int, thread_names: Mapping[int, str]) -> Episode:
    """Return the episode that the evidence shows.

    Args:
        evidence: What was seen.
        offset_ns: What the epoch is ahead of the monotonic clock.
        thread_names: The names of the threads, by the number that the kernel gives them.
    """
    verdict = classify(evidence)
    suspicion, looks = evidence.suspicion, evidence.looks
    user = _vote(evidence, [look.user for look in looks])
    task = _most([(look.task, look.coroutine) for look in looks if look.task])
    callbacks = Counter({look.step: look.callback for look in looks if look.step}.values())
    return Episode(
        begin_ns=suspicion.begin_ns + offset_ns,
        earliest_ns=suspicion.quiet_ns + offset_ns,
        end_ns=suspicion.end_ns + offset_ns,
        verdict=verdict,
        user=user,
        innermost=_vote(evidence, [look.innermost for look in looks]),
        is_exact=user is not None and (verdict.cause not in _LOCK_CAUSES or len(looks) > 1),
        task=task[0],
        coroutine=task[1],
        callbacks=dict(callbacks.most_common(_MOST_CALLBACKS)),
        looks=len(looks),
        thread_name=thread_names.get(verdict.thread, ""),
        thread_line=_vote(evidence, [look.other for look in looks]) if verdict.thread else None,
        request=suspicion.request,
        in_thread=thread_names.get(suspicion.tid, "") if suspicion.tid else "",
        is_ended=suspicion.is_ended,
        route=next(iter(_frequent(evidence, [[look.route] for look in looks])), ""),
        blocks=_frequent(evidence, [look.blocks for look in looks]),
        waits_on=_longest(evidence, [look.waits_on for look in looks]) if verdict.waits_for else "",
    )


def _frequent(evidence: Evidence, seen: Sequence[Sequence[str]]) -> Sequence[str]:
    """Return the names that were seen for half of the time or more, in their order."""
    times: Counter[str] = Counter()
    places: dict[str, int] = {}
    total_ns = 0
    for names, length_ns in zip(seen, _lengths(evidence), strict=True):
        total_ns += length_ns
        for place, name in enumerate(dict.fromkeys(names)):
            times[name] += length_ns
            places[name] = max(place, places.get(name, 0))
    found = [name for name in times if name and times[name] >= _MOST * total_ns]
    return sorted(found, key=places.__getitem__)


def _longest(evidence: Evidence, names: Sequence[str]) -> str:
    """Return the name that was seen for most of the time, if any was."""
    times: Counter[str] = Counter()
    for name, length_ns in zip(names, _lengths(evidence), strict=True):
        times[name] += length_ns if name else 0
    return times.most_common(1)[0][0] if times else ""


def _vote(evidence: Evidence, lines: Sequence[Line | None]) -> Place | None:
    """Return the line with most of the time; a look stands for the time since the one before."""
    votes: Counter[Line] = Counter()
    total_ns = 0
    for line, length_ns in zip(lines, _lengths(evidence), strict=True):
        total_ns += length_ns
        if line is not None:
            votes[line] += length_ns
    if not votes:
        return None
    line, length_ns = votes.most_common(1)[0]
    return Place(line, length_ns / max(total_ns, 1))


def _lengths(evidence: Evidence) -> Iterator[int]:
    before_ns = evidence.suspicion.begin_ns
    looks: Sequence[Look] = evidence.looks
    for look in looks:
        yield max(look.at_ns - before_ns, 1)
        before_ns = look.at_ns


def _most(names: Sequence[tuple[str, str]]) -> tuple[str, str]:
    return Counter(names).most_common(1)[0][0] if names else ("", "")


def _seconds(length_ns: int | None) -> float | None:
    return None if length_ns is None else length_ns / NS_PER_S


def _place(place: Place | None) -> dict[str, Any] | None:
    if place is None:
        return None
    line = place.line
    return {
        "file": line.file,
        "line": line.number,
        "function": line.function,
        "votes": round(place.votes, _DIGITS),
    }
