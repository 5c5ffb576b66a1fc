"""`aqltelemetry ship status`: says what is shipped, behind and refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from aqltelemetry.commands.options import EXIT_INCOMPLETE, takes_directories
from aqltelemetry.commands.shipping.output import some
from aqltelemetry.errors import TelemetryError
from aqltelemetry.quantities import ago, counted, mebibytes
from aqltelemetry.shipping.ledger_reader import NotedFile
from aqltelemetry.shipping.status import Behind, Status, statuses, total
from aqltelemetry.shipping.target import Target
from aqltelemetry.system.clock import NS_PER_S, epoch_ns, utc

_VERSION = 1


@click.command()
@takes_directories
@click.option("--to", "url", metavar="URL", help="Only this destination.  [default: all]")
@click.option(
    "--state",
    metavar="PATH",
    type=click.Path(file_okay=False),
    help="Directory of the ledgers.  [default: .ship in each DIR]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@click.pass_context
def status(
    context: click.Context,
    /,
    *,
    directories: Sequence[Path],
    url: str | None,
    state: str | None,
    as_json: bool,
) -> None:
    """Say what is shipped, behind and refused.

    This is read from the ledgers and the files: no store is asked, and a shipper
    may run meanwhile.

    \b
    shipped   files that the destination has stored, since the ledger was made,
              their rows, and their size as it was here
    behind    files that are published and not shipped, and the age of the last
              observation in the oldest of them
    refused   files that the destination does not accept, and why
    removed   files that were removed, before or after they were shipped

    \b
    Exit status:
      0  no file is refused
      3  some are
    """  # noqa: D301 - click's mark for lines that are not to be filled
    names = [str(each) for each in directories]
    try:
        identity = None if url is None else Target(url).identity
        found = statuses(names, state, identity)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    now_ns = epoch_ns()
    if as_json:
        click.echo(json.dumps(_document(found, now_ns), indent=2))
    elif not found:
        click.echo(f"nothing was shipped from {', '.join(names)}")
    for line in () if as_json else (line for each in found for line in _lines(each, now_ns)):
        click.echo(line)
    context.exit(EXIT_INCOMPLETE if any(each.refused for each in found) else 0)


def _lines(found: Status, now_ns: int) -> Iterator[str]:
    done = found.totals
    yield f"{found.destination} ({'running' if found.is_running else 'not running'})"
    rows = counted(done.rows, "row")
    last = ""
    if found.shipped_ns is not None:
        last = f", the last {ago((now_ns - found.shipped_ns) / NS_PER_S)}"
    yield f"  shipped: {counted(done.files, 'file')}, {rows}, {mebibytes(done.bytes)} MiB{last}"
    if found.failure is not None:
        since = ago((now_ns - found.failure.since_ns) / NS_PER_S)
        yield f"  can't be reached since {since}: {found.failure.reason}"
    yield f"  behind:  {_behind(total(found.behind.values()), now_ns)}"
    if len(found.behind) > 1:
        for directory, each in found.behind.items():
            yield f"    {directory}: {_behind(each, now_ns)}"
    for directory, each in found.behind.items():
        if each.error:
            yield f"    {directory} can't be read: {each.error}"
    yield f"  refused: {counted(len(found.refused), 'file')}"
    yield from (f"    {line}" for line in some([f"{e.name}: {e.reason}" for e in found.refused]))
    if done.gone:
        yield f"  removed before they were shipped: {counted(done.gone, 'file')}"
        yield from (f"    {line}" for line in some([each.name for each in found.gone]))
    if done.deleted:
        yield f"  removed after they were shipped:  {counted(done.deleted, 'file')}"


def _behind(found: Behind, now_ns: int) -> str:
    if found.oldest_ns is None:
        return "0 files"
    what = f"{counted(found.files, 'file')}, {mebibytes(found.bytes)} MiB"
    return f"{what}, the oldest published until {ago((now_ns - found.oldest_ns) / NS_PER_S)}"


def _document(found: Sequence[Status], now_ns: int) -> dict[str, Any]:
    """Return what `docs/reference/ship-status-json.md` describes."""
    return {
        "version": _VERSION,
        "at": utc(now_ns),
        "destinations": [_of_destination(each, now_ns) for each in found],
    }


def _of_destination(found: Status, now_ns: int) -> dict[str, Any]:
    done, failure = found.totals, found.failure
    return {
        "destination": found.destination,
        "ledger": found.ledger or None,
        "is_running": found.is_running,
        "shipped": {"files": done.files, "rows": done.rows, "bytes": done.bytes},
        "last_shipped": None if found.shipped_ns is None else utc(found.shipped_ns),
        "failure": (
            None if failure is None else {"since": utc(failure.since_ns), "reason": failure.reason}
        ),
        "behind": _of_behind(total(found.behind.values()), now_ns),
        "directories": [
            {"directory": name, "error": each.error or None, "behind": _of_behind(each, now_ns)}
            for name, each in found.behind.items()
        ],
        "refused": {"files": len(found.refused), "list": [*map(_of_file, found.refused)]},
        "removed_before": {"files": done.gone, "list": [*map(_of_file, found.gone)]},
        "removed_after": {"files": done.deleted},
    }


def _of_behind(found: Behind, now_ns: int) -> dict[str, Any]:
    oldest_ns = found.oldest_ns
    return {
        "files": found.files,
        "bytes": found.bytes,
        "oldest": None if oldest_ns is None else utc(oldest_ns),
        "oldest_age_s": None if oldest_ns is None else round((now_ns - oldest_ns) / NS_PER_S, 3),
        "by_prefix": found.by_prefix,
    }


def _of_file(found: NotedFile) -> dict[str, Any]:
    return {"file": found.name, "reason": found.reason or None, "at": utc(found.at_ns)}
