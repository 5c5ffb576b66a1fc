"""Tracebacks of exceptions that pass through a host: of its own frames, only one is left."""

from __future__ import annotations

import os
from types import TracebackType

_ROOM = os.path.dirname(os.path.abspath(__file__)) + os.sep
# Compiled modules name their source by its path below the directory they were built in.
_COMPILED_ROOM = "aqltelemetry/hosts/"


def keep_first_frame(exc: BaseException) -> None:
    """Remove the hosts' frames from a traceback, except one that it begins with.

    To be called where the exception is caught, by the outermost function of a host, whose
    frame the traceback then begins with.
    """
    kept = exc.__traceback__
    while kept is not None:
        following = kept.tb_next
        while following is not None and _is_ours(following):
            following = following.tb_next
        if following is not kept.tb_next:
            kept.tb_next = following
        kept = following


def _is_ours(traceback: TracebackType) -> bool:
    file = traceback.tb_frame.f_code.co_filename
    return file.startswith((_ROOM, _COMPILED_ROOM))
