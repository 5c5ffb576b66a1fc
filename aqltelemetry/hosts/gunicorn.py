"""Records each worker of Gunicorn: the hooks behind `aqltelemetry.gunicorn`.

A worker's application is wrapped after the fork, once it is loaded, as an aiohttp, ASGI or WSGI
application, depending on the kind of the worker. Gunicorn's own hooks for requests are not
used: some workers never call them, and none waits for the body of the response.
"""

from __future__ import annotations

import functools
import inspect
import os
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from types import FrameType
from typing import Any

from aqltelemetry.errors import NotRunningError, StateError
from aqltelemetry.hosts.lifecycle import log_failed_start, log_failed_stop
from aqltelemetry.journal.evidence import ABORTED
from aqltelemetry.journal.exit_note import note_exit
from aqltelemetry.journal.location import all_roots
from aqltelemetry.recording import last_words
from aqltelemetry.runtime import background
from aqltelemetry.settings import settings
from aqltelemetry.system.threads import no_greenlet_goes_on

__all__ = (
    "child_exit",
    "extend",
    "post_request",
    "post_worker_init",
    "pre_request",
    "worker_exit",
)

_PREFIX = "aqltelemetry_"
# Gunicorn's name of the module of a configuration file.
_FILE_MODULE = "__config__"


def extend(namespace: MutableMapping[str, Any]) -> None:
    """Add the hooks to those that a configuration file has; call it at the end of the file.

        extend(globals())

    A hook that the file has runs before the one that is added, since it may replace the
    application or still record something.

    Parameters:
        namespace: The variables of the configuration.

    Raises:
        OptionError: For a wrong variable `aqltelemetry_...` of the configuration, which stops
            Gunicorn before it serves.
    """
    _check(_options_in(namespace))
    for hook in (post_worker_init, worker_exit, child_exit):
        present = namespace.get(hook.__name__)
        if isinstance(present, str):  # Gunicorn accepts the name of a hook too
            present = pkgutil.resolve_name(present)
        if present is None or present is hook:
            namespace[hook.__name__] = hook
        else:
            namespace[hook.__name__] = _in_turn(present, hook)


def post_worker_init(worker: Any) -> None:
    """Record the requests of a worker; a failure is logged, and the worker serves unrecorded.

    Gunicorn calls it in each worker when the application is loaded.

    Raises:
        OptionError: For a wrong variable `aqltelemetry_...` of the configuration.
    """
    options = _options(worker)
    _check(options)
    with log_failed_start("worker"):
        _wrap(worker, options)
    with suppress(Exception):  # another version of Gunicorn
        # It calls this in a worker that did not answer in time, before it ends.
        worker.cfg.set("worker_abort", _in_turn(_worker_abort, worker.cfg.worker_abort))


def pre_request(worker: Any, req: Any) -> None:
    """Log the request at the debug level, as Gunicorn does by default.

    It exists so that a configuration may import all hooks in one line.
    """
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker: object, req: object, environ: object, resp: object) -> None:
    """Do nothing, as Gunicorn does by default; see `pre_request`."""


def worker_exit(server: object, worker: object) -> None:
    """Stop and publish the recording of a worker; Gunicorn calls it when the worker exits."""
    del server, worker
    # Greenlets of gevent's workers may still handle requests where a quick stop was requested.
    with log_failed_stop(), suppress(NotRunningError), no_greenlet_goes_on():
        background.stop()


def child_exit(server: object, worker: Any) -> None:
    """Note how a worker ended, for its autopsy; Gunicorn calls it in the master process."""
    del server
    with suppress(Exception):  # the master process must go on
        options = _options(worker)
        directory = options.get("monitoring_dir")
        given: Any = {name: options[name] for name in ("journal_dir",) if name in options}
        chosen = settings(directory, given)
        status = _wait_status(sys._getframe(1))  # noqa: SLF001 - the hook is not given it
        code = None if status is None else os.waitstatus_to_exitcode(status)
        timeout_s = float(worker.cfg.timeout) if getattr(worker, "aborted", False) else None
        if code != 0 or timeout_s is not None:
            note_exit(
                all_roots(chosen.directory, chosen.journal_dir),
                worker.pid,
                code,
                "Gunicorn",
                timeout_s,
            )


def add_child_exit(cfg: Any) -> None:
    """Add `child_exit` to the hooks of a configuration that has been loaded."""
    if cfg.child_exit is not child_exit:
        cfg.set("child_exit", _in_turn(cfg.child_exit, child_exit))


def _wait_status(frame: FrameType | None) -> int | None:
    """Return the status of the child that Gunicorn reaps in a frame around this one."""
    while frame is not None and frame.f_code.co_name != "reap_workers":
        frame = frame.f_back
    status = None if frame is None else frame.f_locals.get("status")
    return status if isinstance(status, int) else None


def _worker_abort(worker: object) -> None:
    del worker
    last_words.say(ABORTED)


def _in_turn(first: Callable[..., None], second: Callable[..., None]) -> Callable[..., None]:
    """Return a hook that calls two hooks."""

    @functools.wraps(first)  # Gunicorn counts a hook's parameters
    def hook(*arguments: object) -> None:
        try:
            first(*arguments)
        finally:
            second(*arguments)

    return hook


def _options(worker: Any) -> dict[str, Any]:
    """Return the options that the configuration of a worker gives as variables."""
    location = str(worker.cfg.config)
    kind, _, name = location.partition(":")
    module = sys.modules.get(name if kind == "python" else _FILE_MODULE)
    return _options_in(vars(module) if module else {})


def _options_in(namespace: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        variable.removeprefix(_PREFIX): value
        for variable, value in namespace.items()
        if variable.startswith(_PREFIX)
    }
    if "dir" in options:
        options["monitoring_dir"] = options.pop("dir")
    return options


def _check(options: Mapping[str, Any]) -> None:
    """Raise OptionError for a wrong option, which stops Gunicorn before it serves."""
    of_hosts = ("monitoring_dir", "with_ttfb", "template")
    others: Any = {name: value for name, value in options.items() if name not in of_hosts}
    settings(options.get("monitoring_dir"), others, {})


def _wrap(worker: Any, options: dict[str, Any]) -> None:
    packages = {each.__module__.split(".")[0] for each in type(worker).__mro__}
    if hasattr(worker, "asgi"):
        worker.asgi = _asgi(worker.asgi, options)
    elif "aiohttp" in packages:
        worker.wsgi = _aiohttp(worker.wsgi, options)
    elif packages & {"uvicorn", "uvicorn_worker"}:
        worker.wsgi = _asgi(worker.wsgi, options)
    else:
        from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware  # noqa: PLC0415 - one kind of worker needs it

        worker.wsgi = TelemetryMiddleware(worker.wsgi, **options)


def _asgi(app: Any, options: dict[str, Any]) -> Any:
    from aqltelemetry.hosts.asgi.middleware import TelemetryMiddleware  # noqa: PLC0415 - as above

    return TelemetryMiddleware(app, **options)


def _aiohttp(app: Any, options: dict[str, Any]) -> Any:
    from aqltelemetry.hosts.aiohttp.setup import setup  # noqa: PLC0415 - as above

    def set_up(made: Any) -> Any:
        # A StateError says that the application has called `setup` itself.
        with log_failed_start("worker"), suppress(StateError):
            setup(getattr(made, "app", made), **options)
        return made

    if not inspect.iscoroutinefunction(app):
        return set_up(app)
    make: Callable[[], Awaitable[Any]] = app

    async def make_and_set_up() -> Any:
        return set_up(await make())

    return make_and_set_up
