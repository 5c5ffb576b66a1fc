"""Chooses between a module in Python and its compiled twin; no other module does.

The compiled twin of `room.module` is `room._module`. It does the same, and is built if there is
a C compiler. `AQLTELEMETRY_NO_EXTENSIONS=1` switches all of them off. The variable is read here,
not in `settings`, since modules are chosen before there are settings.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from types import ModuleType

VARIABLE = "AQLTELEMETRY_NO_EXTENSIONS"
"""Set to 1, true, yes or on, it switches the compiled twins off."""


def has_interpreter_lock() -> bool:
    """Return whether one thread at a time runs Python code, which recording relies on.

    It is False in a free-threaded Python (3.13 and later, `python3.13t`), unless PYTHON_GIL=1 or
    an extension module has enabled the lock.
    """
    is_enabled = getattr(sys, "_is_gil_enabled", None)
    return is_enabled is None or bool(is_enabled())


# Without the lock they are not even loaded: that would enable it for the whole process.
_ARE_ALLOWED = has_interpreter_lock() and os.environ.get(VARIABLE, "").lower() not in {
    *("1", "true", "yes", "on"),
}


def load(name: str) -> ModuleType | None:
    """Return the compiled twin of a module, or None if it can't be used or is switched off."""
    package, _, module = name.rpartition(".")
    try:
        return import_module(f"{package}._{module}") if _ARE_ALLOWED else None
    except ImportError:
        return None


def choose(name: str) -> ModuleType:
    """Return the compiled twin of a module if it can be used, else the module."""
    return load(name) or import_module(name)


HOT_PATH = "aqltelemetry.recording.hot_path"


def have_extensions() -> bool:
    """Return whether the compiled hot path is in use."""
    return load(HOT_PATH) is not None


def in_use() -> str:
    """Return in words which code records."""
    if not has_interpreter_lock():
        return (
            "records nothing: free-threaded Python without the interpreter lock; set PYTHON_GIL=1"
        )
    return "compiled" if have_extensions() else "pure Python"
