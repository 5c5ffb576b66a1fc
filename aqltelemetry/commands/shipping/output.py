"""What `aqltelemetry ship` prints about shipping."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aqltelemetry.errors import LedgerError
from aqltelemetry.quantities import ago, counted, mebibytes
from aqltelemetry.shipping.check import Checked
from aqltelemetry.shipping.ledger import LedgerReader, ledgers_in
from aqltelemetry.shipping.run import Job, state_directory
from aqltelemetry.shipping.shipper import Progress
from aqltelemetry.shipping.status import Behind, Status, behind, status
from aqltelemetry.shipping.target import Target
from aqltelemetry.system.clock import epoch_ns

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


def check_lines(checked: Checked) -> tuple[list[str], bool]:
    """Return what a check has found, and whether all is equal."""
    what = f"{counted(checked.files, 'file')} with {counted(checked.rows, 'row')}"
    lines = _some(checked.differences)
    if not checked.has_counts:
        lines.append("this destination can't compare numbers of rows")
    if checked.waiting:
        lines.append(f"not yet shipped: {counted(checked.waiting, 'file')}")
    is_equal = not checked.differences
    found = "all is there" if is_equal else counted(len(checked.differences), "difference")
    return [*lines, f"compared {what}: {found}"], is_equal


def dry_run_lines(job: Job) -> list[str]:
    """Return what would be shipped."""
    try:
        with LedgerReader(job.ledger_path) as ledger:
            found = behind(job.directories, ledger, epoch_ns())
    except LedgerError:  # nothing was shipped yet
        found = behind(job.directories, None, epoch_ns())
    by_prefix = ", ".join(f"{number:,} {each}" for each, number in found.by_prefix.items())
    what = f"{counted(found.files, 'file')}, {mebibytes(found.bytes)} MiB"
    return [f"would ship {what} to {job.target}" + (f": {by_prefix}" if by_prefix else "")]


def status_lines(directories: Sequence[str], state: str | None) -> tuple[list[str], bool]:
    """Return the state of all ledgers, and whether nothing was refused."""
    place = state_directory(directories, state)
    now_ns = epoch_ns()
    found = [status(directories, path, now_ns) for path in ledgers_in(place)]
    if not found:
        return [f"nothing was shipped from here: there is no ledger in {place}"], True
    lines = [line for each in found for line in _lines(each)]
    return lines, not any(each.refused for each in found)


def _lines(found: Status) -> Iterator[str]:
    total = found.totals
    yield f"{found.destination} ({'running' if found.is_running else 'not running'})"
    rows = counted(total.rows, "row")
    yield f"  shipped: {counted(total.files, 'file')}, {rows}, {mebibytes(total.bytes)} MiB"
    yield f"  behind:  {_behind(found.behind)}"
    yield f"  refused: {counted(len(found.refused), 'file')}"
    yield from (f"    {line}" for line in _some([f"{e.name}: {e.reason}" for e in found.refused]))
    if total.gone:
        yield f"  removed before they were shipped: {counted(total.gone, 'file')}"
    if total.deleted:
        yield f"  removed after they were shipped:  {counted(total.deleted, 'file')}"


def _behind(found: Behind) -> str:
    if found.oldest_s is None:
        return "0 files"
    what = f"{counted(found.files, 'file')}, {mebibytes(found.bytes)} MiB"
    return f"{what}, the oldest published until {ago(found.oldest_s)}"


def _some(lines: Sequence[str]) -> list[str]:
    left = len(lines) - _MAX_LINES
    return [*lines[:_MAX_LINES], *([f"and {left:,} more"] if left > 0 else [])]
