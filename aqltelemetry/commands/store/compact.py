"""`aqltelemetry compact`: combines published CSV files into archives."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.commands.options import (
    IncompleteError,
    Time,
    complete_directory,
    missing_extra,
    takes_existing_directory,
)
from aqltelemetry.errors import ArchiveBusyError, LedgerError
from aqltelemetry.quantities import counted
from aqltelemetry.system.clock import NS_PER_S, epoch_ns

if TYPE_CHECKING:
    from aqltelemetry.archive.compact import Compacted
    from aqltelemetry.archive.rollup import RollUps

_MIN_INTERVAL_S, _MAX_INTERVAL_S = 0.01, 86_400
_EXTRA = "pyarrow"


@click.command()
@takes_existing_directory
@click.option(
    "--older-than",
    "older_than_s",
    type=Time(allows_zero=True),
    default="1h",
    show_default=True,
    metavar="AGE",
    help="Archive files that end at least so long ago. From 1h on, whole hours.",
)
@click.option(
    "--to",
    type=click.Path(file_okay=False, exists=True),
    metavar="PATH",
    shell_complete=complete_directory,
    help="Put archives into this directory, which must exist, and links to them "
    "into DIR.  [default: DIR]",
)
@click.option(
    "--rollup",
    "interval_s",
    type=Time(allows_zero=True),
    metavar="INTERVAL",
    help="Also make roll-ups of the archives: for each label and INTERVAL, such as 1s, "
    "count, sum, min, max and a histogram. They remain when retention removes archives.",
)
@click.option(
    "--rollup-keep",
    "keep_s",
    type=Time(allows_zero=True),
    default="400d",
    show_default=True,
    metavar="AGE",
    help="Remove roll-ups that end so long ago.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be archived, and change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
def compact(  # noqa: PLR0913 - one argument for each option
    directory: Path,
    older_than_s: float,
    to: str | None,
    interval_s: float | None,
    keep_s: float,
    *,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Combine old CSV files into small Parquet files.

    An archive holds the files of one hour and one prefix, in an eighth of the space.
    All commands and TelemetryDB read archives as they read the files, and "verify"
    counts them. A CSV file is removed after its archive is on the disk and was
    compared with it. You can run this at any time, next to processes that record,
    and kill it. It needs the extra aqltelemetry[pyarrow].

    \b
    Exit status:
      0  all files of this age are in archives
      3  some are not: another process makes archives of DIR, or a file is
         damaged and stays as it is
    """  # noqa: D301 - click's mark for lines that are not to be filled
    try:
        rollups = _rollups(interval_s, keep_s)
        older_than_ns = int(older_than_s * NS_PER_S)
        done = _compact(str(directory), to, older_than_ns, rollups, dry_run=dry_run)
    except ImportError as exc:
        raise missing_extra(_EXTRA, exc) from exc
    except (ArchiveBusyError, LedgerError) as exc:
        raise IncompleteError(str(exc)) from exc
    except OSError as exc:
        raise IncompleteError(f"not all files are archived: {exc}") from exc
    if as_json:
        click.echo(json.dumps({"version": 1, **asdict(done)}))
    else:
        click.echo(_text(done, dry_run=dry_run))
    if done.left:
        name, reason = next(iter(done.left.items()))
        raise IncompleteError(
            f"{counted(len(done.left), 'file')} not archived, such as {name}: {reason}"
        )


def _rollups(interval_s: float | None, keep_s: float) -> RollUps | None:
    from aqltelemetry.archive.rollup import RollUps  # noqa: PLC0415 - an extra

    if interval_s is None:
        return None
    if not _MIN_INTERVAL_S <= interval_s <= _MAX_INTERVAL_S:
        raise click.BadParameter("must be from 10ms to 1d", param_hint="--rollup")
    return RollUps(int(interval_s * NS_PER_S), int(keep_s * NS_PER_S))


def _compact(
    directory: str,
    to: str | None,
    older_than_ns: int,
    rollups: RollUps | None,
    *,
    dry_run: bool,
) -> Compacted:
    from aqltelemetry.archive import compact as archive  # noqa: PLC0415 - an extra

    if dry_run:
        return archive.compact(directory, older_than_ns=older_than_ns, to=to, dry_run=True)
    now_ns = epoch_ns()
    total = archive.ready_bytes(directory, older_than_ns=older_than_ns, now_ns=now_ns)
    with click.progressbar(length=total, label="archiving", file=sys.stderr) as bar:
        return archive.compact(
            directory,
            older_than_ns=older_than_ns,
            to=to,
            rollups=rollups,
            now_ns=lambda: now_ns,
            progress=bar.update,
        )


def _text(done: Compacted, *, dry_run: bool) -> str:
    files = f"{counted(done.files, 'file')} ({done.csv_bytes:,} bytes)"
    if dry_run:
        return f"would combine {files} into {counted(done.archives, 'archive')}"
    text = f"combined {files} into {counted(done.archives, 'archive')}"
    if done.rows:
        each = f"{done.archive_bytes / done.rows:.1f} bytes a row"
        text += f" ({done.archive_bytes:,} bytes): {counted(done.rows, 'row')}, {each}"
    if done.removed:
        text += f"; removed {counted(done.removed, 'file')} that an archive contained already"
    if done.waiting:
        text += f"; {counted(done.waiting, 'file')} left that a shipper has not shipped yet"
    if done.rolled_up.files:
        rows = counted(done.rolled_up.rows, "row")
        text += f"; made {counted(done.rolled_up.files, 'roll-up')}: {rows}"
    if done.rolled_up.removed:
        text += f"; removed {counted(done.rolled_up.removed, 'old roll-up')}"
    return text
