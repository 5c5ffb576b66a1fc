"""`aqltelemetry dump`: copies the last minute of a recording aside, now or on a condition."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.commands.options import (
    checked_settings,
    missing_extra,
    takes_existing_directory,
    takes_journal_dir,
)
from aqltelemetry.conditions import CONDITIONS_FORM, Condition, parse_conditions
from aqltelemetry.errors import TelemetryError
from aqltelemetry.quantities import parse_seconds
from aqltelemetry.settings import Settings
from aqltelemetry.system.clock import pause

if TYPE_CHECKING:
    from aqltelemetry.dumps.watch import Watch

_EXTRA = "pandas"
_MAX_S = 7 * 86400


@click.command()
@takes_existing_directory
@click.option(
    "--last",
    default="60s",
    show_default=True,
    metavar="TIME",
    help="How much to copy: all files and all of the journal that overlap this time.",
)
@click.option("--reason", default="", metavar="TEXT", help="Why, as a part of the dump's name.")
@click.option(
    "--when",
    metavar="CONDITIONS",
    help="Watch DIR until Ctrl-C, and make a dump of a minute when one of these begins to hold.",
)
@takes_journal_dir
def dump(
    directory: Path, last: str, reason: str, when: str | None, journal_dir: str | None
) -> None:
    """Copy the last minute of a recording aside.

    A dump is a directory DIR/dumps/<time>-<reason> that all commands read like a
    recording. What is not published yet is in it too. Retention does not remove it;
    the 10 newest dumps are kept, of at most AQLTELEMETRY_KEEP_DUMP_BYTES, 256 MiB by
    default.

    \b
    Conditions, separated by ";", are about the last minute of each process or label:
      lag > 0.5s                        the longest lag of the event loop
      rss > 2g                          memory
      p99 /orders/{id} [GET] > 2s       or p50, max; without a label: of each label
      5xx > 5%                          responses with status 5xx, also of a label
      killed                            a recorded process died

    The option `with_dump` of the recording does what --when does, in a process that
    the service starts; there, SIGUSR2 is a condition too.
    """  # noqa: D301 - click's mark for lines that are not to be filled
    chosen = checked_settings(directory, journal_dir)
    last_s = _seconds(last)
    conditions = None if when is None else _conditions(when)
    try:
        if conditions is None:
            _dump(directory, chosen, last_s, reason)
        else:
            _watch(directory, chosen, conditions)
    except ImportError as exc:
        raise missing_extra(_EXTRA, exc) from exc
    except (OSError, TelemetryError) as exc:
        raise click.ClickException(f"no dump can be made: {exc}") from exc


def _dump(directory: Path, chosen: Settings, last_s: float, reason: str) -> None:
    from aqltelemetry.dumps import kept  # noqa: PLC0415 - it needs an extra
    from aqltelemetry.dumps.making import Order, make  # noqa: PLC0415 - it needs an extra

    most_bytes = chosen.keep_dump_bytes
    path = make(
        Order(
            str(directory),
            reason,
            last_s,
            journal_dir=chosen.journal_dir,
            most_bytes=most_bytes,
        )
    )
    kept.remove_oldest(str(directory), keep_bytes=most_bytes)
    click.echo(f"made {path}")
    click.echo(f"aqltelemetry report {path}")


def _watch(directory: Path, chosen: Settings, conditions: Sequence[Condition]) -> None:
    from aqltelemetry.dumps.watch import Job, Watch  # noqa: PLC0415 - it needs an extra

    watch = Watch(Job(str(directory), conditions, chosen.keep_dump_bytes, chosen.journal_dir))
    click.echo(f"watching {directory} for {'; '.join(each.text for each in conditions)}")
    try:
        _follow(watch)
    except KeyboardInterrupt:
        click.echo()


def _follow(watch: Watch) -> None:
    """Look again and again, until Ctrl-C."""
    from aqltelemetry.dumps.watch import INTERVAL_S  # noqa: PLC0415 - it needs an extra

    while True:
        path = watch.step()
        if path is not None:
            click.echo(f"made {path}")
        pause(INTERVAL_S)


def _seconds(text: str) -> float:
    try:
        seconds = parse_seconds(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= _MAX_S:
        raise click.UsageError(f"--last {text!r} must be a time of at most 7 days, such as 5m")
    return seconds


def _conditions(text: str) -> Sequence[Condition]:
    try:
        return parse_conditions(text)
    except ValueError as exc:
        raise click.UsageError(f"--when {text!r} must be {CONDITIONS_FORM}: {exc}") from exc
