"""The processes that ship the files of a recording, and that archive them."""

from __future__ import annotations

import os
from importlib.util import find_spec

from aqltelemetry.runtime.helper_process import HelperProcess, Work
from aqltelemetry.settings import Settings, variables
from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY, is_locked, ledger_path
from aqltelemetry.shipping.target import Target
from aqltelemetry.system.logs import log

_VARIABLES = ("AQLTELEMETRY_SHIP_HOST", "AQLTELEMETRY_SHIP_SERVICE", "AQLTELEMETRY_SHIP_INSTANCE")


def shipping_process(directory: str, url: str) -> HelperProcess:
    """Return the process that ships the files of a directory to a destination, which is a URL."""
    state = os.path.join(directory, STATE_DIRECTORY)
    ledger = ledger_path(state, Target(url).identity)
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    environ = {**given, "AQLTELEMETRY_SHIP_TO": url}
    work = Work("ship", "aqltelemetry.shipping.child", environ, lambda: is_locked(ledger))
    return HelperProcess(directory, work)


def archiving_process(chosen: Settings) -> HelperProcess | None:
    """Return the process that archives files which are old enough, and makes roll-ups.

    None, and a line in the log, if the extra for it is not installed.
    """
    if find_spec("pyarrow") is None:
        log.warning("files are not archived: that needs `pip install aqltelemetry[pyarrow]`")
        return None
    names = ("compact_after_s", "compact_rollup_s", "keep_rollups_s")
    environ = variables({name: repr(getattr(chosen, name)) for name in names})
    lock = os.path.join(chosen.directory, ".archive-child")
    return HelperProcess(
        chosen.directory,
        Work("archive", "aqltelemetry.archive.child", environ, lambda: is_locked(lock)),
    )
