"""What Python runs at its start in every process below `aqltelemetry run`.

Has the libraries that serve requests instrumented as soon as they are imported. It
knows the standard library alone, and imports no more than it needs to: the process
may be of another environment, without us, and its own imports must come in the order
they would without us. Whatever fails here, the program runs, unrecorded.
"""

from __future__ import annotations

import importlib
import os
import sys

# What `typing` has, at the cost of importing it in each process.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec
    from types import ModuleType
    from typing import Any

MODE = "AQLTELEMETRY_RUN"
"""Environment variable: `program` for the first Python process, `hosts` for those below it."""
HOSTS = frozenset(
    {
        "aiohttp.web_runner",
        "django.core.handlers.asgi",
        "django.core.handlers.wsgi",
        "flask.app",
        "gunicorn.workers.base",
        "gunicorn.workers.gasgi",
        "litestar.app",
        "starlette.applications",
        "uvicorn.config",
    }
)
"""Modules that `aqltelemetry.instrument` instruments."""
SERVERS = frozenset(
    {"celery", "daphne", "flask", "granian", "gunicorn", "hypercorn", "uvicorn", "waitress-serve"}
)
"""Programs whose first process only starts others, or is recorded once it serves."""
_HERE = os.path.dirname(os.path.abspath(__file__))
_WITH_ARGUMENT = frozenset({"-W", "-X", "--check-hash-based-pycs"})


class ImportWatch:
    """Has modules handed to `aqltelemetry.instrument` once they are imported."""

    def __init__(self, names: frozenset[str]) -> None:
        self._waiting = set(names)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Have the other finders find the module, and its loader tell when it is there."""
        if fullname not in self._waiting:
            return None
        self._waiting.discard(fullname)
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((each for each in found if each is not None), None)
        if spec is not None and spec.loader is not None:
            self._watch(spec.loader)
        return spec

    @staticmethod
    def _watch(loader: Any) -> None:
        execute = loader.exec_module

        def exec_module(module: ModuleType) -> None:
            execute(module)
            _try("instrument", module)

        loader.exec_module = exec_module


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


def _begin() -> None:
    mode = os.environ.get(MODE)
    if mode is None:
        return
    sys.meta_path.insert(0, ImportWatch(HOSTS))
    if mode == "program":
        os.environ[MODE] = "hosts"
        if program_name(sys.orig_argv) not in SERVERS:
            _try("record_program")


def _try(function: str, *arguments: object) -> None:
    try:
        instrument = importlib.import_module("aqltelemetry.instrument")
    except ImportError:  # an environment without us
        return
    try:
        getattr(instrument, function)(*arguments)
    except Exception as exc:  # noqa: BLE001 - the program runs, whatever befalls its telemetry
        sys.stderr.write(f"aqltelemetry: process {os.getpid()} is not recorded: {exc!r}\n")


def _run_shadowed() -> None:
    """Run the sitecustomize of the environment, which ours stands before."""
    ours = sys.modules.pop("sitecustomize", None)
    sys.path[:] = [path for path in sys.path if os.path.abspath(path) != _HERE]
    try:
        importlib.import_module("sitecustomize")
    except ModuleNotFoundError as exc:
        if exc.name != "sitecustomize":
            raise
    finally:
        if ours is not None:
            sys.modules.setdefault("sitecustomize", ours)


if __name__ == "sitecustomize":
    _begin()
    _run_shadowed()
