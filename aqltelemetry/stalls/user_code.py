"""Separates the user's own code from that of Python, of installed packages and of this package."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path
from types import CodeType

from aqltelemetry.stalls.evidence import Line

_OWN = f"{Path(__file__).parent.parent}{os.sep}"
# The demo's service stands for that of a user.
_DEMO = f"{_OWN}demo{os.sep}"
_TYPED = ("<stdin>", "<string>")
_INSTALLED = ("site-packages", "dist-packages")
_LIBRARY = tuple(
    {path for name in ("stdlib", "platstdlib", "scripts") if (path := sysconfig.get_path(name))}
)


@lru_cache(maxsize=4096)
def is_users(file: str) -> bool:
    """Return whether a file is neither of Python, nor of an installed package, nor of this one."""
    if file.startswith(_DEMO):
        return True
    if file.startswith(("<", _OWN)):
        return file in _TYPED
    if any(f"/{name}/" in file for name in _INSTALLED):
        return False
    return not file.startswith(tuple(f"{path}/" for path in _LIBRARY))


def line_of(code: CodeType, number: int | None) -> Line:
    """Return the line of a frame."""
    return Line(code.co_filename, number or code.co_firstlineno, code.co_qualname)


def innermost_of_user(frames: Iterable[tuple[CodeType, int | None]]) -> Line | None:
    """Return the innermost line of the user's code, of frames from the innermost on."""
    for code, number in frames:
        if is_users(code.co_filename):
            return line_of(code, number)
    return None


def innermost(frames: Sequence[tuple[CodeType, int | None]]) -> Line | None:
    """Return the line that runs, of frames from the innermost on."""
    return line_of(*frames[0]) if frames else None
