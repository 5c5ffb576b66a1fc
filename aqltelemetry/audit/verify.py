"""Proves from the files alone that each observation is in them once, or is accounted for.

For each writer, the numbers in its accounts are compared with the rows in its files: within
each run of segments that files and accounts cover, and from one account to the next by the
running total that each account starts with. Rows may be missing only by whole files; other
missing rows and duplicates are problems. Accounts of removals list the files that retention
removed; any other missing file is unaccounted for.
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
from aqltelemetry.quantities import counted
from aqltelemetry.sinks.account import Account, recordings
from aqltelemetry.sinks.removals import Removed

_TRIES = 3


@dataclass(slots=True)
class Verdict:
    """The result for the observations of one writer.

    `accepted = rows + in_journal + removed + torn + unreadable`, where `removed` is the number
    of rows in files that are gone. `unaccounted` of these were in files of which no account
    says that retention removed them; there may be more if `is_removed_exact` is False.
    `retired` counts the files of this writer that retention removed, by prefix;
    `retired_files` counts the files of any writer that this one's retention removed.
    `dropped` observations were not accepted. `problems` lists the contradictions.
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
    retired: dict[str, int] = field(default_factory=dict)
    damaged_segments: int = 0
    dropped: list[Dropped] = field(default_factory=list)
    child: int | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def accepted(self) -> int:
        """The number of accepted observations, as far as it is known."""
        return self.rows + self.in_journal + self.removed + self.torn + self.unreadable

    @property
    def is_accounted_for(self) -> bool:
        """Whether accounts explain every missing file."""
        return self.is_removed_exact and not self.unaccounted


class _Step(NamedTuple):
    """A known point of a writer's running total: `before` were accepted before `first`."""

    first: int
    last: int
    before: int | None
    accepted: int | None


def verify(
    directory: Path | Sequence[Path],
    roots: Sequence[Path],
    read: Callable[[Sequence[Path], Iterable[Path]], Mapping[str, Evidence]] = gather,
) -> Sequence[Verdict]:
    """Return a verdict for each writer, sorted by PID; raises OSError if a file can't be read.

    Several directories are examined as one: what was recorded into one of them may be in an archive
    in another.

    While processes record, files appear and disappear during the check, so the check is
    repeated if a running process seems to have problems.
    """
    directories = [directory] if isinstance(directory, Path) else directory
    verdicts: list[Verdict] = []
    for _ in range(_TRIES):
        evidence = read(directories, roots)
        verdicts = [_judge(each) for each in evidence.values()]
        wrong = {verdict.writer for verdict in verdicts if verdict.problems}
        if not any(evidence[writer].is_alive for writer in wrong):
            break
    _count_children_once(verdicts)
    return sorted(verdicts, key=lambda verdict: (verdict.pid, verdict.writer))


def _judge(evidence: Evidence) -> Verdict:
    verdict = Verdict(evidence.writer, evidence.pid, _state(evidence))
    verdict.problems += [f"{name} is damaged" for name in evidence.damaged]
    if not evidence.accounts and not evidence.files and not evidence.journal:
        verdict.state = "set aside, as damaged" if evidence.set_aside else verdict.state
        return verdict
    extra_rows: dict[int, int] = {}
    published: set[int] = set()
    for run in runs_of(evidence):
        segments = range(run.first, run.last + 1)
        is_moving = any(n in evidence.journal for n in segments)
        extra = _judge_run(run, verdict, evidence.retired, is_moving=is_moving)
        if extra is None:  # still in the journal, and counted there
            continue
        published.update(segments)
        if extra:
            accounted = {n for each in run.accounts for n in range(each.first, each.last + 1)}
            extra_rows[min(set(segments) - accounted)] = extra
    verdict.in_journal = sum(
        account.accepted
        for n, account in evidence.journal.items()
        if account and n not in published
    )
    _sum_up(evidence, verdict)
    _judge_steps(evidence, verdict, extra_rows)
    if verdict.state == _UNKNOWN and _is_end_retired(evidence):
        verdict.state = "end removed by retention"
    elif verdict.state == _UNKNOWN:
        verdict.problems.append("the last observations are in no file: it was removed or lost")
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
    """Return whether retention removed an account of later segments than all known ones."""
    known = [account.last for account in evidence.accounts]
    known += [file.name.last for file in evidence.files]
    return max((run.last for run in evidence.retired.get(ACCOUNT, ())), default=0) >= max(known)


def _judge_run(
    run: Run, verdict: Verdict, retired: Mapping[str, Sequence[Removed]], *, is_moving: bool
) -> int | None:
    """Compare the rows of a run with its accounts; return the number of rows without account.

    Return None for a run that is just being published and not complete.
    """
    expected: Counter[str] = Counter()
    for account in run.accounts:
        expected.update(account.rows)
    found: Counter[str] = Counter()
    for file in run.files:
        found[file.name.prefix] += file.rows or 0
    if is_moving and found != expected:
        return None
    covering = Counter(n for each in run.accounts for n in range(each.first, each.last + 1))
    problems = [f"segment {n} has {times} accounts" for n, times in covering.items() if times > 1]
    extra = 0
    for prefix in sorted({*expected, *found}):
        files = [file for file in run.files if file.name.prefix == prefix]
        problems += doubles(files)
        missing = expected[prefix] - found[prefix]
        if missing > 0 and may_miss_files(prefix, files, run):
            verdict.removed += missing
            verdict.unaccounted += max(0, missing - retired_rows(run, prefix, retired))
        elif missing < 0 and len(covering) <= run.last - run.first:
            extra -= missing
        elif missing:
            rows = f"{counted(abs(missing), 'row')} {'missing' if missing > 0 else 'too many'}"
            problems.append(f"{rows} in {prefix} of segments {run.first}-{run.last}")
    for account in run.accounts:
        if account.accepted != sum(account.rows.values()) + account.torn:
            span = f"{account.first}-{account.last}"
            problems.append(f"the account of segments {span} does not add up")
    verdict.rows += found.total()
    verdict.torn += sum(account.torn for account in run.accounts)
    verdict.problems += problems
    return extra


def _sum_up(evidence: Evidence, verdict: Verdict) -> None:
    """Set the totals of a verdict: of each running total, the largest."""
    totals: dict[str, Dropped] = {}
    accounts: list[Account | SegmentAccount] = [*evidence.accounts]
    accounts += [account for account in evidence.journal.values() if account]
    for account in accounts:
        verdict.child = account.child if account.child is not None else verdict.child
        for dropped in account.dropped:
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


def _judge_steps(evidence: Evidence, verdict: Verdict, extra_rows: dict[int, int]) -> None:
    """Follow the running total from account to account.

    `extra_rows` are rows without account, by the first segment that they may be of.
    """
    last, gone, unnumbered, retired = 0, 0, 0, 0
    total: int | None = 0
    for step in _steps(evidence):
        extra = [extra_rows.pop(n) for n in sorted(extra_rows) if n <= step.first]
        is_gap = step.first > last + 1 or bool(extra)
        if step.before is None or total is None:
            if is_gap and not _is_known(evidence, range(last + 1, step.first)):
                verdict.is_removed_exact = False
        elif (accepted := step.before - total - sum(extra)) < 0:
            verdict.problems.append(
                f"{-accepted:,} too many observations before segment {step.first}"
            )
        elif is_gap:
            gone += accepted
            retired += min(accepted, _retired_observations(evidence, last + 1, step.first - 1))
        else:
            unnumbered += accepted
        last, total = step.last, _after(step, total)
    if unnumbered > verdict.unreadable:
        lost = counted(unnumbered - verdict.unreadable, "accepted observation")
        verdict.problems.append(f"{lost} in no segment")
    removed = max(0, gone + unnumbered - verdict.unreadable)
    verdict.removed += removed
    verdict.unaccounted += max(0, removed - retired)
    verdict.problems += [
        f"{counted(rows, 'row')} from segment {n} on in no account"
        for n, rows in extra_rows.items()
        if not _is_known(evidence, range(n, n + 1))
    ]


def _is_known(evidence: Evidence, segments: range) -> bool:
    """Return whether each segment was set aside, or retention removed its account."""
    runs = evidence.retired.get(ACCOUNT, ())
    retired = {n for run in runs for n in range(run.first, run.last + 1) if n in segments}
    return (evidence.set_aside | retired).issuperset(segments)


def _retired_observations(evidence: Evidence, first: int, last: int) -> int:
    """Return the number of observations in segments whose account retention removed."""
    runs = evidence.retired.get(ACCOUNT, ())
    return sum(run.amount for run in runs if first <= run.first and run.last <= last)


def _after(step: _Step, total: int | None) -> int | None:
    before = total if step.before is None else step.before
    return None if before is None or step.accepted is None else before + step.accepted


def _steps(evidence: Evidence) -> Sequence[_Step]:
    steps = [_Step(each.first, each.last, each.before, each.accepted) for each in evidence.accounts]
    known = max((step.last for step in steps), default=0)
    # A segment in the journal may still grow: the number of its observations is not known.
    steps += [
        _Step(n, n, account.before, None)
        for n, account in evidence.journal.items()
        if account and n > known
    ]
    return sorted(steps, key=lambda step: step[:2])


def _count_children_once(verdicts: Sequence[Verdict]) -> None:
    """Move the drops of a forked child to one of its writers, since each reports all of them."""
    stands_for = recordings({verdict.writer: verdict.child for verdict in verdicts})
    by_writer = {verdict.writer: verdict for verdict in verdicts}
    for verdict in verdicts:
        first = by_writer[stands_for[verdict.writer]]
        if first is not verdict:
            largest = {dropped.reason: dropped for dropped in first.dropped}
            for dropped in verdict.dropped:
                largest[dropped.reason] = max(largest.get(dropped.reason, dropped), dropped)
            first.dropped, verdict.dropped = list(largest.values()), []
