"""Calls a function at the end of a worker process of `multiprocessing`, billiard or Celery.

A worker of `multiprocessing` or billiard does not run the functions registered with `atexit`,
only the finalizers of `multiprocessing.util`. In the parent process those finalizers run after
the workers were joined; `atexit` may run before. Celery's workers run neither, but send a
signal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

_AFTER_ALL_OTHERS = -100
_OUTERMOST = (("__main__", "<module>"), ("runpy", "_run_module_as_main"))
"""The first frame of a program: of a script or string; of a module (`-m`) or directory."""


def is_left_to_finalizers(call: Callable[[], object]) -> bool:
    """Register a call as a finalizer; return False if the finalizers have run already."""
    util = _finalizers()
    if util is None or util.is_exiting():
        return False
    _finalize(util, call)
    return True


def call_at_end_of_worker(call: Callable[[], object]) -> None:
    """Call a function at the end of this process, if it is a worker."""
    util = _finalizers()
    if util is not None:
        _finalize(util, call)
    celery = sys.modules.get("celery.signals")
    if celery is not None and hasattr(celery, "worker_process_shutdown"):
        celery.worker_process_shutdown.connect(lambda **_: call(), weak=False)


def call_in_worker(call: Callable[[], object]) -> None:
    """Call a function at the start of each worker process that is forked from now on."""
    util = _finalizers()
    if util is not None:
        util.register_after_fork(_Worker, lambda _: call())


def keep_exit_status() -> None:
    """Preserve the exit by SIGINT of a program that an unhandled KeyboardInterrupt ends.

    CPython sets a flag when code ends with that exception. The flag is cleared when a string
    is evaluated later, as the import of psutil does; this function sets it again.
    """
    if _is_ending_interrupted():
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - only a string sets the flag


def _is_ending_interrupted() -> bool:
    traceback = getattr(sys, "last_traceback", None)
    # An interactive session or a test runner may have handled an earlier exception.
    is_interactive = hasattr(sys, "ps1") or sys.flags.inspect or sys.flags.interactive
    if traceback is None or is_interactive:
        return False
    outermost = traceback.tb_frame
    first_frame = (outermost.f_globals.get("__name__"), outermost.f_code.co_name)
    return first_frame in _OUTERMOST and getattr(sys, "last_type", None) is KeyboardInterrupt


class _Worker:
    """The object that `register_after_fork` needs; it must exist after the fork."""


def _finalizers() -> ModuleType | None:
    # If it is not imported, there are no workers.
    util = sys.modules.get("multiprocessing.util")
    return util if hasattr(util, "Finalize") else None  # it may be partly imported


def _finalize(util: ModuleType, call: Callable[[], object]) -> None:
    util.Finalize(None, call, exitpriority=_AFTER_ALL_OTHERS)
