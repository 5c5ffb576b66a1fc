"""Chooses between the two twins of what is worth compiling; everybody else asks it.

A compiled twin does the same as its pure one, and is built where there is a compiler.
`AQLTELEMETRY_NO_EXTENSIONS=1` leaves it aside. Beside `settings` this is the only module
that reads the environment, since it has to know before there are settings.
"""

from __future__ import annotations

import os
import sys

VARIABLE = "AQLTELEMETRY_NO_EXTENSIONS"
"""Set to 1, true, yes or on, it has the pure twins used."""


def has_interpreter_lock() -> bool:
    """Return whether one thread at a time runs Python code, which recording relies on.

    It is False in a free-threaded Python (3.13 and later, `python3.13t`), unless PYTHON_GIL=1 or
    an extension module has enabled the lock.
    """
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is None or bool(is_enabled())


def _has_compiled() -> bool:
    if not has_interpreter_lock():
        # To load them would enable the lock for the whole process, and warn of that.
        return False
    if os.environ.get(VARIABLE, "").lower() in {"1", "true", "yes", "on"}:
        return False
    try:
        from aqltelemetry.hosts import _exchange  # noqa: F401, PLC0415 - do they load?
        from aqltelemetry.hosts.aiohttp import _requests  # noqa: F401, PLC0415 - do they load?
        from aqltelemetry.hosts.asgi import _connections  # noqa: F401, PLC0415 - do they load?
        from aqltelemetry.hosts.wsgi import _answers  # noqa: F401, PLC0415 - do they load?
        from aqltelemetry.recording import _hot_path  # noqa: F401, PLC0415 - do they load?
        from aqltelemetry.sinks import _rows  # noqa: F401, PLC0415 - do they load?
    except ImportError:
        return False
    return True


HAVE_EXTENSIONS = _has_compiled()
IN_USE = "compiled" if HAVE_EXTENSIONS else "pure Python"
"""Which twins this process uses, in words."""
if not has_interpreter_lock():
    IN_USE = "records nothing: free-threaded Python without the interpreter lock; set PYTHON_GIL=1"
