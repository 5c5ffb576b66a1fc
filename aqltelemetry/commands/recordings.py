"""Opens recordings for commands: times, progress, and errors in the words of options."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

import click

from aqltelemetry.commands.options import missing_extra
from aqltelemetry.errors import MomentError, TelemetryError
from aqltelemetry.observation import ACCOUNT
from aqltelemetry.reading.moments import moment_ns
from aqltelemetry.system.clock import monotonic_ns
from aqltelemetry.system.logs import log

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from aqltelemetry.reading.database import TelemetryDB

_PATIENCE_NS = 500_000_000


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


class LoadProgress:
    """A bar on the error stream, if that is a terminal and the load takes half a second.

    Use it as a context manager; the bar disappears at the end. Without rich, there is none.
    """

    def __init__(
        self, stream: TextIO | None = None, now_ns: Callable[[], int] = monotonic_ns
    ) -> None:
        self._stream = stream or sys.stderr
        self._now_ns = now_ns
        self._begin_ns = now_ns()
        self._stack = ExitStack()
        self._bar: tuple[Progress, TaskID] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._stack.close()

    def files(self, read: int, total: int) -> None:
        """Show that `read` of `total` files are read."""
        self._show("reading files", read, total)

    def stage(self, description: str) -> None:
        """Show what is done next, of which the length is not known."""
        self._show(description, 0, None)

    def _show(self, description: str, done: int, total: int | None) -> None:
        if not self._stream.isatty() or self._now_ns() - self._begin_ns < _PATIENCE_NS:
            return
        if self._bar is None:
            self._bar = self._start()
        if self._bar is not None:
            progress, task = self._bar
            progress.update(
                task, description=description, completed=done, total=total, refresh=True
            )

    def _start(self) -> tuple[Progress, TaskID] | None:
        try:
            from rich.console import Console  # noqa: PLC0415 - an extra, and slow to import
            from rich.progress import Progress  # noqa: PLC0415 - as above
        except ImportError:
            return None
        progress = Progress(console=Console(file=self._stream), transient=True)
        self._stack.enter_context(progress)
        return progress, progress.add_task("")
