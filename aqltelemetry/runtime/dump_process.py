"""The process that makes dumps of a recording, and the signal that requests one."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType

from aqltelemetry.conditions import SIGNAL, parse_conditions
from aqltelemetry.journal.dir_lock import is_alive
from aqltelemetry.runtime.control_files import ControlFiles
from aqltelemetry.runtime.helper_process import HelperProcess, Work
from aqltelemetry.settings import Settings, variables
from aqltelemetry.system.logs import log
from aqltelemetry.system.threads import start_thread

DUMPS = "dumps"
"""The folder of a monitoring directory in which its dumps are; the process locks it."""
_REQUEST = "aqltelemetry-dump-request"


def dump_process(chosen: Settings) -> HelperProcess:
    """Return the process that makes dumps when the conditions in `with_dump` begin to hold."""
    environ = variables(
        {
            "with_dump": chosen.with_dump,
            "keep_dump_bytes": str(chosen.keep_dump_bytes),
            "journal_dir": chosen.journal_dir,
        }
    )
    folder = Path(chosen.directory, DUMPS)
    work = Work("dump", "aqltelemetry.dumps.child", environ, lambda: is_alive(folder))
    return HelperProcess(chosen.directory, work)


def handle_signal(chosen: Settings) -> None:
    """Request a dump at each SIGUSR2, if `with_dump` says so; called on any thread.

    Only the main thread can do so, which starts a recording or its event loop. The handler of a
    program is left as it is.
    """
    if SIGNAL not in chosen.with_dump:  # most recordings
        return
    asks = any(each.measure == SIGNAL for each in parse_conditions(chosen.with_dump))
    if not asks or threading.current_thread() is not threading.main_thread():
        return
    handler = signal.getsignal(signal.SIGUSR2)
    if handler not in (signal.SIG_DFL, None) and not isinstance(handler, _Handler):
        log.warning("SIGUSR2 requests no dump: the program handles it")
        return
    signal.signal(signal.SIGUSR2, _Handler(chosen.directory))


class _Handler:
    """Requests a dump, on a thread: the disk must not delay what the signal interrupts."""

    def __init__(self, directory: str) -> None:
        self._controls = ControlFiles(directory)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        del number, frame
        try:
            start_thread(self._request, _REQUEST)
        except Exception as exc:  # noqa: BLE001 - the program goes on, wherever it was interrupted
            log.warning("no dump can be requested: %s", exc)

    def _request(self) -> None:
        try:
            self._controls.request_dump()
        except OSError as exc:
            log.warning("no dump can be requested: %s", exc)
        else:
            log.info("process %d requests a dump", os.getpid())
