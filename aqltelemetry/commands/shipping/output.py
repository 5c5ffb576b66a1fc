"""What `aqltelemetry ship` prints about shipping."""

from __future__ import annotations

from collections.abc import Sequence

from aqltelemetry.commands.options import EXIT_INCOMPLETE
from aqltelemetry.errors import LedgerError
from aqltelemetry.quantities import counted, mebibytes
from aqltelemetry.shipping.check import Checked
from aqltelemetry.shipping.ledger_reader import LedgerReader
from aqltelemetry.shipping.run import Job
from aqltelemetry.shipping.shipper import Progress
from aqltelemetry.shipping.status import behind, total
from aqltelemetry.shipping.target import Target

_MAX_LINES = 20


def summary(done: Progress, target: Target) -> str:
    """Return what a shipper has done."""
    text = (
        f"shipped {counted(done.files, 'file')}, {counted(done.rows, 'row')}, "
        f"{mebibytes(done.bytes)} MiB to {target}"
    )
    others = (
        (done.refused, "refused"),
        (done.gone, "removed before they were shipped"),
        (done.deleted, "removed after they were shipped"),
    )
    return text + "".join(f"; {number:,} {what}" for number, what in others if number)


def check_lines(checked: Checked) -> tuple[list[str], int]:
    """Return what a check has found, and the exit status."""
    if checked.reason:
        return [f"nothing was compared: {checked.reason}"], EXIT_INCOMPLETE
    what = f"{counted(checked.files, 'file')} with {counted(checked.rows, 'row')}"
    if checked.totals is not None:
        what = f"the totals of {counted(checked.totals, 'recording')}"
    lines = some(checked.differences)
    if not checked.has_counts and checked.totals is None:
        lines.append("this destination can't compare numbers of rows")
    if checked.waiting:
        lines.append(f"not yet shipped: {counted(checked.waiting, 'file')}")
    is_equal = not checked.differences
    found = "all is there" if is_equal else counted(len(checked.differences), "difference")
    return [*lines, f"compared {what}: {found}"], 0 if is_equal else 1


def dry_run_lines(job: Job) -> list[str]:
    """Return what would be shipped."""
    try:
        with LedgerReader(job.ledger_path) as ledger:
            found = total(behind(each, ledger) for each in job.directories)
    except LedgerError:  # nothing was shipped yet
        found = total(behind(each, None) for each in job.directories)
    by_prefix = ", ".join(f"{number:,} {each}" for each, number in found.by_prefix.items())
    what = f"{counted(found.files, 'file')}, {mebibytes(found.bytes)} MiB"
    return [f"would ship {what} to {job.target}" + (f": {by_prefix}" if by_prefix else "")]


def some(lines: Sequence[str]) -> list[str]:
    """Return the first of some lines, and how many more there are."""
    left = len(lines) - _MAX_LINES
    return [*lines[:_MAX_LINES], *([f"and {left:,} more"] if left > 0 else [])]
