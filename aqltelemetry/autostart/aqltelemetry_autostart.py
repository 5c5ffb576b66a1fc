"""Starts the recording of a process below `aqltelemetry run`, or patches what it serves with.

It uses the standard library only and imports as little as possible: the process may run in an
environment without aqltelemetry, and the order of its own imports must stay the same.
"""

from __future__ import annotations

import importlib
import os
import sys

try:
    import aqltelemetry_notes as notes  # type: ignore[import-not-found]
except ImportError:  # imported as a part of the package
    from aqltelemetry.autostart import aqltelemetry_notes as notes

# As `typing` has it, without importing `typing` in each process.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODE = "AQLTELEMETRY_RUN"
"""Environment variable: `program` for the first Python process; for the processes below it, the
PID of the parent and the parent's kind, `program` or `server`."""
HOSTS = {
    "aiohttp.web_runner": ("aiohttp", "AppRunner"),
    "bottle": ("WSGI", "Bottle"),
    "django.core.handlers.asgi": ("ASGI", "ASGIHandler"),
    "django.core.handlers.wsgi": ("WSGI", "WSGIHandler"),
    "falcon.app": ("WSGI", "App"),
    "falcon.asgi.app": ("ASGI", "App"),
    "flask.app": ("WSGI", "Flask"),
    "gunicorn.arbiter": ("Gunicorn's master", "Arbiter"),
    "gunicorn.workers.base": ("Gunicorn", "Worker"),
    "gunicorn.workers.gasgi": ("Gunicorn", "ASGIWorker"),
    "litestar.app": ("ASGI", "Litestar"),
    "pyramid.router": ("WSGI", "Router"),
    "quart.app": ("ASGI", "Quart"),
    "sanic.app": ("ASGI", "Sanic"),
    "starlette.applications": ("ASGI", "Starlette"),
    "uvicorn.config": ("Uvicorn", "Config"),
    "uvicorn.supervisors.multiprocess": ("Uvicorn's parent", "Process"),
    "werkzeug.middleware.dispatcher": ("WSGI", "DispatcherMiddleware"),
}
"""Modules that `aqltelemetry.hosts.autopatch` patches: the kind of host, and the class."""
SERVERS = frozenset(
    {
        *("aqltelemetry", "daphne", "flask", "granian", "gunicorn", "hypercorn"),
        *("uvicorn", "waitress-serve"),
    }
)
"""Programs whose first process only starts others, or is recorded when it serves."""
WORKERS = frozenset(
    {
        *("arq", "celery", "dramatiq", "huey_consumer", "huey_consumer.py", "procrastinate"),
        *("rq", "saq", "taskiq"),
    }
)
"""Programs that work in the background; recorded in every process of the run."""
_PACKAGE = "aqltelemetry"
_WITH_ARGUMENT = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_FORK_SERVER = "multiprocessing.forkserver"
_SPAWNED = "--multiprocessing-fork"


class ImportWatch:
    """A finder that patches the modules of `HOSTS` when they are imported."""

    def __init__(self, names: frozenset[str]) -> None:
        self._waiting = set(names)

    def add(self, name: str) -> None:
        """Watch for another module, unless it is imported already."""
        if name not in sys.modules:
            self._waiting.add(name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return the spec that the other finders return, with the loader wrapped."""
        if fullname not in self._waiting:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def imported(self, module: ModuleType) -> None:
        """Patch a module, once."""
        if module.__name__ in self._waiting:
            self._waiting.discard(module.__name__)
            if module.__name__ == _PACKAGE:
                # The package is complete: the threads of the recording, which import parts of
                # it, must not wait for the import lock.
                module.__spec__._initializing = False  # type: ignore[union-attr]  # noqa: SLF001
                _record()
            else:
                # The patch imports the package, which does not count as an import by the program.
                is_watched = _PACKAGE in self._waiting
                self._waiting.discard(_PACKAGE)
                _call("patch", module)
                if is_watched:
                    self.add(_PACKAGE)


class _Loader:
    """Loads a module with another loader, and then patches it."""

    def __init__(self, loader: Any, watch: ImportWatch) -> None:
        self._loader = loader
        self._watch = watch

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        create = getattr(self._loader, "create_module", None)
        made: ModuleType | None = create(spec) if create is not None else None
        return made

    def exec_module(self, module: ModuleType) -> None:
        if module.__spec__ is not None:  # the program sees its own loader only
            module.__spec__.loader = module.__loader__ = self._loader
        self._loader.exec_module(module)
        self._watch.imported(module)


def program_name(arguments: Sequence[str]) -> str:
    """Return the script, module or command that a Python interpreter was given to run."""
    rest = iter(arguments[1:])
    for argument in rest:
        if argument == "-m":
            return next(rest, "").split(".")[0]
        if argument in _WITH_ARGUMENT:
            next(rest, None)
        elif argument == "-c" or not argument.startswith("-"):
            return os.path.basename(argument)
    return ""


def is_program(mode: str, pid: int, arguments: Sequence[str]) -> bool:
    """Return whether a process is recorded even if it serves no requests.

    True for the first process of the run, also after an `exec`, for the workers that
    `multiprocessing` starts for such a process, and for programs in `WORKERS`.
    """
    above, _, kind = mode.partition("/")
    if mode == "program" or above == str(pid):
        return program_name(arguments) not in SERVERS
    if program_name(arguments) in WORKERS:
        return True
    is_worker = _SPAWNED in arguments or any(_FORK_SERVER in each for each in arguments)
    return kind == "program" and is_worker


def begin() -> None:
    """Watch the imports of this process, and record it at once if it is a program; once."""
    mode, pid = os.environ.get(MODE), os.getpid()
    if mode is None or any(isinstance(each, ImportWatch) for each in sys.meta_path):
        return
    notes.note("started", " ".join(sys.orig_argv))
    recorded = is_program(mode, pid, sys.orig_argv)
    watch = ImportWatch(frozenset(HOSTS))
    sys.meta_path.insert(0, watch)
    os.environ[MODE] = f"{pid}/{'program' if recorded else 'server'}"
    if recorded:
        _record()
    elif is_watched(mode, sys.orig_argv):
        watch.add(_PACKAGE)


def is_watched(mode: str, arguments: Sequence[str]) -> bool:
    """Return whether a process is recorded when it imports this package.

    Not a server, which imports it while it loads an application and is recorded when it
    serves, nor a process that `multiprocessing` starts for a server.
    """
    is_of_server = mode.endswith("/server") and _SPAWNED in arguments
    return program_name(arguments) not in SERVERS and not is_of_server


def _record() -> None:
    os.environ[MODE] = f"{os.getpid()}/program"
    if _call("record_program"):
        notes.note("recorded")


def _call(function: str, *arguments: object) -> bool:
    """Call a function of `autopatch`; return whether that succeeded."""
    try:
        autopatch = importlib.import_module("aqltelemetry.hosts.autopatch")
    except ImportError:
        notes.note("failed", "aqltelemetry is not installed for it")
        return False
    try:
        return getattr(autopatch, function)(*arguments) is not False
    except Exception as exc:  # noqa: BLE001 - the program runs even if its telemetry fails
        notes.note("failed", repr(exc))
        sys.stderr.write(f"aqltelemetry: process {os.getpid()} is not recorded: {exc!r}\n")
        return False
