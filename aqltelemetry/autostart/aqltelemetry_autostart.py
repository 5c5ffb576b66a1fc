"""Has a process below `aqltelemetry run` instrumented, as far as it serves requests.

It knows the standard library alone, and imports no more than it needs to: the process
may be of another environment, without us, and its own imports must come in the order
they would without us.
"""

from __future__ import annotations

import importlib
import os
import sys

try:
    import aqltelemetry_notes as notes  # type: ignore[import-not-found]
except ImportError:  # imported as a part of the package
    from aqltelemetry.autostart import aqltelemetry_notes as notes

# What `typing` has, at the cost of importing it in each process.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODE = "AQLTELEMETRY_RUN"
"""Environment variable: `program` for the first Python process; for those below it, the PID
of the one above, and whether that is a `program` or a `server`."""
HOSTS = {
    "aiohttp.web_runner": ("aiohttp", "AppRunner"),
    "bottle": ("WSGI", "Bottle"),
    "django.core.handlers.asgi": ("ASGI", "ASGIHandler"),
    "django.core.handlers.wsgi": ("WSGI", "WSGIHandler"),
    "falcon.app": ("WSGI", "App"),
    "falcon.asgi.app": ("ASGI", "App"),
    "flask.app": ("WSGI", "Flask"),
    "gunicorn.workers.base": ("Gunicorn", "Worker"),
    "gunicorn.workers.gasgi": ("Gunicorn", "ASGIWorker"),
    "litestar.app": ("ASGI", "Litestar"),
    "pyramid.router": ("WSGI", "Router"),
    "quart.app": ("ASGI", "Quart"),
    "sanic.app": ("ASGI", "Sanic"),
    "starlette.applications": ("ASGI", "Starlette"),
    "uvicorn.config": ("Uvicorn", "Config"),
    "werkzeug.middleware.dispatcher": ("WSGI", "DispatcherMiddleware"),
}
"""Modules that `aqltelemetry.hosts.autopatch` patches: the kind of host, and the class."""
SERVERS = frozenset(
    {
        *("aqltelemetry", "daphne", "flask", "granian", "gunicorn", "hypercorn"),
        *("uvicorn", "waitress-serve"),
    }
)
"""Programs whose first process only starts others, or is recorded once it serves."""
WORKERS = frozenset(
    {
        *("arq", "celery", "dramatiq", "huey_consumer", "huey_consumer.py", "procrastinate"),
        *("rq", "saq", "taskiq"),
    }
)
"""Programs that do work in the background: recorded wherever they are started."""
_PACKAGE = "aqltelemetry"
_WITH_ARGUMENT = frozenset({"-W", "-X", "--check-hash-based-pycs"})
_FORK_SERVER = "multiprocessing.forkserver"
_SPAWNED = "--multiprocessing-fork"


class ImportWatch:
    """Finds modules as the other finders do, and has them instrumented when imported."""

    def __init__(self, names: frozenset[str]) -> None:
        self._waiting = set(names)

    def add(self, name: str) -> None:
        """Watch for one more module, unless it was imported."""
        if name not in sys.modules:
            self._waiting.add(name)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Have the other finders find a module, and put a loader of ours before theirs."""
        if fullname not in self._waiting:
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and hasattr(spec.loader, "exec_module"):
            spec.loader = _Loader(spec.loader, self)  # type: ignore[assignment]
        return spec

    def imported(self, module: ModuleType) -> None:
        """Have a module instrumented, once."""
        if module.__name__ in self._waiting:
            self._waiting.discard(module.__name__)
            if module.__name__ == _PACKAGE:
                # All of it is imported: our threads, which import parts of it, need not wait.
                module.__spec__._initializing = False  # type: ignore[union-attr]  # noqa: SLF001
                _record()
            else:
                # What we import is not imported by the program.
                is_watched = _PACKAGE in self._waiting
                self._waiting.discard(_PACKAGE)
                _call("patch", module)
                if is_watched:
                    self.add(_PACKAGE)


class _Loader:
    """Loads a module as another loader does."""

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
        if module.__spec__ is not None:  # nobody is to see ours afterwards
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
    """Say whether a process is to be recorded though it may serve nothing.

    That is the first one, also after it has replaced itself by another program,
    what `multiprocessing` starts for such a one, and any that does work in the background.
    """
    above, _, kind = mode.partition("/")
    if mode == "program" or above == str(pid):
        return program_name(arguments) not in SERVERS
    if program_name(arguments) in WORKERS:
        return True
    is_worker = _SPAWNED in arguments or any(_FORK_SERVER in each for each in arguments)
    return kind == "program" and is_worker


def begin() -> None:
    """Watch what this process imports, and record it at once if it is a program; once."""
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
    """Say whether a process is to be recorded once it imports this package.

    Then it has something to record. A server does so while it loads an application, and is
    recorded once it serves; and so does what `multiprocessing` starts for a server.
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
    except Exception as exc:  # noqa: BLE001 - the program runs, whatever fails in its telemetry
        notes.note("failed", repr(exc))
        sys.stderr.write(f"aqltelemetry: process {os.getpid()} is not recorded: {exc!r}\n")
        return False
