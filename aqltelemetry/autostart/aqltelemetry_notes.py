"""Writes notes about a Python process for the `aqltelemetry run` above it.

Every version of Python can import this module. The notes go to a file in memory that `run`
holds open, so they disappear when `run` ends, even if it is killed.
"""

import os

VARIABLE = "AQLTELEMETRY_RUN_ID"
"""Environment variable: the run's identifier, its PID, and its file descriptor of the notes."""
_MAX_BYTES = 1 << 20
_MAX_TEXT = 300


def note(kind, text=""):  # type: (str, str) -> None  # noqa: ANN001, ANN201, RUF100
    """Append a note about this process; do nothing if that is not possible."""
    try:
        run, pid, fd = os.environ.get(VARIABLE, "").split("/")
        path = "/proc/%d/fd/%d" % (int(pid), int(fd))  # noqa: UP031 - as above
        # In another PID namespace the path may belong to another process.
        if os.readlink(path) != "/memfd:aqltelemetry-%s (deleted)" % run:  # noqa: UP031
            return
        line = "%d\t%s\t%s\n" % (os.getpid(), kind, " ".join(text.split())[:_MAX_TEXT])  # noqa: UP031
        written = os.open(path, os.O_WRONLY | os.O_APPEND)
        try:
            if os.fstat(written).st_size < _MAX_BYTES:
                os.write(written, line.encode("utf-8", "replace"))
        finally:
            os.close(written)
    except (OSError, ValueError, UnicodeError):
        pass
