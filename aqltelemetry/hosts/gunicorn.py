"""The Gunicorn host: `gunicorn -c python:aqltelemetry.gunicorn app:app`.

Or, in a configuration of one's own, which may have hooks already:

    aqltelemetry_dir = "_monitoring"

    from aqltelemetry.gunicorn import extend

    extend(globals())

Each worker's application is wrapped once it is loaded, after the fork: as an
aiohttp, ASGI or WSGI application, by the kind of the worker. Not by Gunicorn's
own hooks for requests, since some workers never call them, and none waits for
the body. Options are what the configuration calls `aqltelemetry_dir`,
`aqltelemetry_interval_s` and so on, or else environment variables,
AQLTELEMETRY_DIR and so on.
"""

from __future__ import annotations

import functools
import inspect
import pkgutil
import sys
from collections.abc import Awaitable, Callable, Mapping, MutableMapping
from contextlib import suppress
from typing import Any

from aqltelemetry.errors import NotRunningError, StateError
from aqltelemetry.hosts.lifecycle import log_failed_start, log_failed_stop
from aqltelemetry.runtime import background
from aqltelemetry.settings import settings
from aqltelemetry.system.threads import no_greenlet_goes_on

__all__ = ("extend", "post_request", "post_worker_init", "pre_request", "worker_exit")

_PREFIX = "aqltelemetry_"
# What Gunicorn names a configuration that is a file.
_FILE_MODULE = "__config__"


def extend(namespace: MutableMapping[str, Any]) -> None:
    """Add our hooks to those that a configuration has: `extend(globals())` at its end.

    Its own run first, as they may replace the application or record something still.
    Raises OptionError for a wrong option of the configuration.
    """
    _check(_named(namespace))
    for ours in (post_worker_init, worker_exit):
        theirs = namespace.get(ours.__name__)
        if isinstance(theirs, str):  # Gunicorn takes the name of a hook too
            theirs = pkgutil.resolve_name(theirs)
        namespace[ours.__name__] = ours if theirs in (None, ours) else _both(theirs, ours)


def post_worker_init(worker: Any) -> None:
    """Record a worker's requests; where that fails, it serves unrecorded.

    Raises OptionError for a wrong option of the configuration.
    """
    options = _options(worker)
    _check(options)
    with log_failed_start("worker"):
        _wrap(worker, options)


def pre_request(worker: Any, req: Any) -> None:
    """Do what Gunicorn does by itself; here so that a line that imports all hooks works.

    Requests are recorded by what wraps the application, once.
    """
    worker.log.debug("%s %s", req.method, req.path)


def post_request(worker: object, req: object, environ: object, resp: object) -> None:
    """Do nothing, as Gunicorn by itself; here for the reason that `pre_request` is."""


def worker_exit(server: object, worker: object) -> None:
    """Publish what a worker recorded, where its exit comes by here."""
    del server, worker
    # gevent's workers go on with requests meanwhile, where they were told to be quick.
    with log_failed_stop(), suppress(NotRunningError), no_greenlet_goes_on():
        background.stop()


def _both(theirs: Callable[..., None], ours: Callable[..., None]) -> Callable[..., None]:
    @functools.wraps(theirs)  # Gunicorn counts a hook's parameters
    def hook(*arguments: object) -> None:
        try:
            theirs(*arguments)
        finally:
            ours(*arguments)

    return hook


def _options(worker: Any) -> dict[str, Any]:
    """Return the options that the configuration has, as variables."""
    location = str(worker.cfg.config)
    kind, _, name = location.partition(":")
    module = sys.modules.get(name if kind == "python" else _FILE_MODULE)
    return _named(vars(module) if module else {})


def _named(namespace: Mapping[str, Any]) -> dict[str, Any]:
    options = {
        variable.removeprefix(_PREFIX): value
        for variable, value in namespace.items()
        if variable.startswith(_PREFIX)
    }
    if "dir" in options:
        options["monitoring_dir"] = options.pop("dir")
    return options


def _check(options: Mapping[str, Any]) -> None:
    """Raise OptionError for what a configuration has, which ends Gunicorn before it serves."""
    hosts = ("monitoring_dir", "with_ttfb", "template")
    ours: Any = {name: value for name, value in options.items() if name not in hosts}
    settings(options.get("monitoring_dir"), ours, {})


def _wrap(worker: Any, options: dict[str, Any]) -> None:
    packages = {each.__module__.split(".")[0] for each in type(worker).__mro__}
    if hasattr(worker, "asgi"):
        worker.asgi = _asgi(worker.asgi, options)
    elif "aiohttp" in packages:
        worker.wsgi = _aiohttp(worker.wsgi, options)
    elif packages & {"uvicorn", "uvicorn_worker"}:
        worker.wsgi = _asgi(worker.wsgi, options)
    else:
        from aqltelemetry.hosts.wsgi.middleware import TelemetryMiddleware  # noqa: PLC0415 - of one kind of worker

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
