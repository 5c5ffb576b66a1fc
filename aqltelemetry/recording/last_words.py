"""What a process says of itself just before its end, where it can still say something.

It is kept in the journal until an autopsy reads it; see `journal.evidence`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType

from aqltelemetry.journal.evidence import EXITED, LAST_WORDS_NAME, has_last_words, write_evidence
from aqltelemetry.recording.in_flight import current_requests
from aqltelemetry.system.clock import epoch_ns, monotonic_ns

_SERVERS = ("gunicorn", "uvicorn", "uvicorn_worker", "aqltelemetry")
_MOST_FRAMES = 30
_PACKAGE = os.path.dirname(os.path.dirname(__file__))
_SIGNAL_HANDLER = "handle_abort"
"""The name of Gunicorn's."""
_WORDS_S = 2.0
_directory: Path | None = None


def keep_in(directory: Path | None) -> None:
    """Write last words into the directory of a writer from now on; None for nowhere."""
    global _directory  # noqa: PLW0603 - there is one recording in a process
    _directory = directory


def say(reason: str, detail: str = "") -> None:
    """Write why this process is about to end, what is in flight, and the frames of its threads.

    May be called in a signal handler of Python. Raises nothing. The first words of the last
    seconds count.
    """
    directory = _directory
    if directory is None or has_last_words(directory, _WORDS_S):
        return
    now_ns = monotonic_ns()
    with suppress(Exception):
        content = {
            "at_ns": epoch_ns(),
            "pid": os.getpid(),
            "reason": reason,
            "detail": detail,
            "in_flight": [
                {"text": each.text, "age_ns": now_ns - each.begin_ns, "thread": each.thread}
                for each in current_requests()
            ],
            "stacks": _stacks(),
        }
        write_evidence(directory, LAST_WORDS_NAME, content)


def say_exit(exc: BaseException | None) -> None:
    """Write that a request ends this process by SystemExit, unless a server raised it to stop."""
    if isinstance(exc, SystemExit) and not _is_of_server(exc):
        say(EXITED, str(exc.code))


def _is_of_server(exc: BaseException) -> bool:
    """Return whether the module of a server raised an exception, as a handler of a signal does."""
    traceback = exc.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    name = "" if traceback is None else str(traceback.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _SERVERS


def _stacks() -> Sequence[dict[str, object]]:
    # `enumerate` would take a lock, which the code that a signal interrupted may hold.
    names = dict(threading._active)  # type: ignore[attr-defined]  # noqa: SLF001
    found: list[dict[str, object]] = []
    for ident, frame in sys._current_frames().items():  # noqa: SLF001 - documented
        thread = names.get(ident)
        if thread is None or not thread.name.startswith("aqltelemetry"):
            found.append(
                {
                    "thread": _number(thread),
                    "name": getattr(thread, "name", ""),
                    "frames": _frames(frame),
                }
            )
    return found


def _number(thread: threading.Thread | None) -> int | None:
    # A forked child keeps the number of its parent's main thread, up to Python 3.12.
    if thread is threading.main_thread():
        return os.getpid()
    return getattr(thread, "native_id", None)


def _frames(frame: FrameType | None) -> Sequence[str]:
    """Return the frames of a thread, the innermost first, without those that say the words."""
    found: list[str] = []
    while frame is not None and len(found) < _MOST_FRAMES:
        code = frame.f_code
        is_own = code.co_filename.startswith(_PACKAGE) or code.co_name == _SIGNAL_HANDLER
        if found or not is_own:
            found.append(f"{code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        frame = frame.f_back
    return found
