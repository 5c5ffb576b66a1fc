"""Which monitor of this process records, and what a forked child does instead."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import ClassVar, Protocol

from aqltelemetry.errors import AlreadyRunningError
from aqltelemetry.recording import recorder
from aqltelemetry.recording.forked_child import ChildSegments
from aqltelemetry.recording.recorder import Recording
from aqltelemetry.settings import Settings
from aqltelemetry.system.threads import WorkerThread


class Running(Protocol):
    """What `Active` uses of a monitor."""

    auto_started: bool

    @property
    def settings(self) -> Settings | None:
        """The options of its recording."""
        ...

    @property
    def is_running(self) -> bool:
        """Whether it records."""
        ...

    @property
    def directory(self) -> str | None:
        """The monitoring directory."""
        ...

    async def make_way(self, timeout_s: float) -> None:
        """Stop for another monitor."""
        ...

    def resume(self) -> None:
        """Record again, in place of another monitor that did not start."""
        ...

    def abandon(self) -> bool:
        """Give up a recording whose event loop is gone; return whether it was."""
        ...

    def abandon_in_child(self) -> ChildSegments | None:
        """Leave everything to the parent process; return what the child's recording uses."""
        ...


class Active:
    """The state of the process: which monitor records. It is kept in the class.

    `replaced` was started automatically, and records until `monitor` has started.
    In a forked child without a monitor, `child` makes the segments of `child_recording`,
    which is None while it is off. `child_settings` are the parent's.
    """

    monitor: Running | None = None
    replaced: Running | None = None
    child: ChildSegments | None = None
    child_recording: Recording | None = None
    child_settings: Settings | None = None
    prepare_child: ClassVar[Callable[[Settings], Callable[[], object]] | None] = None
    """Prepares a child's recording; returns the function that its first record calls."""
    hooked = False

    @classmethod
    def activate(cls, monitor: Running) -> None:
        """Make a monitor the one that records; raise AlreadyRunningError while another one does."""
        running = cls.monitor
        is_automatic = running is not None and running.auto_started and not monitor.auto_started
        if running is not None and not is_automatic and not running.abandon():
            raise AlreadyRunningError(running.directory or "")
        if not cls.hooked:
            # Once, because the hook can't be unregistered.
            os.register_at_fork(after_in_child=cls._forked)
            cls.hooked = True
        cls.monitor, cls.replaced = monitor, running if is_automatic else None

    @classmethod
    def check_active(cls, monitor: Running) -> None:
        """Raise AlreadyRunningError if the program has started another monitor since."""
        if cls.monitor is not monitor:
            raise AlreadyRunningError(monitor.directory or "")

    @classmethod
    def check_wanted(cls, monitor: Running) -> None:
        """Raise AlreadyRunningError if another monitor has taken over, so that this one is late."""
        if monitor not in {cls.monitor, cls.replaced}:
            raise AlreadyRunningError(monitor.directory or "")

    @classmethod
    def take_replaced(cls, monitor: Running) -> Running | None:
        """Return the monitor that this one replaces, or None; once."""
        if cls.monitor is not monitor:
            return None
        replaced, cls.replaced = cls.replaced, None
        return replaced if replaced is not None and replaced.is_running else None

    @classmethod
    def deactivate(cls, monitor: Running) -> None:
        """Forget a monitor that does not record; the one that it was to replace goes on."""
        if cls.monitor is monitor:
            cls.monitor = cls.take_replaced(monitor)
        if cls.monitor is not None:
            cls.monitor.resume()
        elif cls.child_recording is not None:
            recorder.install(cls.child_recording)

    @classmethod
    def end_child_recording(cls, thread: WorkerThread) -> None:
        """Close, on a thread, what the child recorded into before it had a monitor."""
        child, cls.child, cls.child_recording = cls.child, None, None
        if child is not None:
            thread.post(child.close)

    @classmethod
    def _forked(cls) -> None:
        # Before anything that may fail, because the current segment is the parent's.
        was_on = recorder.switch_off()
        left = [each for each in (cls.replaced, cls.monitor) if each is not None]
        cls.monitor = cls.replaced = None
        if cls.child is not None:
            cls.child = cls.child.abandon_in_child()
        for each in left:
            cls.child_settings = each.settings or cls.child_settings
            cls.child = each.abandon_in_child() or cls.child
        # If the recording is switched off, the child's stays off: nothing polls there.
        cls.child_recording = (
            cls.child.start_recording() if cls.child is not None and was_on else None
        )
        if cls.child is not None and cls.child_recording is not None:
            recorder.install(cls.child_recording)
            if cls.prepare_child is not None and cls.child_settings is not None:
                cls.child.on_record = cls.prepare_child(cls.child_settings)
