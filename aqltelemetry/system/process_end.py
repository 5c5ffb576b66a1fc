"""Calls something at the end of a process that `multiprocessing` or billiard began.

Such a process runs nothing that was registered with `atexit`, but the finalizers of
`multiprocessing.util`, which billiard shares. In the process that began them they are run
after its workers were joined; `atexit` may come before. Celery's workers run neither, but
send a signal.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType

_AFTER_ALL_OTHERS = -100
_OUTERMOST = (("__main__", "<module>"), ("runpy", "_run_module_as_main"))
"""Where a program begins: a script or a string; a module that `-m` names, or a directory."""


def is_left_to_finalizers(call: Callable[[], object]) -> bool:
    """Leave a call to the finalizers, which are still to come; say whether they are."""
    util = _finalizers()
    if util is None or util.is_exiting():
        return False
    _finalize(util, call)
    return True


def call_at_end_of_worker(call: Callable[[], object]) -> None:
    """Call something at the end of this process, if it is a worker."""
    util = _finalizers()
    if util is not None:
        _finalize(util, call)
    celery = sys.modules.get("celery.signals")
    if celery is not None and hasattr(celery, "worker_process_shutdown"):
        celery.worker_process_shutdown.connect(lambda **_: call(), weak=False)


def call_in_worker(call: Callable[[], object]) -> None:
    """Call something at the start of this process, which was just forked, if it is a worker."""
    util = _finalizers()
    if util is not None:
        util.register_after_fork(_Worker, lambda _: call())


def keep_exit_status() -> None:
    """Have a program that an unhandled KeyboardInterrupt ends still end by SIGINT.

    CPython notes when an evaluation of code ends by that exception, and forgets it with the
    next evaluation of a string, by whatever runs at the exit: psutil, when it is imported.
    """
    if _is_ending_interrupted():
        with suppress(KeyboardInterrupt):
            exec("raise KeyboardInterrupt")  # noqa: S102 - of a string, so that it is noted


def _is_ending_interrupted() -> bool:
    traceback = getattr(sys, "last_traceback", None)
    # Not an earlier one that an interactive session, or a test runner, has handled.
    is_interactive = hasattr(sys, "ps1") or sys.flags.inspect or sys.flags.interactive
    if traceback is None or is_interactive:
        return False
    outermost = traceback.tb_frame
    begun_by = (outermost.f_globals.get("__name__"), outermost.f_code.co_name)
    return begun_by in _OUTERMOST and getattr(sys, "last_type", None) is KeyboardInterrupt


class _Worker:
    """What a call at the start of a worker is registered for: it must outlive the fork."""


def _finalizers() -> ModuleType | None:
    # Where nobody has imported it, there are no workers.
    util = sys.modules.get("multiprocessing.util")
    return util if hasattr(util, "Finalize") else None  # it may be in the middle of its import


def _finalize(util: ModuleType, call: Callable[[], object]) -> None:
    util.Finalize(None, call, exitpriority=_AFTER_ALL_OTHERS)
