"""Groups accounts and files by the segments they cover, and finds gaps and duplicates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from aqltelemetry.audit.evidence import DataFile, Evidence
from aqltelemetry.sinks.account import Account
from aqltelemetry.sinks.removals import Removed


class Run(NamedTuple):
    """The segments `first` to `last`, and the accounts and files that overlap in them."""

    first: int
    last: int
    accounts: list[Account]
    files: list[DataFile]


def runs_of(evidence: Evidence) -> Iterator[Run]:
    """Group the accounts and files of a writer by the segments they cover."""
    spans = sorted(
        [(account.first, account.last, account) for account in evidence.accounts]
        + [(file.name.first, file.name.last, file) for file in evidence.files],
        key=lambda span: span[:2],
    )
    run: Run | None = None
    for first, last, each in spans:
        if run is None or first > run.last:
            if run is not None:
                yield run
            run = Run(first, last, [], [])
        run = run._replace(last=max(run.last, last))
        if isinstance(each, Account):
            run.accounts.append(each)
        else:
            run.files.append(each)
    if run is not None:
        yield run


def retired_rows(run: Run, prefix: str, retired: Mapping[str, Sequence[Removed]]) -> int:
    """Return the number of rows of a prefix in files that retention may have removed."""
    return sum(
        account.rows.get(prefix, 0)
        for account in run.accounts
        if any(
            gone.first <= account.first and account.last <= gone.last
            for gone in retired.get(prefix, ())
        )
    )


def doubles(files: Sequence[DataFile]) -> Iterator[str]:
    """Yield a message for each segment that is in two files which are not parts of one."""
    seen: dict[int, tuple[int, int]] = {}
    parts = Counter((file.name.first, file.name.last, file.name.part) for file in files)
    for (first, last, _), times in parts.items():
        if times > 1:
            yield f"segments {first}-{last} appear {times} times in {files[0].name.prefix}"
    for first, last in sorted({(file.name.first, file.name.last) for file in files}):
        for n in range(first, last + 1):
            if seen.setdefault(n, (first, last)) != (first, last):
                yield f"segment {n} appears twice in {files[0].name.prefix}"


def may_miss_files(prefix: str, files: Sequence[DataFile], run: Run) -> bool:
    """Return whether a whole file may be missing; readers remove whole files."""
    covered = {n for file in files for n in range(file.name.first, file.name.last + 1)}
    if any(n not in covered for n in range(run.first, run.last + 1)):
        return True
    parts: dict[tuple[int, int], set[int]] = {}
    for file in files:
        parts.setdefault((file.name.first, file.name.last), set()).add(file.name.part)
    counts = {(each.first, each.last): each.files.get(prefix, 0) for each in run.accounts}
    return any(
        len(present) < max(counts.get(span, 0), max(present) + 1) for span, present in parts.items()
    )
