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
        from aqltelemetry import (  # noqa: PLC0415 - do they load?
            _aiohttp_requests,  # noqa: F401
            _asgi_connections,  # noqa: F401
            _exchange,  # noqa: F401
            _hot_path,  # noqa: F401
            _rows,  # noqa: F401
            _wsgi_answers,  # noqa: F401
        )
    except ImportError:
        return False
    return True


IS_COMPILED = _has_compiled()
IN_USE = "compiled" if IS_COMPILED else "pure Python"
"""Which twins this process uses, in words."""
if not has_interpreter_lock():
    IN_USE = "records nothing: free-threaded Python without the interpreter lock; set PYTHON_GIL=1"
