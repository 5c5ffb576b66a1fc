"""Shows on the terminal how far a long load is."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from aqltelemetry.system.clock import monotonic_ns

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

_PATIENCE_NS = 500_000_000


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
