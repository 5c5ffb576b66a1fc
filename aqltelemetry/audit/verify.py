"""Proves from the files that what was recorded is there once, or told to be missing.

For each writer, what its accounts say is held against the rows of the files: per
run of segments that files and accounts have in common, and from one account to the
next by the running total that each begins with. Rows may be missing by whole files
only, and are a problem otherwise, as are those that are there twice. Which files
retention removed is told by accounts of its own: what else is missing is unaccounted for.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from aqltelemetry.audit.evidence import Evidence, gather
from aqltelemetry.audit.runs import Run, doubles, may_miss_files, retired_rows, runs_of
from aqltelemetry.journal.counters import UNREADABLE
from aqltelemetry.observation import ACCOUNT, Dropped, SegmentAccount
from aqltelemetry.sinks.account import Account
from aqltelemetry.sinks.removals import Removed

_TRIES = 3


@dataclass(slots=True)
class Verdict:
    """What became of the observations of one writer.

    `accepted = rows + in_journal + removed + torn + unreadable`, where `removed` are
    rows of files that are gone. `unaccounted` of these are in files that retention did
    not remove, or of which its accounts do not say so; `is_removed_exact` is False where
    there may be more of them. `retired` counts the files that retention removed, by
    prefix. `dropped` were not accepted. `problems` contradicts what was recorded.
    """

    writer: str
    pid: int
    state: str
    rows: int = 0
    in_journal: int = 0
    removed: int = 0
    unaccounted: int = 0
    is_removed_exact: bool = True
    torn: int = 0
    unreadable: int = 0
    retired_files: int = 0
    """Files, of any process, that this one says its retention removed."""
    retired: dict[str, int] = field(default_factory=dict)
    damaged_segments: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    child: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """How many observations were accepted, as far as can be told."""
        return self.rows + self.in_journal + self.removed + self.torn + self.unreadable

    @property
    def is_accounted_for(self) -> bool:
        """Whether the accounts explain each file that is gone."""
        return self.is_removed_exact and not self.unaccounted


class _Step(NamedTuple):
    """A known point of a writer's running total: how much was accepted before `first`."""

    first: int
    last: int
    before: int | None
    accepted: int | None


def verify(
    directory: Path,
    roots: Sequence[Path],
    read: Callable[[Path, Iterable[Path]], Mapping[str, Evidence]] = gather,
) -> Sequence[Verdict]:
    """Return a verdict per writer, by PID; raises OSError where a file can't be read.

    While processes record, files appear and go as they are looked at: what seems
    wrong of a living one is looked at again.
    """
    verdicts: list[Verdict] = []
    for _ in range(_TRIES):
        evidence = read(directory, roots)
        verdicts = [_judge(each) for each in evidence.values()]
        wrong = {verdict.writer for verdict in verdicts if verdict.problems}
        if not any(evidence[writer].is_alive for writer in wrong):
            break
    _tell_children_once(verdicts)
    return sorted(verdicts, key=lambda verdict: (verdict.pid, verdict.writer))


def _judge(evidence: Evidence) -> Verdict:
    verdict = Verdict(evidence.writer, evidence.pid, _state(evidence))
    verdict.problems += [f"{name} is damaged" for name in evidence.damaged]
    if not evidence.accounts and not evidence.files and not evidence.journal:
        verdict.state = "set aside, as damaged" if evidence.set_aside else verdict.state
        return verdict
    unclaimed: dict[int, int] = {}
    told: set[int] = set()
    for run in runs_of(evidence):
        segments = range(run.first, run.last + 1)
        is_moving = any(n in evidence.journal for n in segments)
        extra = _judge_run(run, verdict, evidence.retired, is_moving=is_moving)
        if extra is None:  # is still in the journal, and counts as that
            continue
        told.update(segments)
        if extra:
            claimed = {n for each in run.accounts for n in range(each.first, each.last + 1)}
            unclaimed[min(set(segments) - claimed)] = extra
    accounts = [account for n, account in evidence.journal.items() if account and n not in told]
    verdict.in_journal = sum(account.accepted for account in accounts)
    _sum_up(evidence, verdict)
    _judge_steps(evidence, verdict, unclaimed)
    if verdict.state == _UNKNOWN and _is_end_retired(evidence):
        verdict.state = "end removed by retention"
    elif verdict.state == _UNKNOWN:
        verdict.problems.append("what came last is in no file: its end was removed, or lost")
    return verdict


_UNKNOWN = "end unknown"


def _state(evidence: Evidence) -> str:
    ends = [account.end for account in evidence.accounts if account.end is not None]
    if ends:
        return "stopped" if max(ends) else "killed, and recovered"
    if evidence.is_alive:
        return "recording"
    return "killed, not yet recovered" if evidence.journal else _UNKNOWN


def _is_end_retired(evidence: Evidence) -> bool:
    """Return whether retention removed the account of what came after all that is there."""
    known = [account.last for account in evidence.accounts]
    known += [file.name.last for file in evidence.files]
    return max((run.last for run in evidence.retired.get(ACCOUNT, ())), default=0) >= max(known)


def _judge_run(
    run: Run, verdict: Verdict, retired: Mapping[str, Sequence[Removed]], *, is_moving: bool
) -> int | None:
    """Hold a run's rows against its accounts; return the rows that have no account.

    None for one that is being published, and not all there.
    """
    expected: Counter[str] = Counter()
    for account in run.accounts:
        expected.update(account.rows)
    found: Counter[str] = Counter()
    for file in run.files:
        found[file.name.prefix] += file.rows or 0
    if is_moving and found != expected:
        return None
    claimed = Counter(n for account in run.accounts for n in range(account.first, account.last + 1))
    problems = [f"segment {n} has {times} accounts" for n, times in claimed.items() if times > 1]
    extra = 0
    for prefix in sorted({*expected, *found}):
        files = [file for file in run.files if file.name.prefix == prefix]
        problems += doubles(files)
        missing = expected[prefix] - found[prefix]
        if missing > 0 and may_miss_files(prefix, files, run):
            verdict.removed += missing
            verdict.unaccounted += max(0, missing - retired_rows(run, prefix, retired))
        elif missing < 0 and len(claimed) <= run.last - run.first:
            extra -= missing
        elif missing:
            what = f"{abs(missing)} rows {'missing' if missing > 0 else 'too many'}"
            problems.append(f"{what} in {prefix} of segments {run.first}-{run.last}")
    for account in run.accounts:
        if account.accepted != sum(account.rows.values()) + account.torn:
            problems.append(
                f"the account of segments {account.first}-{account.last} does not add up"
            )
    verdict.rows += found.total()
    verdict.torn += sum(account.torn for account in run.accounts)
    verdict.problems += problems
    return extra


def _sum_up(evidence: Evidence, verdict: Verdict) -> None:
    """Take the largest of each running total."""
    totals: dict[str, Dropped] = {}
    told_by: list[Account | SegmentAccount] = [*evidence.accounts]
    told_by += [account for account in evidence.journal.values() if account]
    for told in told_by:
        verdict.child = told.child if told.child is not None else verdict.child
        for dropped in told.dropped:
            known = totals.setdefault(dropped.reason, dropped)
            totals[dropped.reason] = max(known, dropped)
    unreadable = totals.pop(UNREADABLE, None)
    verdict.unreadable = unreadable.total if unreadable else 0
    verdict.dropped = list(totals.values())
    verdict.damaged_segments = sum(account.damaged for account in evidence.accounts)
    verdict.retired_files = max((account.removed for account in evidence.accounts), default=0)
    verdict.retired = {
        prefix: sum(each.amount for each in removed)
        for prefix, removed in evidence.retired.items()
        if prefix != ACCOUNT
    }


def _judge_steps(evidence: Evidence, verdict: Verdict, unclaimed: dict[int, int]) -> None:
    """Follow the running total from account to account."""
    last, gone, unnumbered, retired = 0, 0, 0, 0
    total: int | None = 0
    for step in _steps(evidence):
        extra = [unclaimed.pop(n) for n in sorted(unclaimed) if n <= step.first]
        is_gap = step.first > last + 1 or bool(extra)
        if step.before is None or total is None:
            if is_gap and not _is_known(evidence, range(last + 1, step.first)):
                verdict.is_removed_exact = False
        elif (accepted := step.before - total - sum(extra)) < 0:
            verdict.problems.append(f"{-accepted} observations too many before {step.first}")
        elif is_gap:
            gone += accepted
            retired += min(accepted, _retired_observations(evidence, last + 1, step.first - 1))
        else:
            unnumbered += accepted
        last, total = step.last, _after(step, total)
    if unnumbered > verdict.unreadable:
        lost = unnumbered - verdict.unreadable
        verdict.problems.append(f"{lost} observations were accepted and are in no segment")
    removed = max(0, gone + unnumbered - verdict.unreadable)
    verdict.removed += removed
    verdict.unaccounted += max(0, removed - retired)
    verdict.problems += [
        f"{rows} rows from segment {n} on are in no account"
        for n, rows in unclaimed.items()
        if not _is_known(evidence, range(n, n + 1))
    ]


def _is_known(evidence: Evidence, segments: range) -> bool:
    """Return whether segments were set aside, or their accounts removed by retention."""
    runs = evidence.retired.get(ACCOUNT, ())
    retired = {n for run in runs for n in range(run.first, run.last + 1) if n in segments}
    return (evidence.set_aside | retired).issuperset(segments)


def _retired_observations(evidence: Evidence, first: int, last: int) -> int:
    """Return how many were accepted into segments whose account retention removed."""
    runs = evidence.retired.get(ACCOUNT, ())
    return sum(run.amount for run in runs if first <= run.first and run.last <= last)


def _after(step: _Step, total: int | None) -> int | None:
    before = total if step.before is None else step.before
    return None if before is None or step.accepted is None else before + step.accepted


def _steps(evidence: Evidence) -> Sequence[_Step]:
    steps = [_Step(each.first, each.last, each.before, each.accepted) for each in evidence.accounts]
    known = max((step.last for step in steps), default=0)
    # A segment in the journal may be recorded to now: what went into it is not known.
    steps += [
        _Step(n, n, account.before, None)
        for n, account in evidence.journal.items()
        if account and n > known
    ]
    return sorted(steps, key=lambda step: step[:2])


def _tell_children_once(verdicts: Sequence[Verdict]) -> None:
    """Leave the drops of a forked child with one of its writers only: each tells all."""
    told: dict[int, dict[str, Dropped]] = {}
    for verdict in verdicts:
        if verdict.child is not None:
            family = told.setdefault(verdict.child, {})
            for dropped in verdict.dropped:
                family[dropped.reason] = max(family.get(dropped.reason, dropped), dropped)
            verdict.dropped = []
    for verdict in verdicts:
        if verdict.child is not None:
            verdict.dropped = list(told.pop(verdict.child, {}).values())
