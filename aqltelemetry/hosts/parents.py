"""Notes how workers ended, in the processes that start them below `aqltelemetry run`.

Gunicorn's master has a hook for it. The parent process of `uvicorn --workers` has none, so the
class by which it starts, kills and reaps its workers is patched.
"""

from __future__ import annotations

import functools
from contextlib import suppress
from typing import Any

from aqltelemetry.hosts import gunicorn
from aqltelemetry.journal.exit_note import note_exit
from aqltelemetry.journal.location import all_roots
from aqltelemetry.settings import settings

_UNANSWERED = "_aqltelemetry_unanswered"


def patch_gunicorn(arbiter_class: Any) -> None:
    """Add the hook `child_exit` to each configuration that Gunicorn's master loads."""
    setup = arbiter_class.setup

    @functools.wraps(setup)
    def set_up(arbiter: Any, *arguments: Any) -> None:
        setup(arbiter, *arguments)
        with suppress(Exception):  # another version of Gunicorn
            gunicorn.add_child_exit(arbiter.cfg)

    arbiter_class.setup = set_up


def patch_uvicorn(process_class: Any) -> None:
    """Note the end of each worker that uvicorn's parent process reaps."""
    kill, join = process_class.kill, process_class.join

    @functools.wraps(kill)
    def kill_noted(process: Any) -> None:
        # It kills workers that have ended too. One that runs did not answer in time.
        with suppress(Exception):
            setattr(process, _UNANSWERED, process.exitcode is None)
        kill(process)

    @functools.wraps(join)
    def join_noted(process: Any) -> None:
        join(process)
        with suppress(Exception):  # the parent process must go on
            _note_uvicorn(process)

    process_class.kill, process_class.join = kill_noted, join_noted


def _note_uvicorn(process: Any) -> None:
    if not process.exitcode:
        return
    timeout_s = None
    if getattr(process, _UNANSWERED, False):
        timeout_s = float(getattr(process.config, "timeout_worker_healthcheck", 5))
    chosen = settings()
    roots = all_roots(chosen.directory, chosen.journal_dir)
    note_exit(roots, process.pid, process.exitcode, "uvicorn", timeout_s)
