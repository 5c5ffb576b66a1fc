"""The process that ships the files of a recording to a destination."""

from __future__ import annotations

import os

from aqltelemetry.runtime.helper_process import HelperProcess, Work
from aqltelemetry.shipping.ledger_lock import STATE_DIRECTORY, is_locked, ledger_path
from aqltelemetry.shipping.target import Target

_VARIABLES = ("AQLTELEMETRY_SHIP_HOST", "AQLTELEMETRY_SHIP_SERVICE", "AQLTELEMETRY_SHIP_INSTANCE")


def shipping_process(directory: str, url: str) -> HelperProcess:
    """Return the process that ships the files of a directory to a destination, which is a URL."""
    state = os.path.join(directory, STATE_DIRECTORY)
    ledger = ledger_path(state, Target(url).identity)
    given = {name: os.environ[name] for name in _VARIABLES if name in os.environ}
    environ = {**given, "AQLTELEMETRY_SHIP_TO": url}
    work = Work("ship", "aqltelemetry.shipping.child", environ, lambda: is_locked(ledger))
    return HelperProcess(directory, work)
