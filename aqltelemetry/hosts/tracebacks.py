"""Shortens tracebacks: an exception that passes through a host shows one frame of it at most."""

from __future__ import annotations

import os
from types import TracebackType

_ROOM = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Compiled modules give the path of their source relative to the directory of the build.
_COMPILED_ROOM = "aqltelemetry/hosts/"


def keep_first_frame(exc: BaseException) -> None:
    """Remove the hosts' frames from a traceback, except one at its beginning.

    Call it where the outermost function of a host catches the exception, so that the traceback
    begins with the frame of that function.
    """
    kept = exc.__traceback__
    while kept is not None:
        following = kept.tb_next
        while following is not None and _is_of_a_host(following):
            following = following.tb_next
        if following is not kept.tb_next:
            kept.tb_next = following
        kept = following


def _is_of_a_host(traceback: TracebackType) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file.startswith((_ROOM, _COMPILED_ROOM))
