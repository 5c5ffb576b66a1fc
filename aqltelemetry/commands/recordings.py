"""Opens recordings for commands: the options of time, and errors in the words of options."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from aqltelemetry.commands.options import missing_extra
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from aqltelemetry.reading.database import TelemetryDB


def parse_moment(option: str, text: str | None) -> int | None:
    """Return the time of an option as nanoseconds since the epoch; raises UsageError."""
    try:
        return None if text is None else moment_ns(text, option)
    except MomentError as exc:
        raise click.UsageError(f"{option} {text!r} {exc.rule}") from exc


def open_recording(  # noqa: PLR0913 - as TelemetryDB
    directories: Sequence[Path],
    since_ns: int | None = None,
    until_ns: int | None = None,
    journal_dir: str | None = None,
    *,
    pids: Iterable[int] | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> TelemetryDB:
    """Load recordings, live and without logging; the options are those of TelemetryDB.

    Files that could not be read are in `not_read()`; the caller reports them. Raises
    ClickException.
    """
    try:
        from aqltelemetry.reading.csv_frames import ForeignFileWarning  # noqa: PLC0415 - slow
        from aqltelemetry.reading.database import TelemetryDB  # noqa: PLC0415 - as above
    except ImportError as exc:
        raise missing_extra("pandas", exc) from exc
    log.addHandler(logging.NullHandler())
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ForeignFileWarning)
            db = TelemetryDB(
                directories,
                since=since_ns,
                until=until_ns,
                pids=pids,
                live=True,
                journal_dir=journal_dir,
                progress=progress,
            )
            for prefix in (*db.prefixes(), ACCOUNT):
                db.rows(prefix, missing_ok=True)
    except TelemetryError as exc:
        raise click.ClickException(str(exc)) from exc
    return db
